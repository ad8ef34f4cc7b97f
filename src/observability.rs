//! What the service tells of itself: logs and metrics.

pub mod chain;
pub mod feed;
pub mod logging;
pub mod metrics;
