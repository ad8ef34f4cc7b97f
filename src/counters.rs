//! Keeping counts: in a table of this process, or in Redis. Both follow `domain::decide`.

pub mod redis;
pub mod table;
