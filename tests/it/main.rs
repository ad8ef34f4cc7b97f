//! Tests against the real binary, with real servers beside it.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic, and measure time"
)]

#[macro_use]
mod support;
mod token_keys;

mod access;
mod admin;
mod algorithms;
mod blocks;
mod checks;
mod cli;
mod clients;
mod credentials;
mod dashboard;
mod docs;
mod errors;
mod events;
mod faults;
mod forward_auth;
mod history;
mod hostile;
mod identity;
mod identity_corpus;
mod instances;
mod leases;
mod lists;
mod lua_model;
mod middleware;
mod monitoring;
mod openapi;
mod packaging;
mod persistence;
mod planted_keys;
mod policy;
mod preconditions;
mod proxies;
mod redis_away;
mod redis_links;
mod references;
mod restart;
mod scenarios;
mod secrets;
mod security;
mod servers;
mod settings;
mod tracing;
mod webhooks;
