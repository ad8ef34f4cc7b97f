//! `docs/logs.md` has every warning and error of the source, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The level and the message of every warning and error in a text.
fn messages(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (level, begin) in [("warn", "tracing::warn!("), ("error", "tracing::error!(")] {
        found.extend(source.split(begin).skip(1).map(|rest| (level.to_owned(), last_text(rest))));
    }
    found
}

/// The last text within the parenthesis that is open: fields go before the message.
fn last_text(rest: &str) -> String {
    let (mut depth, mut texts) = (1, Vec::new());
    // What stands at odd places is between quotes.
    for (number, piece) in rest.split('"').enumerate() {
        if number % 2 == 1 {
            texts.push(piece);
            continue;
        }
        for sign in piece.chars() {
            depth += i32::from(sign == '(') - i32::from(sign == ')');
            if depth == 0 {
                return texts.last().expect("a message").to_string();
            }
        }
    }
    panic!("no end: {rest}");
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|kind| kind == "rs") {
            found.push(entry);
        }
    }
}

#[test]
fn every_warning_and_error_is_on_the_page_of_logs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let texts = files.iter().map(|file| fs::read_to_string(file).expect("a text"));
    let written: BTreeSet<(String, String)> = texts.flat_map(|text| messages(&text)).collect();
    for (_, message) in &written {
        assert!(!message.contains(['{', '\\']), "what changes is a field, and a message one line: {message}");
    }
    let page = fs::read_to_string(root.join("docs/logs.md")).expect("the page");
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let level = ["warn", "error"].into_iter().find(|level| *level == cells[0])?;
        Some((level.to_owned(), cells[1].trim_matches('`').to_owned()))
    };
    let rows: Vec<(String, String)> = page.lines().filter_map(row).collect();
    let told: BTreeSet<(String, String)> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), told.len(), "a message has one row");
    let missing: Vec<_> = written.difference(&told).collect();
    let gone: Vec<_> = told.difference(&written).collect();
    assert!(written.len() > 20 && missing.is_empty() && gone.is_empty(), "missing: {missing:#?}, gone: {gone:#?}");
}
