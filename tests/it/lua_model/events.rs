//! What happens to counters between batches: something else is written in their place, and what was granted without Redis is
//! added.

use quotad::counters::redis::{Granted, Keys, Link};
use quotad::domain::cost::COUNT_MAX;
use quotad::domain::state::Slot;

use super::*;

#[derive(Debug, Clone)]
pub enum Event {
    Planted {
        who: usize,
        what: What,
    },
    /// So much less than the most that a counter holds, by all fixed windows of a plan.
    Granted {
        who: usize,
        plan: usize,
        less: u64,
    },
}

#[derive(Debug, Clone, Copy)]
pub enum What {
    Text,
    /// The beginning of what stood there.
    Half,
    /// What stood there, with its last byte twice.
    More,
    /// A key of another type, which is as good as none.
    Hash,
}

pub fn an_event() -> impl Strategy<Value = Event> {
    let what = prop_oneof![Just(What::Text), Just(What::Half), Just(What::More), Just(What::Hash)];
    let planted = (0..4_usize, what).prop_map(|(who, what)| Event::Planted { who, what });
    let granted = (0..4_usize, 0..3_usize, 0..4_u64).prop_map(|(who, plan, less)| Event::Granted { who, plan, less });
    prop_oneof![planted, granted]
}

pub async fn happen(
    event: &Event,
    (line, counters, id): (&Line, &RedisCounters, BatchId),
    plans: &[Arc<Plan>],
    models: &mut HashMap<Subject, Model>,
    now: Timestamp,
) {
    match *event {
        Event::Planted { who, what } => {
            let known = models.entry(subject(who)).or_default();
            known.state.forget(None);
            known.foreign = plant(line, &subject(who), what).await;
        }
        Event::Granted { who, plan, less } => {
            let limits = plans[plan].limits.iter().filter(|limit| matches!(limit.rule, Rule::FixedWindow(_)));
            let limits: Vec<PlannedLimit> = limits.cloned().collect();
            if limits.is_empty() {
                return;
            }
            let slot = |limit: &PlannedLimit| {
                let Rule::FixedWindow(windows) = &limit.rule else { panic!("a fixed window") };
                Slot { id: limit.slot, whole_at: windows.end(now), a: COUNT_MAX - less, b: 0, c: 0 }
            };
            let state: SubjectState = limits.iter().map(slot).collect();
            let known = models.entry(subject(who)).or_default();
            limits.iter().for_each(|limit| decide::add(&mut known.state, limit, &state, now));
            known.foreign = false;
            let owed = [Granted { subject: subject(who), limits, state }];
            counters.add(id, &owed, now).await.expect("it is added");
        }
    }
}

/// Whether it is foreign to the scripts.
async fn plant(line: &Line, subject: &Subject, what: What) -> bool {
    let key = Keys::new("quotad", 0).counters(subject);
    let command = async |parts: &[&[u8]]| {
        let parts: Vec<Vec<u8>> = [parts, &[&key[..]]].concat().into_iter().map(<[u8]>::to_vec).collect();
        line.command(&parts).await.expect("an answer")
    };
    let edit = async |text: &str| command(&[b"EVAL", text.as_bytes(), b"1"]).await;
    match what {
        What::Text => edit("return redis.call('SET', KEYS[1], 'hello')").await,
        What::Half => edit("local v = redis.call('MGET', KEYS[1])[1] or '\\1\\2\\1' return redis.call('SET', KEYS[1], v:sub(1, math.ceil(#v / 2)))").await,
        What::More => edit("local v = redis.call('MGET', KEYS[1])[1] or '\\1\\2\\1' return redis.call('SET', KEYS[1], v .. v:sub(-1))").await,
        What::Hash => edit("redis.call('DEL', KEYS[1]) return redis.call('HSET', KEYS[1], 'a', 'b')").await,
    };
    !matches!(what, What::Hash)
}
