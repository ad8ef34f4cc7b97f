//! What a call is charged: the endpoint's multiplier times the things it carries.

use serde::{Deserialize, Serialize};

/// The most that any counter holds: the largest integer that a double, and so Lua, can tell from its neighbours.
pub const COUNT_MAX: u64 = (1 << 53) - 1;

/// The largest number that a limit can be set to.
pub const LIMIT_MAX: u64 = 1_000_000_000_000;

/// Units charged to every limit of a subject, at most 10^12: a multiplier times items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cost(u64);

/// How many things one call carries: 1 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Items(u64);

/// What one item costs at an endpoint: 0 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiplier(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number from 1 to 1000000")]
pub struct InvalidItems;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number from 0 to 1000000")]
pub struct InvalidMultiplier;

impl Cost {
    pub const ZERO: Cost = Cost(0);

    /// What is above [`LIMIT_MAX`] is taken as that.
    pub const fn of_units(units: u64) -> Self {
        Self(if units < LIMIT_MAX { units } else { LIMIT_MAX })
    }

    pub const fn units(self) -> u64 {
        self.0
    }
}

impl Items {
    pub const ONE: Items = Items(1);
    pub const MAX: u64 = 1_000_000;

    pub const fn new(count: u64) -> Result<Self, InvalidItems> {
        if count >= 1 && count <= Self::MAX { Ok(Self(count)) } else { Err(InvalidItems) }
    }

    pub const fn count(self) -> u64 {
        self.0
    }
}

impl Multiplier {
    pub const ONE: Multiplier = Multiplier(1);
    pub const MAX: u64 = 1_000_000;

    pub const fn new(units: u64) -> Result<Self, InvalidMultiplier> {
        if units <= Self::MAX { Ok(Self(units)) } else { Err(InvalidMultiplier) }
    }

    pub const fn units(self) -> u64 {
        self.0
    }

    /// Both factors are at most 10^6, so the product is at most 10^12.
    pub const fn times(self, items: Items) -> Cost {
        Cost(self.0.saturating_mul(items.0))
    }
}
