//! Tests against the real binary, with real servers beside it.

#[macro_use]
mod support;

mod access;
mod admin;
mod checks;
mod cli;
mod errors;
mod instances;
mod persistence;
mod redis_away;
mod restart;
mod scenarios;
mod settings;
