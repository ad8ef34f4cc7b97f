//! SECURITY.md names the tests that hold what it says: each is there.

use std::path::{Path, PathBuf};

/// All files of tests below a folder, as paths from it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Whether there is a module of that path, and in it or below it a test whose name begins so.
fn is_there(name: &str) -> bool {
    let (module, test) = name.split_once("::").unwrap_or((name, ""));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    [root.join("tests/it"), root.join("src")]
        .iter()
        .flat_map(|folder| files(folder).into_iter().map(move |file| (folder, file)))
        .any(|(folder, file)| {
            let path = file.strip_prefix(folder).expect("below it").with_extension("");
            let text = || std::fs::read_to_string(&file).expect("text");
            path.starts_with(module)
                && (path.starts_with(format!("{module}/{test}")) || text().contains(&format!("fn {test}")))
        })
}

#[test]
fn the_tests_that_are_named_are_there() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/SECURITY.md")).expect("the page");
    let of_names =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == ':');
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let names: Vec<&str> =
        rows.flat_map(|row| row.split('*').skip(1).step_by(2)).filter(|word| of_names(word)).collect();
    assert!(names.len() > 10, "{names:?}");
    let missing: Vec<&&str> = names.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
