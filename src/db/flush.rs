//! A batch of usage on its way to the database.

/// One row of history to add to what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    pub subject: String,
    pub hour: i64,
    pub tier: String,
    pub requests: i64,
    pub cost: i64,
    pub denied: i64,
}

/// One subject's embedded counters, in the place of what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterRow {
    pub subject: String,
    pub state: Vec<u8>,
    pub whole_at: i64,
}

/// What one transaction writes. No row may stand twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushBatch {
    /// Who writes; each process has its own name.
    pub instance: String,
    /// One more than that of the batch before.
    pub sequence: i64,
    pub usage: Vec<UsageRow>,
    pub counters: Vec<CounterRow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushOutcome {
    Applied,
    /// The same number was written before: its answer had been lost.
    AlreadyApplied,
}
