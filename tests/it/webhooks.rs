//! Webhooks: events of the real service at a real receiver, which fails, is slow, is not there, and comes back.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::{Value, json};

use crate::errors::assert_problem;
use crate::support::clock::Clock;
use crate::support::quotad::{Backend, Quotad, Start, Stores};
use crate::support::receiver::{Received, Receiver};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::{in_one_hour, postgres_server, until};

/// Twenty-four bytes, and the same in hexadecimal.
pub const SECRET: &str = "whsec_aHVudGVyMi1odW50ZXIyLWh1bnRlcjIh";
const KEY: &str = "68756e746572322d68756e746572322d68756e7465723221";

const WITHIN: Duration = Duration::from_secs(10);

/// What would have come by now had it been sent twice.
const SETTLED: Duration = Duration::from_millis(1200);

const DELIVERIES: &str = "/api/v2/admin/webhooks/deliveries";

/// With a limit of ten an hour.
fn telling(start: Start, receiver: &Receiver) -> Start {
    let start = start.set("WEBHOOK_URL", &receiver.url()).set("WEBHOOK_SECRET", SECRET);
    start.set("FREE_TIER_LIMIT_HOUR", "10").set("FREE_TIER_LIMIT_DAY", "1000000")
}

async fn use_up(quotad: &Quotad, user: &str) {
    assert_eq!(quotad.check(json!({"user_id": user, "items": 10})).await.status, 200);
}

/// The events that were taken, when there are so many; and that there are no more a little later.
async fn taken(receiver: &Receiver, count: usize) -> Vec<Value> {
    until(WITHIN, "events", async || (receiver.taken().len() >= count).then_some(())).await;
    tokio::time::sleep(SETTLED).await;
    let taken = receiver.taken();
    assert_eq!(taken.len(), count, "{taken:#?}");
    taken
}

/// Subjects and parts, in order.
fn parts(events: &[Value]) -> Vec<(&str, u64)> {
    let told = events.iter().filter(|event| event["type"] == "quota.threshold").map(|event| &event["data"]);
    let mut parts: Vec<(&str, u64)> = told
        .map(|data| (data["subject"].as_str().expect("a subject"), data["threshold_percent"].as_u64().expect("a part")))
        .collect();
    parts.sort_unstable();
    parts
}

/// The signature is the one that openssl works out.
fn assert_signed(event: &Received) {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{KEY}"), "-binary"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl (scripts/test installs it)");
    let timestamp = &event.headers["webhook-timestamp"];
    let signed = format!("{}.{timestamp}.{}", event.id(), event.body);
    openssl.stdin.take().expect("a pipe").write_all(signed.as_bytes()).expect("it reads");
    let mac = openssl.wait_with_output().expect("openssl").stdout;
    assert_eq!(event.headers["webhook-signature"], format!("v1,{}", STANDARD.encode(mac)));
    let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().expect("seconds");
    assert!((-2..300).contains(&age), "{age}");
    assert_eq!(event.headers["content-type"], "application/json");
}

