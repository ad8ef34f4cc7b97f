//! Redis, the database, and load, on bad days: each row provokes one thing and says what was promised, a figure, and whether it held.
//!
//! `make test` runs a short form that judges counts and correctness, and times only as far as a busy machine keeps them.
//! `make faults` runs the whole length and judges times too (docs/faults.md).

#[macro_use]
mod place;

mod answers;
mod load;
mod report;

mod absent;
mod books;
mod clocks;
mod content;
mod crowd;
mod crowded;
mod emptied;
mod failover;
mod flapping;
mod histories;
mod killed;
mod line;
mod refusals;
mod strangers;

use answers::Answers;
use report::{Bound, Report};

use crate::support::quotad::Start;

/// Whether this is the whole length.
fn is_full() -> bool {
    std::env::var("QUOTAD_TEST_FAULTS").is_ok_and(|form| form == "full")
}

/// So much in the short form, so much in the full one.
fn either<T>(short: T, full: T) -> T {
    if is_full() { full } else { short }
}

/// `REDIS_DEADLINE_MS`: where times are not judged, a machine that does other things too should keep it.
fn deadline_ms() -> u32 {
    either(250, 50)
}

fn start_within_deadline(start: Start) -> Start {
    start.set("REDIS_DEADLINE_MS", &deadline_ms().to_string())
}

fn over_the_deadline(report: &mut Report, answers: &Answers) {
    let over = (answers.slowest_ms() - f64::from(deadline_ms())).max(0.0);
    report.at_most("slowest answer over the deadline", over, "ms", Bound { short: 2000.0, full: 10.0 });
}
