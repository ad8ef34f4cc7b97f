//! A line to a real Redis on which the scripts believe whatever time a test sets, by changing the one place where they read it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use ::quotad::config::{RedisPlace, RedisSettings};
use ::quotad::counters::redis::{Link, LinkError};
use ::quotad::domain::time::Timestamp;

#[cfg(feature = "actix-redis")]
pub type Line = ::quotad::counters::redis::ActixLink;
#[cfg(not(feature = "actix-redis"))]
pub type Line = ::quotad::counters::redis::Line;

/// A line to the one node of these settings.
pub fn line_to(settings: &RedisSettings) -> Line {
    let RedisPlace::Node(at) = &settings.place else { panic!("one node is meant") };
    #[cfg(feature = "actix-redis")]
    return Line::new(at);
    #[cfg(not(feature = "actix-redis"))]
    Line::new(settings, ::quotad::counters::redis::Finder::At(at.clone()))
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, LinkError>> + 'a>>;

/// A line whose server believes that it is `now`, and keeps every key for an hour of the real time.
#[derive(Debug)]
pub struct TimedLink {
    pub line: Rc<Line>,
}

impl Link for TimedLink {
    fn command<'a>(&'a self, parts: &'a [Vec<u8>]) -> Answer<'a> {
        Box::pin(async move {
            match parts[0].as_slice() {
                b"EVALSHA" => Err(LinkError::UnknownScript),
                b"EVAL" => {
                    let mut parts = parts.to_vec();
                    let text = String::from_utf8(parts[1].clone()).expect("a script is text");
                    let text = replaced(&text, "call('TIME')", "call('MGET', 'now:seconds', 'now:micros')");
                    // Those that set an expiry work it out in one place.
                    let text = text.replace("max(ceil((whole_at - now) / 1000), 1)", "3600000");
                    parts[1] = text.into_bytes();
                    self.line.command(&parts).await
                }
                _ => self.line.command(parts).await,
            }
        })
    }

    fn replace(&self) {}

    fn node(&self) -> String {
        self.line.node()
    }

    fn server(&self) -> u64 {
        self.line.server()
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "the scripts read the time in one place: {from}");
    text.replace(from, to)
}

pub async fn set_time(line: &Line, now: Timestamp) {
    let (seconds, micros) = (now.floor_seconds(), now.as_micros().rem_euclid(1_000_000));
    let command = ["MSET", "now:seconds", &seconds.to_string(), "now:micros", &micros.to_string()];
    line.command(&command.map(|part| part.as_bytes().to_vec())).await.expect("the time is set");
}