async fn log(quotad: &Quotad, query: &str) -> Vec<Value> {
    let page = quotad.get(&format!("{DELIVERIES}{query}")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    page.json["items"].as_array().expect("a list").clone()
}

on_both! {
    async fn each_part_of_a_limit_is_told_once_a_window(backend: Backend) {
        let receiver = Receiver::start();
        let stores = Stores::start(backend);
        let quotad = telling(stores.service(), &receiver).start().await;
        for (items, dry_run) in [(7, false), (10, true), (3, true), (1, false), (1, true), (1, false), (1, false), (1, false)] {
            quotad.check(json!({"user_id": "u", "items": items, "dry_run": dry_run})).await;
        }
        let status = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!(status.status, 429);
        quotad.check(json!({"user_id": "less", "items": 7})).await;
        let events = taken(&receiver, 2).await;
        assert_eq!(parts(&events), [("user:u", 80), ("user:u", 100)]);
        let of_80 = events.iter().find(|event| event["data"]["threshold_percent"] == 80).expect("80 %");
        let at: jiff::Timestamp = of_80["timestamp"].as_str().expect("a time").parse().expect("RFC 3339");
        assert!(jiff::Timestamp::now().duration_since(at).as_secs() < 60);
        let source = if backend == Backend::Embedded { "memory" } else { "redis" };
        assert_eq!(of_80["data"], json!({
            "subject": "user:u", "tier": "free", "limit": "hour", "threshold_percent": 80, "requests": 10, "used": 8,
            "window_end": status.limit("hour")["reset_at"], "source": source,
        }));
        receiver.received().iter().for_each(assert_signed);
        let items = log(&quotad, "").await;
        let row = |item: &Value| (item["state"].clone(), item["attempts"].clone(), item["status"].clone());
        assert_eq!(items.iter().map(row).collect::<Vec<_>>(), vec![(json!("delivered"), json!(1), json!(204)); 2]);
        assert!(items.iter().all(|item| events.contains(&item["event"])), "{items:#?}");
        assert_eq!(quotad.metric("quotad_webhook_deliveries_total{outcome=\"delivered\"}").await, 2.0);
        assert_eq!(quotad.metric("quotad_webhook_dropped_total").await, 0.0);
        let nothing_waits = async || (quotad.metric("quotad_webhook_queue_depth").await == 0.0).then_some(());
        until(WITHIN, "nothing waits", nothing_waits).await;
    }
}

#[tokio::test]
async fn a_receiver_that_fails_gets_each_event_until_it_takes_it() {
    in_one_hour(|| async {
        let mut receiver = Receiver::start();
        let stores = Stores::start(Backend::Embedded);
        let quotad = telling(stores.service(), &receiver).start().await;
        receiver.answers(500);
        use_up(&quotad, "u").await;
        until(WITHIN, "a second attempt of both", async || (receiver.received().len() >= 4).then_some(())).await;
        let health = quotad.get("/health").await.json;
        assert_eq!(health["webhooks"]["error"], "it answers 500", "{health}");
        assert_eq!((&health["status"], &health["webhooks"]["status"]), (&json!("degraded"), &json!("degraded")));
        let waiting = log(&quotad, "?state=pending").await;
        assert!(
            waiting.iter().all(|item| item["next_attempt_at"].is_string() && item["status"] == 500),
            "{waiting:#?}"
        );
        receiver.answers(204);
        assert_eq!(parts(&taken(&receiver, 2).await), [("user:u", 80), ("user:u", 100)]);
        let mut by_id: BTreeMap<String, Vec<Received>> = BTreeMap::new();
        for event in receiver.received() {
            assert_signed(&event);
            by_id.entry(event.id().to_owned()).or_default().push(event);
        }
        assert_eq!(by_id.len(), 2, "an event keeps its id");
        for events in by_id.values() {
            assert!(events.len() >= 3 && events.iter().all(|event| event.body == events[0].body), "{events:#?}");
            let pause = events[1].at - events[0].at;
            assert!(pause > Duration::from_millis(400), "{pause:?}");
        }
        // Nobody is there, and then somebody who takes their time.
        receiver.stop();
        use_up(&quotad, "v").await;
        let error = async || {
            let items = log(&quotad, "?state=pending").await;
            items.iter().any(|item| item["error"] == "no connection").then_some(())
        };
        until(WITHIN, "it is refused", error).await;
        receiver.takes(Duration::from_millis(1500));
        receiver.start_again();
        until(WITHIN, "both are taken", async || (receiver.taken().len() >= 4).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        taken(&receiver, 4).await;
        let health = quotad.get("/health").await.json;
        assert_eq!((&health["status"], &health["webhooks"]["error"]), (&json!("ok"), &Value::Null));
        let deliveries = quotad.get(DELIVERIES).await.text;
        let shown = format!("{}{health}{deliveries}", quotad.log());
        assert!(!shown.contains("hunter2") && !shown.contains(&SECRET[6..]), "{shown}");
    })
    .await;
}

#[tokio::test]
async fn events_survive_a_kill_wherever_it_comes() {
    let mut receiver = Receiver::start();
    let stores = Stores::start(Backend::Embedded);
    let start = telling(stores.service(), &receiver);
    let quotad = start.start().await;
    receiver.stop();
    use_up(&quotad, "refused").await;
    until(WITHIN, "it is refused", async || {
        let items = log(&quotad, "?state=pending").await;
        (items.len() == 2 && items.iter().all(|item| item["error"] == "no connection")).then_some(())
    })
    .await;
    receiver.takes(Duration::from_secs(20));
    receiver.start_again();
    let before = receiver.received().len();
    use_up(&quotad, "under-way").await;
    until(WITHIN, "they are under way", async || (receiver.received().len() >= before + 4).then_some(())).await;
    let written: Vec<Value> = log(&quotad, "").await.iter().map(|item| item["id"].clone()).collect();
    quotad.kill();
    // The claims of the one that was killed have ended by then.
    let clock = Clock::new();
    clock.set(40);
    receiver.takes(Duration::ZERO);
    let start = clock.vars().iter().fold(start, |start, (name, value)| start.env(name, value));
    let before = receiver.received().len();
    let quotad = start.start().await;
    until(WITHIN, "all are delivered", async || (log(&quotad, "?state=delivered").await.len() == 4).then_some(()))
        .await;
    tokio::time::sleep(SETTLED).await;
    let received = receiver.received().split_off(before);
    let mut ids: Vec<Value> = received.iter().map(|event| json!(event.id())).collect();
    assert_eq!(ids.len(), 4, "each once");
    ids.sort_by_key(Value::to_string);
    let mut written = written;
    written.sort_by_key(Value::to_string);
    assert_eq!(ids, written, "and by the id that it had");
}

#[tokio::test]
async fn what_is_told_as_the_service_stops_is_told_after_it_starts() {
    in_one_hour(|| async {
        let mut receiver = Receiver::start();
        let stores = Stores::start(Backend::Embedded);
        let start = telling(stores.service(), &receiver);
        receiver.stop();
        let quotad = start.start().await;
        use_up(&quotad, "u").await;
        quotad.stop();
        receiver.start_again();
        let quotad = start.start().await;
        assert_eq!(parts(&taken(&receiver, 2).await), [("user:u", 80), ("user:u", 100)]);
        // What the counters remember does not tell it again.
        quotad.check(json!({"user_id": "u"})).await;
        taken(&receiver, 2).await;
    })
    .await;
}

#[tokio::test]
async fn an_event_that_nobody_takes_is_given_up_after_an_hour() {
    let receiver = Receiver::start();
    receiver.answers(500);
    let (clock, stores) = (Clock::new(), Stores::start(Backend::Embedded));
    let start = telling(stores.service(), &receiver);
    let quotad = clock.vars().iter().fold(start, |start, (name, value)| start.env(name, value)).start().await;
    use_up(&quotad, "u").await;
    let of_state = async |state: &str| {
        let items = log(&quotad, &format!("?state={state}")).await;
        (items.len() == 2 && items.iter().all(|item| item["status"] == 500)).then_some(items)
    };
    until(WITHIN, "it is tried", async || of_state("pending").await).await;
    clock.set(3590);
    tokio::time::sleep(SETTLED).await;
    assert!(of_state("pending").await.is_some(), "it is tried for an hour");
    clock.set(3620);
    let (given_up, _) = until(WITHIN, "it is given up", async || of_state("given_up").await).await;
    assert!(given_up.iter().all(|item| item["next_attempt_at"].is_null() && item["settled_at"].is_string()));
    let tried = receiver.received().len();
    clock.set(7300);
    tokio::time::sleep(SETTLED).await;
    assert_eq!(receiver.received().len(), tried);
    assert_eq!(quotad.metric("quotad_webhook_deliveries_total{outcome=\"given_up\"}").await, 2.0);
}

/// Whichever of them sees it first, and whatever blocks they have taken.
#[tokio::test]
async fn two_instances_tell_a_part_once() {
    in_one_hour(|| async {
        let receiver = Receiver::start();
        let stores = Stores::start(Backend::RedisAndPostgres);
        let start = telling(stores.service(), &receiver).set("FREE_TIER_LIMIT_HOUR", "200");
        let (one, other) = join(start.start(), start.start()).await;
        let users = ["a", "b", "c"];
        let checks = (0..750).map(|number| {
            let quotad = if number % 2 == 0 { &one } else { &other };
            quotad.check(json!({"user_id": users[number % 3]}))
        });
        let answers = join_all(checks).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 600);
        let events = taken(&receiver, 6).await;
        let expected = users.map(|user| [(format!("user:{user}"), 80), (format!("user:{user}"), 100)]).concat();
        let told: Vec<(String, u64)> =
            parts(&events).into_iter().map(|(subject, part)| (subject.to_owned(), part)).collect();
        assert_eq!(told, expected);
        for quotad in [&one, &other] {
            assert_eq!(log(quotad, "?state=delivered").await.len(), 6);
        }
        let sent = "quotad_webhook_deliveries_total{outcome=\"delivered\"}";
        assert_eq!(one.metric(sent).await + other.metric(sent).await, 6.0);
    })
    .await;
}

#[tokio::test]
async fn redis_lost_and_found_is_told_once_each_and_the_fallback_tells_too() {
    in_one_hour(|| async {
        let receiver = Receiver::start();
        let mut stores = Stores::start(Backend::RedisAndPostgres);
        let quotad = telling(stores.service(), &receiver).start().await;
        assert_eq!(quotad.check(json!({"user_id": "u", "items": 7})).await.status, 200);
        stores.redis().kill();
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.json["source"], "fallback");
        let events = taken(&receiver, 2).await;
        let of = |events: &[Value], kind: &str| events.iter().find(|event| event["type"] == kind).cloned();
        let lost = of(&events, "limiter.degraded").expect("it is degraded");
        assert!(lost["data"]["error"].is_string() && lost["data"]["instance"].is_string(), "{lost}");
        assert_eq!(of(&events, "quota.threshold").expect("80 %")["data"]["source"], "fallback");
        stores.redis().start_again();
        let events = taken(&receiver, 3).await;
        let found = of(&events, "limiter.recovered").expect("it has recovered");
        assert_eq!(found["data"]["instance"], lost["data"]["instance"]);
    })
    .await;
}

