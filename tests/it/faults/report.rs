//! What came of a row: its figures, and what did not hold.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;

use super::is_full;
use crate::support::{hour, in_one_hour};

#[derive(Default)]
pub struct Report {
    figures: Vec<String>,
    broken: Vec<String>,
}

/// What a figure may be at most, in each form of the run.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub short: f64,
    pub full: f64,
}

/// Runs a row, once more where the hour turned under it, and writes it into the table if there is one. It fails where
/// something did not hold.
pub async fn row(promise: &str, provoked: &str, run: impl AsyncFn(&mut Report)) {
    in_one_hour(async || {
        let (mut report, begun) = (Report::default(), hour());
        let ended = AssertUnwindSafe(run(&mut report)).catch_unwind().await;
        if let Err(failure) = &ended {
            report.broken.push(message(failure.as_ref()));
        }
        // It is run once more then.
        if report.broken.is_empty() || hour() == begun {
            report.write(promise, provoked);
        }
        if let Err(failure) = ended {
            resume_unwind(failure);
        }
        assert!(report.broken.is_empty(), "{promise}: {}", report.broken.join("; "));
    })
    .await;
}

impl Report {
    /// A figure that nothing is promised of.
    pub fn tell(&mut self, what: &str, value: impl Display) {
        self.figures.push(format!("{what} {value}"));
    }

    pub fn exactly(&mut self, what: &str, value: u64, expected: u64) {
        self.tell(what, value);
        if value != expected {
            self.broken.push(format!("{what} is {value}, not {expected}"));
        }
    }

    pub fn at_most(&mut self, what: &str, value: f64, unit: &str, bound: Bound) {
        let most = if is_full() { bound.full } else { bound.short };
        let digits = if value < 10.0 && value.fract() != 0.0 { 1 } else { 0 };
        self.tell(what, format!("{value:.digits$} {unit}").trim_end());
        if value > most {
            self.broken.push(format!("{what}: {value:.2} {unit} is more than {most}"));
        }
    }

    fn write(&self, promise: &str, provoked: &str) {
        let held =
            if self.broken.is_empty() { "yes".to_owned() } else { format!("**no**: {}", self.broken.join("; ")) };
        let cell = |text: &str| text.replace('|', "/").replace('\n', " ");
        let line = [promise, provoked, &self.figures.join(", "), &held].map(cell).join(" | ");
        println!("| {line} |");
        let Ok(table) = std::env::var("QUOTAD_TEST_FAULTS_TABLE") else { return };
        let mut file = OpenOptions::new().append(true).create(true).open(table).expect("the table");
        file.write_all(format!("| {line} |\n").as_bytes()).expect("a row is written");
    }
}

fn message(failure: &(dyn std::any::Any + Send)) -> String {
    let text = failure.downcast_ref::<String>().map(String::as_str).or(failure.downcast_ref::<&str>().copied());
    text.unwrap_or("it failed").to_owned()
}
