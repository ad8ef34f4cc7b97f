//! The link over the deprecated `actix-redis`: one plain node, no password, no TLS, database 0. Off by default.

use std::cell::RefCell;

use actix::Addr;
use actix_redis::{Command, RedisActor, RespError, RespValue};

use super::link::{Answer, Link, LinkError};
use crate::config::HostPort;

/// An actor that keeps one connection and makes it anew when it breaks.
#[derive(Debug)]
pub struct ActixLink {
    address: String,
    actor: RefCell<Addr<RedisActor>>,
}

impl ActixLink {
    /// Must be called within a running actix system.
    pub fn new(at: &HostPort) -> Self {
        let address = at.to_string();
        let actor = RefCell::new(RedisActor::start(address.clone()));
        Self { address, actor }
    }
}

impl Link for ActixLink {
    fn command<'a>(&'a self, parts: &'a [Vec<u8>]) -> Answer<'a> {
        let command = Command(RespValue::Array(parts.iter().cloned().map(RespValue::BulkString).collect()));
        let sent = self.actor.borrow().send(command);
        Box::pin(async move {
            match sent.await {
                Err(error) => Err(LinkError::Connect(error.to_string())),
                Ok(Err(actix_redis::Error::NotConnected)) => Err(LinkError::Connect("not connected".to_owned())),
                Ok(Err(actix_redis::Error::Redis(RespError::Remote(text)))) => Err(LinkError::from_reply(text)),
                Ok(Err(error)) => Err(LinkError::Broken(error.to_string())),
                Ok(Ok(value)) => text_of(value),
            }
        })
    }

    /// An actor ends when nobody holds its address any more.
    fn replace(&self) {
        *self.actor.borrow_mut() = RedisActor::start(self.address.clone());
    }

    fn node(&self) -> String {
        self.address.clone()
    }

    fn server(&self) -> u64 {
        0
    }
}

fn text_of(value: RespValue) -> Result<Option<Vec<u8>>, LinkError> {
    match value {
        RespValue::Nil => Ok(None),
        RespValue::BulkString(bytes) => Ok(Some(bytes)),
        RespValue::SimpleString(text) => Ok(Some(text.into_bytes())),
        RespValue::Integer(number) => Ok(Some(number.to_string().into_bytes())),
        RespValue::Error(text) => Err(LinkError::from_reply(text)),
        RespValue::Array(_) => Err(LinkError::Failed("an answer of an unexpected kind".to_owned())),
    }
}
