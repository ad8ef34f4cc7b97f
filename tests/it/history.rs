//! What was promised, checked from recorded histories: more than a limit is never admitted, and nothing is denied that had
//! room. The checker is itself tested against planted bugs.

mod cases;
pub mod checker;
pub mod dice;
mod limiter;
mod planted;
pub mod record;
pub mod recorder;
mod run;
mod world;

/// How long a history is to be: `QUOTAD_TEST_HISTORY_OPERATIONS`, or as long as takes a few seconds.
fn operations() -> usize {
    std::env::var("QUOTAD_TEST_HISTORY_OPERATIONS").map_or(20_000, |text| text.parse().expect("a whole number"))
}
