//! The rules of `docs/architecture.md`: imports go down the floors and never in a circle, and some names stay in one room.
//!
//! Source is parsed, so that grouped imports and paths in the middle of code count too. A circle is looked for among
//! files; what a file has of a file that it stands in (`super::Error`), or that one of it, is not counted: a room and its
//! door are one.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Rooms from the top floor to the ground. Rooms of one floor do not import each other.
const FLOORS: [&[&str]; 10] = [
    &["main", "lib", "cli", "app"],
    &["middleware"],
    &["http"],
    &["identity"],
    &["limiter", "policy"],
    &["counters", "events", "persistence"],
    &["db"],
    &["observability"],
    &["config", "clock"],
    &["domain"],
];

const LINES_BOUND: usize = 400;

/// How a path begins, and the one room that may write it.
const KEPT: [(&str, &str); 18] = [
    ("diesel", "db"),
    ("diesel_async", "db"),
    ("diesel_migrations", "db"),
    ("tokio_postgres", "db"),
    ("redis", "counters::redis"),
    ("actix_redis", "counters::redis"),
    ("prometheus", "observability"),
    ("opentelemetry", "observability::traces"),
    ("opentelemetry_sdk", "observability::traces"),
    ("opentelemetry_otlp", "observability::traces"),
    ("tracing_opentelemetry", "observability::traces"),
    ("jsonwebtoken", "identity"),
    ("std::env", "config"),
    ("std::time::SystemTime", "clock"),
    ("std::time::Instant", "clock"),
    ("Instant::now", "clock"),
    ("SystemTime::now", "clock"),
    ("jiff::Timestamp::now", "clock"),
];

/// `http` knows no actor: it holds handles.
const UNKNOWN_TO_HTTP: [&str; 2] = ["actix", "diesel"];

/// Every path that is written in a file: imports, one by one, and paths in code.
#[derive(Default)]
struct Paths(BTreeSet<String>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, "");
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.0.insert(names.join("::"));
        visit::visit_path(self, path);
    }

    /// A test may name what it likes.
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            visit::visit_item_mod(self, item);
        }
    }
}

impl Paths {
    fn of(text: &str) -> BTreeSet<String> {
        let mut paths = Self::default();
        paths.visit_file(&syn::parse_file(text).expect("source that parses"));
        paths.0
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &str) {
        let joined = |name: &syn::Ident| format!("{before}{name}");
        match tree {
            syn::UseTree::Path(path) => self.tree(&path.tree, &format!("{}::", joined(&path.ident))),
            syn::UseTree::Name(name) => drop(self.0.insert(joined(&name.ident).trim_end_matches("::self").to_owned())),
            syn::UseTree::Rename(name) => drop(self.0.insert(joined(&name.ident))),
            syn::UseTree::Glob(_) => drop(self.0.insert(before.trim_end_matches("::").to_owned())),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
        }
    }
}