/// Events wait for the database, and checks do not.
#[tokio::test]
async fn without_the_database_events_are_held() {
    in_one_hour(|| async {
        let receiver = Receiver::start();
        let proxy = TcpProxy::before(postgres_server::port()).await;
        let url = postgres_server::url_through(&postgres_server::database(), &proxy);
        let quotad = telling(Start::new().postgres(&url), &receiver).start().await;
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200);
        proxy.refuse(true);
        assert_eq!(quotad.check(json!({"user_id": "u", "items": 9})).await.status, 200);
        tokio::time::sleep(SETTLED).await;
        assert_eq!(receiver.received().len(), 0, "only what is written is sent");
        proxy.refuse(false);
        assert_eq!(parts(&taken(&receiver, 2).await), [("user:u", 80), ("user:u", 100)]);
        assert_eq!(quotad.metric("quotad_webhook_dropped_total").await, 0.0);
    })
    .await;
}

#[tokio::test]
async fn a_test_event_says_what_the_receiver_said() {
    let mut receiver = Receiver::start();
    let stores = Stores::start(Backend::Embedded);
    let quotad = telling(stores.service(), &receiver).start().await;
    let test = async || {
        let answer = quotad.ask(Method::POST, "/api/v2/admin/webhooks/test", None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.json["elapsed_ms"].is_u64() && !answer.text.contains("hunter2"), "{}", answer.text);
        let field = |name: &str| answer.json[name].clone();
        (field("id"), field("delivered"), field("status"), field("body"), field("error"))
    };
    let (id, delivered, status, _, error) = test().await;
    assert_eq!((delivered, status, error), (json!(true), json!(204), Value::Null));
    let received = receiver.received();
    assert_eq!((json!(received[0].id()), received[0].json()["type"].clone()), (id, json!("webhook.test")));
    assert_signed(&received[0]);
    receiver.answers(503);
    let (_, delivered, status, body, _) = test().await;
    assert_eq!((delivered, status, body), (json!(false), json!(503), json!("said 503")));
    receiver.stop();
    let (_, delivered, status, _, error) = test().await;
    assert_eq!((delivered, status, error), (json!(false), Value::Null, json!("no connection")));
    // Once each, and in the log like any other.
    receiver.start_again();
    tokio::time::sleep(SETTLED).await;
    assert_eq!(receiver.received().len(), 2);
    let states: Vec<Value> = log(&quotad, "").await.iter().map(|item| item["state"].clone()).collect();
    assert_eq!(states, ["given_up", "given_up", "delivered"]);
    // The log is read page by page.
    let first = quotad.get(&format!("{DELIVERIES}?limit=2")).await.json;
    let next = first["next"].as_str().expect("more");
    let rest = quotad.get(&format!("{DELIVERIES}?limit=2&after={next}")).await.json;
    assert_eq!((rest["items"].as_array().map(Vec::len), &rest["next"]), (Some(1), &Value::Null));
    for query in ["?state=lost", "?after=7", "?after=7.msg_", "?limit=0"] {
        assert_problem(&quotad.get(&format!("{DELIVERIES}{query}")).await, 422);
    }
}
