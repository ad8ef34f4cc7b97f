//! What the outside is told of: that a subject comes near a limit, and that the limiter goes on without Redis or has it back.
//!
//! An event has the shape of Standard Webhooks 1.0.0: `type`, `timestamp`, `data`.

use std::fmt;

use serde::Serialize;

use super::decision::Source;
use super::limit::LimitName;
use super::subject::Subject;
use super::tier::TierName;
use super::time::Timestamp;

/// The parts of a limit that are told of, in percent, rising.
pub const THRESHOLDS: [u64; 2] = [80, 100];

/// What an event is known by, however often it is sent: `msg_` and 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// The id of 128 random bits.
    pub fn of(random: u128) -> Self {
        Self(format!("msg_{random:032x}"))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("msg_")?;
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        (digits.len() == 32 && digits.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub about: About,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    Threshold(Box<Threshold>),
    /// An instance decides without Redis, and why. The text names no place.
    Degraded {
        error: String,
    },
    /// It has Redis back.
    Recovered,
    /// Somebody wants to see an event arrive.
    Test,
}

/// A subject has used a part of a limit in a window. Of one window, each part is told of once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    pub subject: Subject,
    pub tier: TierName,
    pub limit: LimitName,
    /// Of [`THRESHOLDS`].
    pub percent: u64,
    pub requests: u64,
    pub used: u64,
    pub window_end: Timestamp,
    pub source: Source,
}

#[derive(Serialize)]
struct Body<'a, Data> {
    r#type: &'a str,
    timestamp: Timestamp,
    data: Data,
}

#[derive(Serialize)]
struct ThresholdData<'a> {
    subject: String,
    tier: &'a TierName,
    limit: &'a LimitName,
    threshold_percent: u64,
    requests: u64,
    used: u64,
    window_end: Timestamp,
    source: &'static str,
}

#[derive(Serialize)]
struct StateData<'a> {
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Event {
    pub const fn kind(&self) -> &'static str {
        match self.about {
            About::Threshold(_) => "quota.threshold",
            About::Degraded { .. } => "limiter.degraded",
            About::Recovered => "limiter.recovered",
            About::Test => "webhook.test",
        }
    }

    /// The JSON that is signed and sent. `instance` is whose state it is that changed.
    pub fn body(&self, instance: &str) -> String {
        match &self.about {
            About::Threshold(told) => self.written(ThresholdData {
                subject: told.subject.to_string(),
                tier: &told.tier,
                limit: &told.limit,
                threshold_percent: told.percent,
                requests: told.requests,
                used: told.used,
                window_end: told.window_end,
                source: told.source.as_str(),
            }),
            About::Degraded { error } => self.written(StateData { instance, error: Some(error) }),
            About::Recovered | About::Test => self.written(StateData { instance, error: None }),
        }
    }

    fn written(&self, data: impl Serialize) -> String {
        // Numbers and texts always have a JSON form.
        serde_json::to_string(&Body { r#type: self.kind(), timestamp: self.at, data }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::UserId;

    #[test]
    fn a_body_says_what_when_and_about_whom() {
        let threshold = Threshold {
            subject: Subject::User(UserId::parse("4\"2").unwrap()),
            tier: TierName::free(),
            limit: LimitName::hour(),
            percent: 80,
            requests: 100,
            used: 81,
            window_end: Timestamp::from_seconds(1_795_766_400),
            source: Source::Redis,
        };
        let at = Timestamp::from_micros(1_795_766_399_000_001);
        let body = |about| Event { at, about }.body("0f");
        assert_eq!(
            body(About::Threshold(Box::new(threshold))),
            r#"{"type":"quota.threshold","timestamp":"2026-11-27T07:59:59.000001Z","data":{"subject":"user:4\"2","tier":"free","limit":"hour","threshold_percent":80,"requests":100,"used":81,"window_end":"2026-11-27T08:00:00Z","source":"redis"}}"#
        );
        assert_eq!(
            body(About::Degraded { error: "it is away".to_owned() }),
            r#"{"type":"limiter.degraded","timestamp":"2026-11-27T07:59:59.000001Z","data":{"instance":"0f","error":"it is away"}}"#
        );
        assert_eq!(
            body(About::Recovered),
            r#"{"type":"limiter.recovered","timestamp":"2026-11-27T07:59:59.000001Z","data":{"instance":"0f"}}"#
        );
    }

    #[test]
    fn an_id_has_no_point_in_it() {
        let id = EventId::of(0xab);
        assert_eq!(id.as_str(), "msg_000000000000000000000000000000ab");
        assert_eq!(EventId::parse(id.as_str()), Some(id));
        for text in ["msg_", "000000000000000000000000000000ab", "msg_000000000000000000000000000000a.", "msg_0AB"] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }
}
