//! Building a [`Quota`]: tiers and costs, where counts are kept, and what is charged to whom.

use std::error::Error;
use std::sync::Arc;

use actix_web::dev::ResponseHead;
use actix_web::{HttpRequest, HttpResponse};
use arc_swap::ArcSwap;

use super::rules::Rules;
use super::{Charged, Quota};
use crate::clock::Clock;
use crate::config::{Settings, SettingsError};
use crate::domain::decision::Decision;
use crate::domain::endpoint::{EndpointCost, EndpointPath, InvalidEndpoint};
use crate::domain::policy::{InvalidPolicy, Layer, Policy};
use crate::domain::tier::{InvalidTier, Tier, TierName};
use crate::limiter::{NoRecords, Parts, Shards, StartError};
use crate::observability::metrics::Metrics;

/// The settings that act here; those of Redis do too.
const SETTINGS: [&str; 7] = [
    "SHARDS",
    "SHARD_MAILBOX",
    "CACHE_CAPACITY",
    "ENABLE_RATE_LIMITING",
    "RATE_LIMIT_FALLBACK",
    "FALLBACK_SHARE",
    "RESERVED_BLOCKS",
];

/// Why a [`Quota`] can't be started.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{0} is not a setting of the middleware")]
    NoSetting(String),
    #[error("the tier {tier} can't be as it is")]
    Tier {
        tier: TierName,
        #[source]
        source: InvalidTier,
    },
    #[error("the path {path:?} of a cost {source}")]
    Path { path: String, source: InvalidEndpoint },
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot make the metrics")]
    Metrics(#[source] Box<dyn Error + Send + Sync>),
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

/// Builds a [`Quota`].
#[derive(Debug)]
pub struct QuotaBuilder {
    tiers: Vec<Tier>,
    costs: Vec<(String, u64)>,
    settings: Vec<(String, String)>,
    clock: Clock,
    rules: Rules,
}

impl Default for QuotaBuilder {
    fn default() -> Self {
        let (tiers, costs, settings) = (Vec::new(), Vec::new(), Vec::new());
        Self { tiers, costs, settings, clock: Clock::system(), rules: Rules::default() }
    }
}

impl QuotaBuilder {
    /// Adds a tier, in the place of one of its name. `free` holds for users and `anonymous` for addresses that are placed in no other; where one of these two is
    /// missing, the other holds for both.
    #[must_use]
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tiers.push(tier);
        self
    }

    /// What a request costs at a path and below it; the longest path wins, and any other costs 1. At a cost of 0 a request always
    /// passes.
    #[must_use]
    pub fn cost(mut self, path: &str, cost: u64) -> Self {
        self.costs.push((path.to_owned(), cost));
        self
    }

    /// Keeps counts on a Redis, which other instances may share: `redis://`, `rediss://`, `redis-sentinel://` or
    /// `redis-cluster://`, as `QUOTAD_REDIS_URL` has it. Without one they are kept in this process, and end with it.
    #[must_use]
    pub fn redis(self, url: &str) -> Self {
        self.set("REDIS_URL", url)
    }

    /// Sets what a setting of the service sets, by its name in `docs/settings.md` without a prefix: those that begin with
    /// `REDIS_`, and `SHARDS`, `SHARD_MAILBOX`, `CACHE_CAPACITY`, `ENABLE_RATE_LIMITING`, `RATE_LIMIT_FALLBACK` (what is
    /// answered while Redis is away), `FALLBACK_SHARE` and `RESERVED_BLOCKS`. The environment is not read.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Who is charged; `None` for a request that is not limited. By default [`Charged::peer`].
    #[must_use]
    pub fn subject(mut self, subject: impl Fn(&HttpRequest) -> Option<Charged> + Send + Sync + 'static) -> Self {
        self.rules.subject = Box::new(subject);
        self
    }

    /// Has each request hold a slot until the last of its answer is sent, or its client has left: of `concurrent_requests` of
    /// its tier, and of `concurrent_websockets` where it asks to become a WebSocket.
    #[must_use]
    pub const fn hold_slots(mut self) -> Self {
        self.rules.holds_slots = true;
        self
    }

    /// Charges a request only when its answer says so, as for failed logins alone. Until then it is only asked whether there is
    /// room: of requests that are under way together more may pass than there is room for, and only what there was is charged.
    #[must_use]
    pub fn charge_when(mut self, charge: impl Fn(&ResponseHead) -> bool + Send + Sync + 'static) -> Self {
        self.rules.charge_when = Some(Box::new(charge));
        self
    }

    /// With [`QuotaBuilder::charge_when`], asks beforehand only for these requests: for who knows more cheaply that there is room.
    /// All others are let in, hold no slot, and are charged by their answers like any.
    #[must_use]
    pub fn ask_when(mut self, ask: impl Fn(&HttpRequest) -> bool + Send + Sync + 'static) -> Self {
        self.rules.ask_when = Some(Box::new(ask));
        self
    }

    /// Answers those who are denied, in the place of the service's 429.
    #[must_use]
    pub fn denied(mut self, answer: impl Fn(&HttpRequest, &Decision) -> HttpResponse + Send + Sync + 'static) -> Self {
        self.rules.denied = Some(Box::new(answer));
        self
    }

    /// Leaves answers that pass without headers about the limits.
    #[must_use]
    pub const fn without_headers(mut self) -> Self {
        self.rules.shows_headers = false;
        self
    }

    /// By another clock than the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Starts the threads that count. Must be called within a running actix system, as in `#[actix_web::main]`. A Redis that is
    /// away now is no error: it is found when it is there.
    ///
    /// # Errors
    /// What was set can't be as it is.
    pub async fn start(self) -> Result<Quota, QuotaError> {
        let settings = self.read_settings()?;
        let policy = Policy::of_layers(&[&self.layer()?])?;
        let shards = Shards::start(Parts {
            limiter: settings.limiter,
            redis: settings.redis,
            records: Arc::new(NoRecords),
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            metrics: Arc::new(Metrics::new().map_err(|error| QuotaError::Metrics(Box::new(error)))?),
            clock: self.clock,
            instance: getrandom::u64()?,
            outlet: None,
        })
        .await?;
        Ok(Quota::new(shards, self.rules))
    }

    /// Read as the service reads its own, so that the same is allowed.
    fn read_settings(&self) -> Result<Settings, QuotaError> {
        for (name, _) in &self.settings {
            if !SETTINGS.contains(&name.as_str()) && !name.starts_with("REDIS_") {
                return Err(QuotaError::NoSetting(name.clone()));
            }
        }
        let variable = |(name, value): &(String, String)| (format!("QUOTAD_{name}"), value.clone());
        Ok(Settings::from_vars(self.settings.iter().map(variable))?)
    }

    fn layer(&self) -> Result<Layer, QuotaError> {
        let mut tiers = self.tiers.clone();
        for tier in &tiers {
            tier.check().map_err(|source| QuotaError::Tier { tier: tier.name.clone(), source })?;
        }
        let [free, anonymous] = [TierName::free(), TierName::anonymous()];
        for (missing, other) in [(&free, &anonymous), (&anonymous, &free)] {
            let stands_in = tiers.iter().find(|tier| tier.name == *other).cloned();
            if let Some(tier) = stands_in.filter(|_| !tiers.iter().any(|tier| tier.name == *missing)) {
                tiers.push(Tier { name: missing.clone(), ..tier });
            }
        }
        let cost = |(path, cost): &(String, u64)| {
            let parsed = EndpointPath::parse(path).map_err(|source| QuotaError::Path { path: path.clone(), source })?;
            Ok(EndpointCost { path: parsed, methods: Vec::new(), cost: *cost })
        };
        let costs = self.costs.iter().map(cost).collect::<Result<_, QuotaError>>()?;
        Ok(Layer { tiers, costs: Some(costs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limit::{Limit, LimitName, Window};

    fn tier(name: TierName) -> Tier {
        Tier::of_limits(name, vec![Limit::fixed(LimitName::hour(), Window::Hour, 1)])
    }

    async fn refused(builder: QuotaBuilder) -> String {
        builder.start().await.unwrap_err().to_string()
    }

    #[actix_web::test]
    async fn what_cannot_be_is_refused_at_the_start() {
        let builder = || Quota::builder().tier(tier(TierName::free()));
        let no_tier = "there must be a tier `free` and a tier `anonymous`";
        assert_eq!(refused(Quota::builder()).await, no_tier);
        assert!(refused(builder().redis("http://127.0.0.1")).await.contains("QUOTAD_REDIS_URL"));
        assert!(refused(builder().set("RATE_LIMIT_FALLBACK", "maybe")).await.contains("memory, allow or deny"));
        assert_eq!(refused(builder().set("LISTEN", "127.0.0.1:1")).await, "LISTEN is not a setting of the middleware");
        assert!(refused(builder().cost("agents", 2)).await.contains("starts with '/'"));
        assert!(refused(builder().cost("/a", 2).cost("/a/", 3)).await.contains("costs[1].path"));
        let limits = vec![Limit::fixed(LimitName::hour(), Window::Hour, 1); 2];
        assert!(refused(builder().tier(Tier::of_limits(TierName::anonymous(), limits))).await.contains("anonymous"));
    }

    #[test]
    fn one_of_the_two_tiers_holds_for_both() {
        for (named, other) in [(TierName::free(), TierName::anonymous()), (TierName::anonymous(), TierName::free())] {
            let layer = Quota::builder().tier(tier(named)).layer().unwrap();
            assert!(layer.has_tier(&other));
            assert_eq!(layer.tiers[0].limits, layer.tiers[1].limits);
        }
    }
}
