//! The scripts, and how each is called: by its hash, or by its text where the server does not know it.

use std::sync::LazyLock;

use super::RedisError;
use super::link::{Link, LinkError};

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(include_str!("../lua/slots.lua"), include_str!(concat!("../lua/", $file))))
        })
    };
}

pub static DECIDE: LazyLock<Script> = script!("decide.lua");
pub static MISSED: LazyLock<Script> = script!("missed.lua");
pub static ADD: LazyLock<Script> = script!("add.lua");
pub static RESET: LazyLock<Script> = script!("reset.lua");

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

    /// Runs the script with one packed argument. A server that does not know it has not run it, so it is sent whole: loading
    /// it first and calling it by its hash then could meet a `SCRIPT FLUSH` in between.
    pub async fn call(&self, link: &dyn Link, keys: Vec<Vec<u8>>, argument: Vec<u8>) -> Result<Vec<u8>, RedisError> {
        let mut command = Vec::with_capacity(keys.len().saturating_add(4));
        command.extend([b"EVALSHA".to_vec(), self.hash.clone().into_bytes(), keys.len().to_string().into_bytes()]);
        command.extend(keys);
        command.push(argument);
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
