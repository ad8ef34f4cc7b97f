//! The scripts, and how each is called: by its hash, or by its text where the server does not know it.

use std::sync::LazyLock;

use super::RedisError;
use super::encode::Call;
use super::link::{Link, LinkError};

macro_rules! script {
    ($($file:literal),+) => {
        LazyLock::new(|| Script::new(concat!($(include_str!(concat!("../lua/", $file, ".lua")), "\n"),+)))
    };
}

pub static DECIDE: LazyLock<Script> =
    script!("server", "standing", "slots", "algorithms", "shapes", "leases", "decide");
pub static MISSED: LazyLock<Script> = script!("server", "missed");
pub static ADD: LazyLock<Script> = script!("server", "slots", "algorithms", "add");
pub static GIVE_BACK: LazyLock<Script> = script!("server", "slots", "give_back");
pub static GENERATION: LazyLock<Script> = script!("server", "generation");
pub static RESET: LazyLock<Script> = script!("server", "slots", "reset");
pub static LEASE: LazyLock<Script> = script!("server", "slots", "leases", "lease");
pub static HELD: LazyLock<Script> = script!("server", "slots", "held");

/// A script and its SHA-1, by which Redis knows it.
#[derive(Debug)]
pub struct Script {
    source: &'static str,
    hash: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, hash: redis::Script::new(source).get_hash().to_owned() }
    }

    /// Runs the script. A server that does not know it has not run it, so it is sent whole: loading
    /// it first and calling it by its hash then could meet a `SCRIPT FLUSH` in between.
    pub async fn call(&self, link: &dyn Link, call: Call) -> Result<Vec<u8>, RedisError> {
        let Call { keys, arguments } = call;
        let mut command = Vec::with_capacity(keys.len().saturating_add(arguments.len()).saturating_add(3));
        command.extend([b"EVALSHA".to_vec(), self.hash.clone().into_bytes(), keys.len().to_string().into_bytes()]);
        command.extend(keys);
        command.extend(arguments);
        let answer = match link.command(&command).await {
            Err(LinkError::UnknownScript) => {
                for (part, text) in command.iter_mut().zip(["EVAL", self.source]) {
                    *part = text.as_bytes().to_vec();
                }
                link.command(&command).await?
            }
            answer => answer?,
        };
        answer.ok_or(RedisError::Malformed("no value"))
    }
}
