//! A page of Markdown, as far as its fenced blocks go.

use std::collections::BTreeSet;
use std::path::Path;

#[derive(Debug)]
pub struct Block {
    /// The first word behind the fence.
    pub language: String,
    pub no_run: bool,
    pub text: String,
    /// Of its fence.
    pub line: usize,
    /// Nothing but empty lines stands between it and the block before.
    pub follows: bool,
}

impl Block {
    /// An answer with a status of 400 or more.
    pub fn shows_a_refusal(&self) -> bool {
        ["HTTP/1.1 4", "HTTP/1.1 5", "\"status\": 4", "\"status\":4"].iter().any(|status| self.text.contains(status))
    }
}

#[derive(Debug, Default)]
pub struct Page {
    pub blocks: Vec<Block>,
    /// Lines that stand in no block, by their numbers.
    pub outside: Vec<(usize, String)>,
}

impl Page {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let page = Self::parse(&text);
        page.unwrap_or_else(|line| panic!("{}:{line}: a block without an end", path.display()))
    }

    /// `Err` is the line of a block that does not end.
    fn parse(text: &str) -> Result<Self, usize> {
        let mut page = Self::default();
        let mut open: Option<Block> = None;
        let mut follows = false;
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            match (&mut open, line.strip_prefix("```")) {
                (Some(block), None) => block.text += &format!("{line}\n"),
                (Some(_), Some(_)) => {
                    page.blocks.extend(open.take());
                    follows = true;
                }
                (None, Some(info)) => {
                    let mut words = info.split_whitespace();
                    let language = words.next().unwrap_or_default().to_owned();
                    let no_run = words.any(|word| word == "no-run");
                    open = Some(Block { language, no_run, text: String::new(), line: number, follows });
                }
                (None, None) => {
                    follows &= line.trim().is_empty();
                    page.outside.push((number, line.to_owned()));
                }
            }
        }
        open.map_or(Ok(page), |block| Err(block.line))
    }

    /// What links to its headings end with, as GitHub makes them.
    pub fn anchors(&self) -> BTreeSet<String> {
        let headings = self
            .outside
            .iter()
            .filter_map(|(_, line)| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
        let is_kept = |kind: char| kind.is_alphanumeric() || " -_".contains(kind);
        headings.map(|text| text.to_lowercase().replace(|kind| !is_kept(kind), "").trim().replace(' ', "-")).collect()
    }

    /// What stands before the command of the first block that starts the service.
    pub fn settings(&self) -> Vec<(String, String)> {
        let start = self.blocks.iter().filter(|block| block.no_run).find(|block| block.text.contains("cargo run"));
        let before = start.and_then(|block| block.text.split("cargo run").next()).unwrap_or_default();
        let words = before.split_whitespace().filter_map(|word| word.split_once('='));
        let settings = words.filter(|(name, _)| name.starts_with("QUOTAD_"));
        settings.map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned())).collect()
    }

    /// Where its links lead that lead to no other place.
    pub fn links(&self) -> Vec<&str> {
        let lines = self.outside.iter().flat_map(|(_, line)| line.split("](").skip(1));
        lines.filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://")).collect()
    }
}

#[test]
fn blocks_are_told_apart() {
    let text = "## A `b`, c!\n```sh\necho 1\n```\n\n```text\n1\n```\nb\n```sh no-run\nQUOTAD_A=1 QUOTAD_B='2' C=3 cargo run\n```\n[c](d.md#e) [f](http://g)\n";
    let page = Page::parse(text).expect("a page");
    let told: Vec<_> = page.blocks.iter().map(|block| (&*block.language, block.no_run, block.follows)).collect();
    assert_eq!(told, [("sh", false, false), ("text", false, true), ("sh", true, false)]);
    assert_eq!(page.settings(), [("QUOTAD_A".to_owned(), "1".to_owned()), ("QUOTAD_B".to_owned(), "2".to_owned())]);
    assert_eq!(page.anchors(), ["a-b-c".to_owned()].into());
    assert_eq!((page.links(), Page::parse("```sh\n").unwrap_err()), (vec!["d.md#e"], 1));
}
