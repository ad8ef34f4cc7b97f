//! What the service tells of itself: logs, metrics and traces.

pub mod chain;
pub mod feed;
pub mod logging;
pub mod metrics;
pub mod outlet;
pub mod traces;
