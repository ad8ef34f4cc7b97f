//! quotad: a rate-limiting and quota service. See `docs/architecture.md` for the rooms and floors.
//!
//! As a library it limits another Actix app: see [`middleware`]. All else is the service's own, and changes as that does.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "a test may panic"))]

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod counters;
pub mod db;
pub mod domain;
pub mod events;
pub mod http;
pub mod identity;
pub mod limiter;
pub mod middleware;
pub mod observability;
pub mod persistence;
pub mod policy;
