//! The floors of `docs/architecture.md`: imports between rooms go down only, and some names stay in one room.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the top floor to the ground. Rooms of one floor do not import each other.
const FLOORS: [&[&str]; 9] = [
    &["main", "lib", "cli", "app"],
    &["http"],
    &["identity"],
    &["limiter"],
    &["counters", "persistence"],
    &["db"],
    &["observability"],
    &["config", "clock"],
    &["domain"],
];

const LINES_BOUND: usize = 400;

/// A name, and the one place that may write it.
const KEPT: [(&str, &str); 4] = [
    ("diesel", "src/db"),
    ("redis::aio", "src/counters/redis"),
    ("std::env::var", "src/config"),
    ("SystemTime::now", "src/clock"),
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// What is wrong with a file of this text.
fn faults(path: &str, text: &str) -> Vec<String> {
    let room = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
    let mut faults = Vec::new();
    let Some(own) = floor(room) else { return vec![format!("{path}: {room} stands on no floor")] };
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        for other in line.split("crate::").skip(1) {
            let other = other.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
            match floor(other) {
                Some(below) if below > own || other == room || own == 0 => {}
                Some(_) => faults.push(format!("{path}:{}: {room} imports {other}, which is not below it", number + 1)),
                None => {}
            }
        }
        for (name, place) in KEPT {
            if line.contains(name) && !path.starts_with(place) {
                faults.push(format!("{path}:{}: only {place} may name {name}", number + 1));
            }
        }
    }
    if text.lines().count() > LINES_BOUND {
        faults.push(format!("{path}: more than {LINES_BOUND} lines"));
    }
    faults
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
fn the_house_stands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 50);
    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let path = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            faults(&path, &fs::read_to_string(file).expect("a text"))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_planted_is_found() {
    for (path, text) in [
        ("src/domain/tier.rs", "use crate::config::Settings;"),
        ("src/persistence/actor.rs", "use crate::counters::table::CounterTable;"),
        ("src/limiter/shard.rs", "fn f() { crate::http::routes(); }"),
        ("src/http/check.rs", "use diesel::prelude::*;"),
        ("src/cellar.rs", ""),
    ] {
        assert_eq!(faults(path, text).len(), 1, "{path}");
    }
    assert!(faults("src/limiter/shard.rs", "use crate::domain::decide;").is_empty());
    assert_eq!(faults("src/http.rs", &"\n".repeat(401)).len(), 1);
}
