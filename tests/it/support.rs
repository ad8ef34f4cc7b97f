//! What the tests stand on. Not every test uses every part.
#![allow(dead_code)]

pub mod postgres_server;
pub mod quotad;
pub mod redis_server;
