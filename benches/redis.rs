//! What deciding costs in Redis: a batch of 64 subjects, one check each, by each algorithm and for so many limits. Needs
//! redis-server, which it starts on a free port.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench may panic, and starts a process"
)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quotad::config::{RedisPlace, RedisSettings, Settings};
use quotad::counters::redis::{Ask, AskMode, BatchId, Link, RedisCounters, SubjectBatch};
use quotad::domain::cost::{Items, LIMIT_MAX, Multiplier};
use quotad::domain::limit::{Algorithm, LOG_MAX, Limit, LimitName, Window};
use quotad::domain::plan::Plan;
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::{Tier, TierName};
use quotad::domain::time::{Period, Timestamp};

const SUBJECTS: usize = 64;

/// A server that ends with this, and keeps nothing.
struct Server(Child, u16);

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        drop(listener);
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let server = Self(child, port);
        for _ in 0..500 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn settings(&self) -> RedisSettings {
        let vars = [("QUOTAD_REDIS_URL".to_owned(), format!("redis://127.0.0.1:{}", self.1))];
        Settings::from_vars(vars).expect("settings").redis.expect("a Redis")
    }
}

#[cfg(not(feature = "actix-redis"))]
fn line_to(settings: &RedisSettings) -> Box<dyn Link> {
    let RedisPlace::Node(at) = &settings.place else { panic!("one node is meant") };
    Box::new(quotad::counters::redis::Line::new(settings, quotad::counters::redis::Finder::At(at.clone())))
}

#[cfg(feature = "actix-redis")]
fn line_to(settings: &RedisSettings) -> Box<dyn Link> {
    let RedisPlace::Node(at) = &settings.place else { panic!("one node is meant") };
    Box::new(quotad::counters::redis::ActixLink::new(at))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// So many limits of one algorithm, none of which is ever full.
fn plan(algorithm: Algorithm, limits: usize) -> Arc<Plan> {
    let requests = if let Algorithm::SlidingWindowLog { .. } = algorithm { LOG_MAX } else { LIMIT_MAX };
    let names = (0..limits).filter_map(|number| LimitName::parse(&format!("limit-{number}")).ok());
    let limits = names.map(|name| Limit { name, algorithm, requests, enforce: true }).collect();
    Arc::new(Plan::of_tier(&Tier { limits, ..Tier::hourly_and_daily(TierName::free(), 0, 0, 1) }))
}

fn decide(criterion: &mut Criterion) {
    let server = Server::start();
    let settings = server.settings();
    let system = actix_web::rt::System::new();
    let counters = RedisCounters::new(&settings, 0, line_to(&settings));
    let mut id = BatchId::first(1, 0, 0);
    let mut group = criterion.benchmark_group("redis");
    group.throughput(Throughput::Elements(SUBJECTS as u64));
    // Logs of a second hold what was charged in it and are trimmed all the time.
    let (second, hour) = (Period::from_seconds(1), Period::from_seconds(3600));
    for (name, algorithm) in [
        ("fixed_window", Algorithm::FixedWindow { period: hour }),
        ("calendar_month", Algorithm::CalendarWindow(Window::Month)),
        ("sliding_window_log", Algorithm::SlidingWindowLog { period: second }),
        ("sliding_window_counter", Algorithm::SlidingWindowCounter { period: hour }),
        ("token_bucket", Algorithm::TokenBucket { period: hour, burst: None }),
    ] {
        for limits in [1, 3, 8] {
            let plan = plan(algorithm, limits);
            let one = Multiplier::ONE.times(Items::ONE);
            let ask = Ask { plan, cost: one, mode: AskMode::Charge, lease: None, identity: None };
            let user = |number: usize| UserId::parse(&format!("{name}-{limits}-{number}")).expect("an id");
            let batch: Vec<SubjectBatch> = (0..SUBJECTS)
                .map(|number| SubjectBatch {
                    subject: Subject::User(user(number)),
                    asks: [ask.clone()].into_iter().collect(),
                })
                .collect();
            group.bench_function(BenchmarkId::new(name, limits), |bench| {
                bench.iter(|| {
                    id = id.next();
                    let now = jiff::Timestamp::now();
                    system.block_on(counters.decide(id, None, &batch, Timestamp::from(now))).expect("it is decided")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