/// `src/limiter/shard.rs` is `limiter::shard`.
fn module_of(file: &str) -> String {
    file.trim_start_matches("src/").trim_end_matches(".rs").replace('/', "::")
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

fn stands_in(module: &str, outer: &str) -> bool {
    module == outer || module.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"))
}

/// A path as it is from the root of the crate; `None` where it leads out of it.
fn absolute(module: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split("::").collect();
    let mut from: Vec<&str> = module.split("::").collect();
    match parts[0] {
        "crate" => return Some(parts.split_off(1).join("::")),
        "self" => drop(parts.remove(0)),
        "super" => {
            while parts.first() == Some(&"super") {
                parts.remove(0);
                from.pop();
            }
        }
        _ => return None,
    }
    from.extend(parts);
    Some(from.join("::"))
}

/// What is wrong with files of these names and texts.
fn faults(files: &BTreeMap<String, String>) -> Vec<String> {
    let modules: BTreeSet<String> = files.keys().map(|file| module_of(file)).collect();
    let owner = |path: &str| modules.iter().filter(|known| stands_in(path, known)).max_by_key(|known| known.len());
    let mut faults = Vec::new();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files {
        let module = module_of(file);
        let Some(own) = floor(room(&module)) else {
            faults.push(format!("{file}: {} stands on no floor", room(&module)));
            continue;
        };
        if text.lines().count() > LINES_BOUND {
            faults.push(format!("{file}: more than {LINES_BOUND} lines"));
        }
        let paths = Paths::of(text);
        let imported = paths.iter().filter(|path| absolute(&module, path).is_some());
        let own_names: BTreeSet<&str> = imported
            .filter_map(|path| path.rsplit("::").next())
            .chain(modules.iter().filter_map(|inner| inner.strip_prefix(module.as_str())?.strip_prefix("::")))
            .collect();
        for path in &paths {
            match absolute(&module, path) {
                Some(path) => {
                    let other = room(&path);
                    if other != room(&module) && own != 0 && floor(other).is_some_and(|below| below <= own) {
                        faults.push(format!("{file}: {} imports {path}, which is not below it", room(&module)));
                    }
                    if let Some(other) = owner(&path)
                        && !stands_in(&module, other)
                        && !stands_in(other, &module)
                    {
                        imports.entry(module.clone()).or_default().insert(other.clone());
                    }
                }
                // A name of the file's own: a module of ours, or a variable.
                None if own_names.contains(room(path)) || !path.contains("::") => {}
                None => faults.extend(kept_elsewhere(&module, path).map(|fault| format!("{file}: {fault}"))),
            }
        }
    }
    faults.extend(circle(&imports).map(|circle| format!("a circle: {}", circle.join(" -> "))));
    faults
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn kept_elsewhere(module: &str, path: &str) -> Option<String> {
    if room(module) == "http" && UNKNOWN_TO_HTTP.iter().any(|name| stands_in(path, name)) {
        return Some(format!("http knows nothing of {path}"));
    }
    let (name, place) = KEPT.iter().find(|(name, _)| stands_in(path, name))?;
    // `app` tells the errors of parts on, and `std::env!` values are no environment of the process.
    let allowed = stands_in(module, place) || (room(module) == "app" && path.ends_with("Error"));
    (!allowed).then(|| format!("only {place} may name {name}"))
}

/// Files that import each other in a circle, where there are any.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk<'a>(
        at: &'a str,
        imports: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(begun) = way.iter().position(|known| *known == at) {
            return Some(way[begun..].iter().chain([&at]).map(|module| (*module).to_owned()).collect());
        }
        if !done.insert(at) {
            return None;
        }
        way.push(at);
        let found = imports.get(at).into_iter().flatten().find_map(|next| walk(next, imports, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| walk(module, imports, &mut Vec::new(), &mut done))
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

fn read(folder: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join(folder), &mut files);
    let name = |file: &Path| file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), fs::read_to_string(file).expect("a text"))).collect()
}

#[test]
fn the_house_stands() {
    let files = read("src");
    assert!(files.len() > 50);
    let faults = faults(&files);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn tests_are_no_longer_than_what_they_test() {
    let long: Vec<String> = read("tests")
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LINES_BOUND)
        .map(|(file, _)| file)
        .collect();
    assert!(long.is_empty(), "more than {LINES_BOUND} lines: {long:?}");
}

#[test]
fn what_is_planted_is_found() {
    let planted = |files: &[(&str, &str)]| {
        faults(&files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect())
    };
    for (file, text) in [
        ("src/domain/tier.rs", "use crate::config::Settings;"),
        ("src/domain/tier.rs", "use crate::{config::{Settings, Secret as S}};"),
        ("src/persistence/actor.rs", "use crate::counters::table::CounterTable;"),
        ("src/limiter/shard.rs", "fn f() { crate::http::routes(); }"),
        ("src/limiter/shard.rs", "fn f() { super::super::http::routes(); }"),
        ("src/http/check.rs", "use diesel::prelude::*;"),
        ("src/http/check.rs", "fn f(address: actix::Addr<X>) {}"),
        ("src/limiter/shard.rs", "fn f() -> redis::Value { todo() }"),
        ("src/limiter/shard.rs", "fn f() { std::env::var(\"HOME\").ok(); }"),
        ("src/limiter/shard.rs", "use std::time::{Duration, Instant};"),
        ("src/cellar.rs", ""),
    ] {
        assert!(!planted(&[(file, text)]).is_empty(), "{file}: {text}");
    }
    assert_eq!(planted(&[("src/http.rs", &"\n".repeat(401))]).len(), 1);
    let circle = planted(&[
        ("src/limiter/a.rs", "use super::b::B;"),
        ("src/limiter/b.rs", "use crate::limiter::c;"),
        ("src/limiter/c.rs", "fn f() { super::a::f() }"),
    ]);
    assert_eq!(circle, ["a circle: limiter::a -> limiter::b -> limiter::c -> limiter::a"]);
}

#[test]
fn what_is_allowed_is_not_found() {
    let files = [
        ("src/limiter.rs", "mod shard; pub struct Error; use shard::Shard;"),
        ("src/limiter/shard.rs", "use super::Error; use crate::domain::decide; mod tests { use std::time::Instant; }"),
        ("src/domain/decide.rs", "use super::cost::Cost;"),
        ("src/domain/cost.rs", ""),
        ("src/clock.rs", "use std::time::Instant;"),
    ];
    let files = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    assert_eq!(faults(&files), Vec::<String>::new());
}
