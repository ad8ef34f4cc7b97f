//! What the pages tell a reader to type is typed, block by block, against a service as the page starts it.
//!
//! A fenced block of a language in [`LANGUAGES`] is run by itself, in a folder that has the service's `data` and `target/release/quotad`. It
//! must succeed, and so must each `curl` in it, unless a refusal is shown. A block `json` or `text` right behind it is what it
//! answers, about: [`agree`]. Blocks marked `no-run` start what does not end; a service that one starts is the page's own, with
//! the settings that stand before the command.

mod agree;
pub mod page;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use self::page::{Block, Page};
use crate::support::quotad::{Quotad, Start};

/// Where a reader's service listens.
const ADDRESS: &str = "127.0.0.1:8080";

/// How a language's blocks are run: the code is the last argument. What is not installed is passed over, but for the shell.
const LANGUAGES: [(&str, &[&str]); 3] = [
    ("sh", &["bash", "-euo", "pipefail", "-c"]),
    ("python", &["python3", "-c"]),
    ("js", &["node", "--input-type=module", "-e"]),
];

const BLOCK_WITHIN_SECONDS: &str = "20";

/// What `timeout` ends with where the program is not there.
const NOT_FOUND: i32 = 127;

/// README.md and every page below docs/.
fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|kind| kind == "md") {
                found.push(entry);
            }
        }
    }
    let mut found = vec!["README.md".into()];
    walk(Path::new("docs"), &mut found);
    found.sort();
    found
}

/// A service as the page's reader has it, in a folder of its own.
async fn service(page: &Page, folder: &Path) -> Quotad {
    let start = Start::new().unset("ADMIN_KEY").unset("JWT_SECRET").unset("FLUSH_INTERVAL_MS");
    let settings = page.settings();
    settings
        .iter()
        .fold(start, |start, (name, value)| start.env(name, value))
        .folder(&folder.join("data"))
        .start()
        .await
}

/// What a page's blocks find where they are run: a home where `curl` fails at a refusal, the program as it is built.
fn furnish(folder: &Path) {
    std::fs::write(folder.join(".curlrc"), "fail-with-body\n").expect("a file");
    std::fs::create_dir_all(folder.join("target/release")).expect("a folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_quotad"), folder.join("target/release/quotad")).expect("a link");
}

/// `None` where its language is not installed.
fn run(block: &Block, refusal_shown: bool, quotad: &Quotad, folder: &Path) -> Option<Output> {
    let (_, program) = LANGUAGES.iter().find(|(language, _)| *language == block.language).expect("a language");
    let mut command = Command::new("timeout");
    command.arg(BLOCK_WITHIN_SECONDS).args(*program).arg(block.text.replace(ADDRESS, quotad.address()));
    // Nothing of this machine's settings.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir(folder).env("HOME", if refusal_shown { Path::new("/nonexistent") } else { folder });
    let output = command.stdin(Stdio::null()).output().expect("timeout runs");
    (block.language == "sh" || output.status.code() != Some(NOT_FOUND)).then_some(output)
}

async fn follow(path: &Path) {
    let page = Page::read(path);
    let runnable = |block: &&Block| LANGUAGES.iter().any(|(language, _)| *language == block.language) && !block.no_run;
    if page.blocks.iter().find(runnable).is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    furnish(folder.path());
    let quotad = service(&page, folder.path()).await;
    for (number, block) in page.blocks.iter().enumerate().filter(|(_, block)| runnable(block)) {
        let answer = page.blocks.get(number + 1).filter(|next| next.follows);
        let refusal_shown = answer.is_some_and(Block::shows_a_refusal);
        let Some(output) = run(block, refusal_shown, &quotad, folder.path()) else { continue };
        let place = format!("{}:{}", path.display(), block.line);
        let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{place}: {}\n{out}{errors}", output.status);
        if let Some(answer) = answer {
            let checked = agree::agree(&answer.language, &answer.text, &out);
            checked.unwrap_or_else(|why| panic!("{place}: {why}. The page:\n{}\nthe answer:\n{out}", answer.text));
        }
    }
}

#[tokio::test]
async fn what_the_pages_tell_to_type_works() {
    for path in pages() {
        crate::support::in_one_hour(async || follow(&path).await).await;
    }
}

#[test]
fn what_can_be_typed_is_in_a_block_that_is_run() {
    for path in pages() {
        let page = Page::read(&path);
        for (number, line) in page.outside.iter().filter(|(_, line)| line.starts_with("    ")) {
            let command = line.split_whitespace().next().unwrap_or_default();
            let why = "belongs into a fenced block";
            assert!(!["curl", "jq", "quotad"].contains(&command), "{}:{number}: `{line}` {why}", path.display());
        }
        for block in page.blocks.iter().filter(|block| block.no_run) {
            let starts = ["cargo ", "make", "docker ", "quotad", "scripts/", "curl -sN"];
            let text = &block.text;
            assert!(starts.iter().any(|start| text.contains(start)), "{}: nothing long: {text}", path.display());
        }
    }
}

#[test]
fn links_within_the_pages_lead_somewhere() {
    for path in pages() {
        for link in Page::read(&path).links() {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            let leads = anchor.is_empty() || Page::read(&target).anchors().contains(anchor);
            assert!(leads, "{}: no heading for {link}", path.display());
        }
    }
}
