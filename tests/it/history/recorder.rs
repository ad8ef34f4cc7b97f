//! Clients that ask running instances over HTTP, and write down what they asked, when, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::dice::Dice;
use super::record::{History, Kind, Lease, Micros, Operation, Outcome, SECOND, Slot, Tier};
use crate::support::quotad::ADMIN_KEY;

/// A client that gets no answer for that long does not know what became of it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// How long a lease lasts that was taken by a check.
const CHECK_LEASE: Micros = 60 * SECOND;

/// Endpoints and what they cost by default.
const ENDPOINTS: [(&str, u64); 6] =
    [("/", 1), ("/other", 1), ("/api/v1/agents/7", 2), ("/", 1), ("/api/v1/batch", 5), ("/ws/room", 0)];

/// What is to be recorded. The subjects that are asked for at a time are shared among the tiers.
pub struct Recording {
    /// `127.0.0.1:PORT` of each instance.
    pub instances: Vec<String>,
    pub tiers: Vec<Tier>,
    pub clients: u32,
    pub operations: usize,
    pub subjects: usize,
    /// After so many operations another subject takes the place of one, so that not all are used up.
    pub turnover: Option<usize>,
    /// How many of a hundred requests are about leases.
    pub leases: u64,
}

struct Shared {
    plan: Recording,
    http: reqwest::Client,
    asked: AtomicUsize,
    leases: AtomicU64,
}

struct Client {
    number: u32,
    dice: Dice,
    shared: Arc<Shared>,
    held: Vec<Held>,
    recorded: Vec<Operation>,
}

struct Held {
    number: u64,
    id: String,
    subject: u32,
}

/// `status` is none where no answer came.
struct Reply {
    asked: Micros,
    answered: Micros,
    status: Option<u16>,
    json: Value,
}

struct Chosen {
    subject: u32,
    cost: u64,
    body: Value,
}

impl Recording {
    /// A history for each tier.
    pub async fn run(self) -> Vec<History> {
        let http = reqwest::Client::builder().timeout(GIVE_UP_AFTER).build().expect("a client");
        let tiers = self.tiers.clone();
        let clients = self.clients;
        let shared = Arc::new(Shared { plan: self, http, asked: AtomicUsize::new(0), leases: AtomicU64::new(0) });
        let client = |number: u32| {
            let dice = Dice::new(u64::from(number));
            let client = Client { number, dice, shared: Arc::clone(&shared), held: Vec::new(), recorded: Vec::new() };
            tokio::spawn(client.work())
        };
        let recorded = join_all((0..clients).map(client)).await;
        let mut histories: Vec<History> =
            tiers.into_iter().map(|tier| History { tier, operations: Vec::new() }).collect();
        let count = histories.len();
        for operation in recorded.into_iter().flat_map(|client| client.expect("a client ends well")) {
            histories[operation.subject as usize % count].operations.push(operation);
        }
        histories
    }
}

/// The name that a subject has over HTTP.
pub fn user(subject: u32) -> String {
    format!("user-{subject}")
}

impl Client {
    async fn work(mut self) -> Vec<Operation> {
        while self.shared.asked.load(Ordering::Relaxed) < self.shared.plan.operations {
            if self.dice.percent(self.shared.plan.leases) {
                self.lease().await;
            } else if self.dice.percent(40) {
                self.check().await;
            } else {
                self.batch().await;
            }
        }
        self.recorded
    }

    async fn check(&mut self) {
        let Chosen { subject, cost, body } = self.choose();
        let reply = self.send(Method::POST, "/api/v2/check", body).await;
        self.record(subject, Kind::Check { cost, lease: None }, &reply, reply.decision());
    }

    /// Each item is an operation that took as long as the whole.
    async fn batch(&mut self) {
        let chosen: Vec<Chosen> = (0..self.dice.between(2, 64)).map(|_| self.choose()).collect();
        let bodies: Vec<&Value> = chosen.iter().map(|chosen| &chosen.body).collect();
        let reply = self.send(Method::POST, "/api/v2/check/batch", json!({"checks": bodies})).await;
        for (number, chosen) in chosen.iter().enumerate() {
            let item = reply.json["results"].get(number);
            let outcome = item.map_or_else(|| reply.failure(), decision);
            self.record(chosen.subject, Kind::Check { cost: chosen.cost, lease: None }, &reply, outcome);
        }
    }

    async fn lease(&mut self) {
        if self.held.is_empty() || (self.held.len() < 5 && self.dice.percent(40)) {
            return if self.dice.percent(50) { self.take().await } else { self.take_with_check().await };
        }
        let chosen = self.dice.below(self.held.len());
        let (lease, subject) = (self.held[chosen].number, self.held[chosen].subject);
        let path = format!("/api/v2/leases/{}", self.held[chosen].id);
        if self.dice.percent(40) {
            let (ttl, body) = self.ttl();
            let reply = self.send(Method::PUT, &path, body).await;
            self.record(subject, Kind::Renewal { lease, ttl }, &reply, reply.change(200));
        } else {
            let reply = self.send(Method::DELETE, &path, Value::Null).await;
            self.record(subject, Kind::Release { lease }, &reply, reply.change(204));
            // Some are released again.
            if self.dice.percent(80) {
                self.held.remove(chosen);
            }
        }
    }

