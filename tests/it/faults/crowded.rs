//! Strangers in numbers, and what those who are known notice of them: how long they wait, and how much memory it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::answers::Answers;
use super::load::Load;
use super::place::{Kind, resident_mib};
use super::report::{Bound, Report, row};
use super::strangers::flood;
use super::{deadline_ms, either};
use crate::support::quotad::{ADMIN_KEY, Quotad};

/// Known users, by a few callers who take their time.
const KNOWN: u32 = 20;

/// Those who are known wait no longer than this, whoever comes.
const P99: Bound = Bound { short: 2000.0, full: 50.0 };

/// All connections of strangers are closed by then.
const CLOSED_WITHIN: Duration = Duration::from_secs(70);

async fn known(quotad: &Quotad, lasts: Duration) -> Answers {
    let load = Load::of(4).resting(Duration::from_millis(4)).for_users(KNOWN);
    load.during(&[quotad], async |_| tokio::time::sleep(lasts).await).await.0
}

/// Known users before, during and after what strangers do, and the memory of the service all the while.
async fn before_during_after(report: &mut Report, quotad: &Quotad, memory: Bound, strangers: impl AsyncFnOnce()) {
    let calm = either(Duration::from_secs(1), Duration::from_secs(10));
    let before = known(quotad, calm).await;
    let least = resident_mib(quotad);
    let load = Load::of(4).resting(Duration::from_millis(4)).for_users(KNOWN);
    let mut most = least;
    let (during, ()) = load
        .during(&[quotad], async |_| {
            let mut strangers = std::pin::pin!(strangers());
            while tokio::time::timeout(Duration::from_millis(100), strangers.as_mut()).await.is_err() {
                most = most.max(resident_mib(quotad));
            }
        })
        .await;
    let after = known(quotad, calm).await;
    report.exactly("checks of known users failed", before.failed() + during.failed() + after.failed(), 0);
    report.tell("of", before.count() + during.count() + after.count());
    report.tell("p99 before", format!("{:.1} ms", before.p99_ms()));
    report.at_most("during", during.p99_ms(), "ms", P99);
    report.at_most("after", after.p99_ms(), "ms", P99);
    report.tell("memory before", format!("{least:.0} MiB"));
    report.at_most("it grew at most by", most - least, "MiB", memory);
    report.tell("and was above that after", format!("{:.0} MiB", (resident_mib(quotad) - least).max(0.0)));
}

/// So many connections that each do the same again and again, until the time is over; how many were closed by the service.
async fn connections<F: Future<Output = ()> + Send>(
    quotad: &Quotad,
    count: u64,
    lasts: Duration,
    one: impl Fn(TcpStream) -> F + Send + Sync + Clone + 'static,
) -> u64 {
    let (ended, closed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut all = JoinSet::new();
    for number in 0..count {
        let (address, one) = (quotad.address().to_owned(), one.clone());
        let (ended, closed) = (Arc::clone(&ended), Arc::clone(&closed));
        all.spawn(async move {
            // Not all in the same moment: so many can't wait to be accepted.
            tokio::time::sleep(Duration::from_micros(number * 200)).await;
            while !ended.load(Ordering::Relaxed) {
                let Ok(stream) = TcpStream::connect(&address).await else { continue };
                one(stream).await;
                closed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(lasts).await;
    ended.store(true, Ordering::Relaxed);
    tokio::time::timeout(CLOSED_WITHIN, all.join_all()).await.expect("every connection is closed");
    closed.load(Ordering::Relaxed)
}

/// Reads until the end. What stands there is not kept.
async fn until_closed(mut stream: impl AsyncReadExt + Unpin) {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

/// Sends a byte a second after a beginning, until it is cut off.
async fn slowly(stream: TcpStream, beginning: &str) {
    let (read, mut write) = stream.into_split();
    let _ = write.write_all(beginning.as_bytes()).await;
    let dribble = async move {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = until_closed(read) => {}
        () = dribble => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_by_the_thousand() {
    let (count, lasts) = either((200, Duration::from_secs(2)), (10_000, Duration::from_secs(30)));
    row(
        "known users unaffected, memory bounded",
        &format!("{count} idle connections, made again and again"),
        async |report| {
            let place = Kind::Node.start();
            let quotad = place.service().start().await;
            let mut closed = 0;
            before_during_after(report, &quotad, Bound { short: 128.0, full: 512.0 }, async || {
                closed = connections(&quotad, count, lasts, until_closed).await;
            })
            .await;
            report.tell("closed", closed);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_senders_by_the_thousand() {
    let (count, lasts) = either((100, Duration::from_secs(2)), (2_000, Duration::from_secs(30)));
    let first = "POST /api/v2/check HTTP/1.1\r\nHost: x\r\n".to_owned();
    let head =
        format!("{first}X-API-Key: {ADMIN_KEY}\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n");
    let body = format!("{head}{}", " ".repeat(500_000));
    let strangers = format!("{first}Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n");
    // Of those with a key 64 MiB may be on their way together, and of each some has come with the head.
    for (what, beginning, memory) in [
        ("heads", format!("{first}X: "), 256.0),
        ("bodies of strangers", strangers, 256.0),
        ("bodies of half a mebibyte, by callers with a key", body, 512.0),
    ] {
        let provoked = format!("{count} senders of {what}, a byte a second");
        row("known users unaffected, memory bounded", &provoked, async |report| {
            let place = Kind::Node.start();
            let quotad = place.service().start().await;
            let beginning: Arc<str> = beginning.as_str().into();
            let mut closed = 0;
            before_during_after(report, &quotad, Bound { short: 256.0, full: memory }, async || {
                let beginning = Arc::clone(&beginning);
                let slow = move |stream| {
                    let beginning = Arc::clone(&beginning);
                    async move { slowly(stream, &beginning).await }
                };
                closed = connections(&quotad, count, lasts, slow).await;
            })
            .await;
            report.tell("given up", closed);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_ids_by_the_million_do_not_slow_the_known() {
    let ids = either(20_000, 10_000_000);
    let provoked = format!("{ids} made-up ids, a table of 100000, a deadline of {} ms", deadline_ms());
    row("known users unaffected, memory bounded", &provoked, async |report| {
        let place = Kind::Node.start();
        let quotad = place.service().set("CACHE_CAPACITY", "100000").start().await;
        let mut allowed = 0;
        // The books hold twice 250,000 rows of usage and of counters, some 225 MiB.
        before_during_after(report, &quotad, Bound { short: 256.0, full: 384.0 }, async || {
            allowed = flood(&quotad, ids, &Arc::new(AtomicU64::new(0)), async |_| {}).await;
        })
        .await;
        report.exactly("made-up ids that were refused", ids - allowed, 0);
    })
    .await;
}
