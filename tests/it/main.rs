//! Tests against the real binary, with real servers beside it.

#[macro_use]
mod support;

mod access;
mod admin;
mod checks;
mod cli;
mod errors;
mod instances;
mod lua_model;
mod openapi;
mod packaging;
mod persistence;
mod redis_away;
mod redis_line;
mod restart;
mod scenarios;
mod settings;
