//! What callers were told, and how long it took.

use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
pub struct Answered {
    pub user: u32,
    pub at: Instant,
    pub took: Duration,
    pub status: u16,
    pub source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Redis,
    Cache,
    Fallback,
    Memory,
    None,
}

/// In no order.
#[derive(Debug, Clone, Default)]
pub struct Answers(pub Vec<Answered>);

impl Source {
    pub fn named(name: &str) -> Self {
        match name {
            "redis" => Source::Redis,
            "cache" => Source::Cache,
            "fallback" => Source::Fallback,
            "memory" => Source::Memory,
            _ => Source::None,
        }
    }
}

impl Answers {
    pub fn only(&self, is: impl Fn(&Answered) -> bool) -> Self {
        Self(self.0.iter().filter(|answered| is(answered)).cloned().collect())
    }

    pub fn of(&self, user: u32) -> Self {
        self.only(|answered| answered.user == user)
    }

    pub fn by(&self, source: Source) -> Self {
        self.only(|answered| answered.source == source)
    }

    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    pub fn allowed(&self) -> u64 {
        self.with_status(200)
    }

    pub fn denied(&self) -> u64 {
        self.with_status(429)
    }

    /// Those that are neither allowed nor denied.
    pub fn failed(&self) -> u64 {
        self.count() - self.allowed() - self.denied()
    }

    pub fn slowest_ms(&self) -> f64 {
        millis(self.0.iter().map(|answered| answered.took).max().unwrap_or_default())
    }

    pub fn median_ms(&self) -> f64 {
        self.quantile_ms(0.5)
    }

    pub fn p99_ms(&self) -> f64 {
        self.quantile_ms(0.99)
    }

    fn quantile_ms(&self, part: f64) -> f64 {
        let mut all: Vec<Duration> = self.0.iter().map(|answered| answered.took).collect();
        all.sort_unstable();
        let at = (all.len() as f64 * part) as usize;
        millis(all.get(at.min(all.len().saturating_sub(1))).copied().unwrap_or_default())
    }

    /// Those that got no answer, though they may have been heard.
    pub fn unknown(&self) -> u64 {
        self.with_status(0)
    }

    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    fn with_status(&self, status: u16) -> u64 {
        self.0.iter().filter(|answered| answered.status == status).count() as u64
    }
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
