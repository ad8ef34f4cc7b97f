//! A clock that a test sets, for a process of its own: a little library (`clock.c`) stands between it and the system's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::certificates::text;

/// Ahead of the system's clock by as much as was set, or behind. How long something takes is measured as ever.
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    pub fn new() -> Self {
        let clock = Self { folder: tempfile::tempdir().expect("a folder") };
        let source = clock.path("clock.c");
        fs::write(&source, include_str!("clock.c")).expect("a file");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.path("clock.so")).arg(source);
        let output = compiler.output().expect("a C compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        clock.set(0);
        clock
    }

    /// Seconds ahead, or behind where there are less than none. It holds at once.
    pub fn set(&self, ahead: i64) {
        // In place: the processes that live by it have the file in their memory.
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.path("ahead"));
        let micros = (ahead * 1_000_000).to_ne_bytes();
        std::io::Write::write_all(&mut file.expect("a file"), &micros).expect("it is written");
    }

    /// The environment of a process that lives by it.
    pub fn vars(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", text(&self.path("clock.so"))), ("TEST_CLOCK_AHEAD", text(&self.path("ahead")))]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
