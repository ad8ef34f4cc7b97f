//! What becomes of an event on its way: tried until it is taken, for an hour, in ever longer pauses.

use super::event::{Event, EventId};
use super::time::{Period, Timestamp};

/// An event that no one takes is tried for so long.
pub const TRIED_FOR: Period = Period::from_seconds(3600);

/// A row of the log is kept for so long, and never less than until the window ends that it speaks of: it is what keeps the
/// event from being told again.
pub const KEPT: Period = Period::from_seconds(7 * 86_400);

const FIRST_PAUSE: Period = Period::from_seconds(1);
const LONGEST_PAUSE: Period = Period::from_seconds(300);

/// RFC 9110: what was here is gone, and nobody wants more of it.
const GONE: u16 = 410;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    Pending,
    Delivered,
    GivenUp,
}

impl DeliveryState {
    pub const ALL: [DeliveryState; 3] = [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::GivenUp];

    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::GivenUp => "given_up",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// An event that is to be sent, with the text that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    pub id: EventId,
    pub event: Event,
    pub body: String,
}

/// An event that this instance alone may send for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub id: EventId,
    pub body: String,
    /// With the one that is about to be made.
    pub attempts: u32,
    pub give_up_at: Timestamp,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attempt {
    /// The status of the answer; `None` where there was none.
    pub status: Option<u16>,
    /// How the answer began, as text.
    pub body: String,
    /// Why there was no answer. It names no place.
    pub error: Option<&'static str>,
    /// `Retry-After` of the answer.
    pub retry_after: Option<Period>,
}

/// How an attempt leaves its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// Tried again then.
    Again(Timestamp),
    GivenUp,
}

/// One row of the log of deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: EventId,
    pub kind: String,
    pub body: String,
    pub state: DeliveryState,
    pub attempts: u32,
    pub created_at: Timestamp,
    /// When it is tried next.
    pub due_at: Timestamp,
    /// When it was delivered or given up.
    pub settled_at: Option<Timestamp>,
    /// Of the last answer.
    pub status: Option<u16>,
    /// Why the last attempt had none.
    pub error: Option<String>,
}

/// Where a delivery stands in the log: the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPlace {
    pub created_at: Timestamp,
    pub id: EventId,
}

impl Delivery {
    pub fn place(&self) -> DeliveryPlace {
        DeliveryPlace { created_at: self.created_at, id: self.id.clone() }
    }
}

impl Attempt {
    /// Standard Webhooks: any 2xx, and nothing else.
    pub const fn succeeded(&self) -> bool {
        matches!(self.status, Some(200..=299))
    }

    /// Why the event was not taken.
    pub fn reason(&self) -> String {
        match (self.status, self.error) {
            (Some(status), _) => format!("it answers {status}"),
            (None, error) => error.unwrap_or("no answer").to_owned(),
        }
    }

    /// What becomes of the event after this, its `attempts`th attempt. `random` is any number, for the jitter.
    pub fn outcome(&self, attempts: u32, give_up_at: Timestamp, now: Timestamp, random: u64) -> Outcome {
        if self.succeeded() {
            return Outcome::Delivered;
        }
        if self.status == Some(GONE) || now >= give_up_at {
            return Outcome::GivenUp;
        }
        let asked = self.retry_after.unwrap_or_default().min(LONGEST_PAUSE);
        let pause = pause(attempts, random).max(asked);
        Outcome::Again(now.saturating_add(pause).min(give_up_at))
    }
}

/// The pause after so many attempts: twice the one before, up to five minutes, of which the second half is left to chance, so
/// that what failed together does not come back together.
fn pause(attempts: u32, random: u64) -> Period {
    let doublings = attempts.saturating_sub(1).min(16);
    let whole = FIRST_PAUSE.as_micros().saturating_mul(1 << doublings).min(LONGEST_PAUSE.as_micros());
    let half = whole.checked_div(2).unwrap_or_default();
    let chance = random.checked_rem(half.unsigned_abs().max(1)).unwrap_or_default();
    Period::from_micros(half.saturating_add(i64::try_from(chance).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_000_000);
    const END: Timestamp = START.saturating_add(TRIED_FOR);

    fn answered(status: u16) -> Attempt {
        Attempt { status: Some(status), ..Attempt::default() }
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_half_of_each_is_chance() {
        for (attempts, least, most) in [
            (1, 500_000, 1_000_000),
            (2, 1_000_000, 2_000_000),
            (5, 8_000_000, 16_000_000),
            (10, 150_000_000, 300_000_000),
            (u32::MAX, 150_000_000, 300_000_000),
        ] {
            for random in [0, 1, 499_999, 500_000, u64::MAX / 3, u64::MAX] {
                let pause = pause(attempts, random).as_micros();
                assert!((least..most).contains(&pause), "{attempts} {random}: {pause}");
            }
            assert_ne!(pause(attempts, 0), pause(attempts, 77_777), "chance decides");
        }
    }

    #[test]
    fn an_event_is_tried_for_an_hour_and_once_more_at_its_end() {
        let (mut now, mut attempts) = (START, 0);
        let tried = loop {
            attempts += 1;
            match answered(500).outcome(attempts, END, now, u64::from(attempts) << 40) {
                Outcome::Again(due) => {
                    assert!(due > now && due <= END);
                    now = due;
                }
                outcome => break (outcome, now, attempts),
            }
        };
        assert_eq!((tried.0, tried.1), (Outcome::GivenUp, END));
        assert!((18..40).contains(&tried.2), "{} attempts", tried.2);
    }

    #[test]
    fn what_was_late_already_is_tried_once() {
        let late = END.saturating_add(Period::from_seconds(7200));
        assert_eq!(answered(200).outcome(1, END, late, 0), Outcome::Delivered);
        assert_eq!(answered(500).outcome(1, END, late, 0), Outcome::GivenUp);
    }

    #[test]
    fn only_2xx_is_success_and_gone_is_final() {
        for (status, delivered) in
            [(200, true), (204, true), (299, true), (199, false), (302, false), (404, false), (429, false)]
        {
            assert_eq!(answered(status).outcome(1, END, START, 0) == Outcome::Delivered, delivered, "{status}");
        }
        assert_eq!(answered(410).outcome(1, END, START, 0), Outcome::GivenUp);
        let nothing = Attempt { error: Some("it refuses"), ..Attempt::default() };
        assert!(matches!(nothing.outcome(1, END, START, 0), Outcome::Again(_)));
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause_within_bounds() {
        let asks = |seconds| Attempt { retry_after: Some(Period::from_seconds(seconds)), ..answered(503) };
        let due = |attempt: Attempt| match attempt.outcome(1, END, START, 0) {
            Outcome::Again(due) => START.until(due).as_micros(),
            outcome => panic!("{outcome:?}"),
        };
        assert_eq!(due(asks(0)), 500_000);
        assert_eq!(due(asks(60)), 60_000_000);
        assert_eq!(due(asks(1_000_000)), 300_000_000);
    }
}
