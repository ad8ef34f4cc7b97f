//! The vocabulary and the rules of limiting, pure: no async, no I/O, no actor and no clock.
//!
//! Everything here is handed `now`. The Redis script is tested against this module, and the embedded counters run it.

pub mod account;
pub mod block;
pub mod concurrency;
pub mod cost;
pub mod credential;
pub mod decide;
pub mod decision;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod fixed_window;
pub mod invalid;
pub mod lease;
pub mod limit;
pub mod listing;
pub mod plan;
pub mod policy;
pub mod report;
pub mod revision;
pub mod schedule;
pub mod sliding_counter;
pub mod sliding_log;
pub mod state;
pub mod subject;
pub mod tier;
pub mod time;
pub mod token_bucket;
pub mod usage;
