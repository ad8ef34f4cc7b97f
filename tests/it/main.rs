//! Tests against the real binary, with real servers beside it.

mod errors;
mod scenarios;
mod support;
