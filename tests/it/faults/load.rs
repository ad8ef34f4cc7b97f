//! Callers that ask without end while something is done to Redis.
//!
//! They run on threads of their own: whoever kills a server in the meantime may wait for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::answers::{Answered, Answers, Source};
use crate::support::quotad::{ADMIN_KEY, Quotad};

/// A caller that waits for longer has lost its patience, and the row.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which user a caller asks for, by its number and its turn.
type Choose = dyn Fn(u64, u64) -> u32 + Send + Sync;

/// What is asked.
#[derive(Clone)]
pub struct Load {
    callers: u64,
    pause: Duration,
    choose: Arc<Choose>,
    goes_on: bool,
}

/// Callers at work.
pub struct Running {
    ended: Arc<AtomicBool>,
    counts: Arc<Counts>,
    callers: Vec<JoinHandle<Vec<Answered>>>,
}

#[derive(Default)]
struct Counts {
    answers: AtomicU64,
    by_fallback: AtomicU64,
}

pub fn name(user: u32) -> String {
    format!("user-{user}")
}

impl Load {
    /// So many callers who ask for user 0, and rest for a millisecond in between.
    pub fn of(callers: u64) -> Self {
        Self { callers, pause: Duration::from_millis(1), choose: Arc::new(|_, _| 0), goes_on: false }
    }

    pub fn resting(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// An instance may end meanwhile: what gets no answer has status 0, and may have been granted if it was heard.
    pub fn through_ends(self) -> Self {
        Self { goes_on: true, ..self }
    }

    /// For so many users in turn.
    pub fn for_users(self, users: u32) -> Self {
        self.choosing(move |caller, turn| ((caller * 7919 + turn) % u64::from(users)) as u32)
    }

    pub fn choosing(self, choose: impl Fn(u64, u64) -> u32 + Send + Sync + 'static) -> Self {
        Self { choose: Arc::new(choose), ..self }
    }

    /// Callers take the instances in turn.
    pub fn start(&self, instances: &[&Quotad]) -> Running {
        let addresses: Arc<[String]> = instances.iter().map(|quotad| quotad.address().to_owned()).collect();
        let (ended, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        let caller = |number: u64| {
            let (load, addresses, http) = (self.clone(), Arc::clone(&addresses), http.clone());
            let (ended, counts) = (Arc::clone(&ended), Arc::clone(&counts));
            runtime().spawn(async move {
                let mut answers = Vec::new();
                for turn in 0_u64.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let address = &addresses[((number + turn) % addresses.len() as u64) as usize];
                    let Some(answered) = ask(&http, address, (load.choose)(number, turn), load.goes_on).await else {
                        tokio::time::sleep(load.pause).await;
                        continue;
                    };
                    counts.answers.fetch_add(1, Ordering::Relaxed);
                    counts.by_fallback.fetch_add(u64::from(answered.source == Source::Fallback), Ordering::Relaxed);
                    answers.push(answered);
                    tokio::time::sleep(load.pause).await;
                }
                answers
            })
        };
        let callers = (0..self.callers).map(caller).collect();
        Running { ended, counts, callers }
    }

    /// The callers ask for as long as `script` takes.
    pub async fn during<T>(&self, instances: &[&Quotad], script: impl AsyncFnOnce(&Running) -> T) -> (Answers, T) {
        let running = self.start(instances);
        let outcome = script(&running).await;
        (running.end().await, outcome)
    }
}

/// Of the callers alone: a test that waits for a server to end would keep them waiting too.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        threads.worker_threads(2).enable_all().build().expect("a runtime")
    })
}

impl Running {
    /// Until so many more were answered.
    pub async fn more(&self, count: u64) {
        self.wait_for(&self.counts.answers, count).await;
    }

    /// Until so many more were answered without Redis.
    pub async fn more_by_fallback(&self, count: u64) {
        self.wait_for(&self.counts.by_fallback, count).await;
    }

    async fn wait_for(&self, counter: &AtomicU64, more: u64) {
        let (begun, least) = (Instant::now(), counter.load(Ordering::Relaxed) + more);
        while counter.load(Ordering::Relaxed) < least {
            assert!(begun.elapsed() < PATIENCE, "{more} more answers: not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn end(self) -> Answers {
        self.ended.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for caller in self.callers {
            all.append(&mut caller.await.expect("a caller ends well"));
        }
        Answers(all)
    }
}

/// `None` where nobody listened, and somebody may have ended.
async fn ask(http: &reqwest::Client, address: &str, user: u32, may_end: bool) -> Option<Answered> {
    let request = http.post(format!("http://{address}/api/v2/check")).header("x-api-key", ADMIN_KEY);
    let request = request.json(&json!({"user_id": name(user)}));
    let at = Instant::now();
    let answer = async {
        let answer = request.send().await?;
        Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.bytes().await?))
    };
    let answer = answer.await;
    let took = at.elapsed();
    let (status, body) = match answer {
        Ok(answer) => answer,
        Err(error) if may_end && error.is_connect() => return None,
        Err(_) if may_end => return Some(Answered { user, at, took, status: 0, source: Source::None }),
        Err(error) => panic!("no answer: {error:?}"),
    };
    let json: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if [200, 429].contains(&status) {
        assert_eq!(json["subject"], format!("user:{}", name(user)), "an answer of somebody else's");
    }
    Some(Answered { user, at, took, status, source: Source::named(json["source"].as_str().unwrap_or_default()) })
}