    async fn take(&mut self) {
        let subject = self.subject();
        let (slot, kind) = self.slot();
        let (ttl, mut body) = self.ttl();
        body["user_id"] = json!(user(subject));
        body["kind"] = json!(kind);
        let reply = self.send(Method::POST, "/api/v2/leases", body).await;
        let outcome = match reply.status {
            Some(201) => Outcome::Allowed,
            Some(429) => denial(&reply.json),
            _ => reply.failure(),
        };
        self.record_taken(subject, 0, slot, ttl, &reply, outcome);
    }

    async fn take_with_check(&mut self) {
        let Chosen { subject, cost, mut body } = self.choose();
        let (slot, kind) = self.slot();
        body["lease"] = json!(kind);
        let reply = self.send(Method::POST, "/api/v2/check", body).await;
        self.record_taken(subject, cost, slot, CHECK_LEASE, &reply, reply.decision());
    }

    fn record_taken(&mut self, subject: u32, cost: u64, slot: Slot, ttl: Micros, reply: &Reply, outcome: Outcome) {
        let number = self.shared.leases.fetch_add(1, Ordering::Relaxed);
        // Some are left to run out.
        if outcome == Outcome::Allowed && (ttl == CHECK_LEASE || self.dice.percent(70)) {
            let id = reply.json["lease_id"].as_str().unwrap_or_else(|| panic!("no lease_id in {}", reply.json));
            self.held.push(Held { number, id: id.to_owned(), subject });
        }
        let lease = Some(Lease { number, slot, ttl });
        self.record(subject, Kind::Check { cost, lease }, reply, outcome);
    }

    fn choose(&mut self) -> Chosen {
        let subject = self.subject();
        let items = self.dice.between(1, 6).cast_unsigned();
        let (endpoint, multiplier) = ENDPOINTS[self.dice.below(ENDPOINTS.len())];
        let tiers = &self.shared.plan.tiers;
        let tier = &tiers[subject as usize % tiers.len()].name;
        let body = json!({"user_id": user(subject), "tier": tier, "endpoint": endpoint, "items": items});
        Chosen { subject, cost: multiplier * items, body }
    }

    fn subject(&mut self) -> u32 {
        let Recording { subjects, turnover, .. } = self.shared.plan;
        let first = turnover.map_or(0, |turnover| self.shared.asked.load(Ordering::Relaxed) / turnover);
        u32::try_from(first + self.dice.below(subjects)).expect("a small number")
    }

    fn slot(&mut self) -> (Slot, &'static str) {
        if self.dice.percent(60) { (Slot::Request, "request") } else { (Slot::Websocket, "websocket") }
    }

    fn ttl(&mut self) -> (Micros, Value) {
        let seconds = self.dice.between(1, 3);
        (seconds * SECOND, json!({"ttl_seconds": seconds}))
    }

    async fn send(&mut self, method: Method, path: &str, body: Value) -> Reply {
        let instances = &self.shared.plan.instances;
        let instance = &instances[self.dice.below(instances.len())];
        let request = self.shared.http.request(method, format!("http://{instance}{path}"));
        let request = request.header("x-api-key", ADMIN_KEY);
        let request = if body.is_null() { request } else { request.json(&body) };
        let asked = now();
        let answer = async {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.bytes().await?))
        };
        let answer = answer.await.ok();
        // The clock of a machine may be set back a little.
        let answered = now().max(asked);
        let json = answer.as_ref().and_then(|(_, body)| serde_json::from_slice(body).ok()).unwrap_or(Value::Null);
        Reply { asked, answered, status: answer.map(|(status, _)| status), json }
    }

    fn record(&mut self, subject: u32, kind: Kind, reply: &Reply, outcome: Outcome) {
        let Reply { asked, answered, .. } = *reply;
        self.shared.asked.fetch_add(1, Ordering::Relaxed);
        self.recorded.push(Operation { client: self.number, subject, kind, asked, answered, outcome });
    }
}

impl Reply {
    fn decision(&self) -> Outcome {
        match self.status {
            Some(200 | 429) => decision(&self.json),
            _ => self.failure(),
        }
    }

    /// Of a lease, where this status says that it was done.
    fn change(&self, done: u16) -> Outcome {
        match self.status {
            Some(404) => Outcome::Gone,
            Some(status) if status == done => Outcome::Allowed,
            _ => self.failure(),
        }
    }

    fn failure(&self) -> Outcome {
        if self.status.is_some() { Outcome::Error } else { Outcome::Unknown }
    }
}

/// What the fallback grants is charged whenever Redis is back.
fn decision(json: &Value) -> Outcome {
    match json["allowed"].as_bool() {
        Some(_) if json["source"] == "fallback" => Outcome::Unknown,
        Some(true) => Outcome::Allowed,
        Some(false) => denial(json),
        None => Outcome::Error,
    }
}

/// The items of a batch name only the limit that must be waited for longest.
fn denial(json: &Value) -> Outcome {
    let denied_by = CompactString::from(json["denied_by"].as_str().unwrap_or_default());
    let named = json["violated-policies"].as_array().map(|names| names.iter().filter_map(Value::as_str));
    let violated = named.map_or_else(|| vec![denied_by.clone()], |names| names.map(CompactString::from).collect());
    Outcome::Denied { denied_by, violated }
}

fn now() -> Micros {
    jiff::Timestamp::now().as_microsecond()
}
