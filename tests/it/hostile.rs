//! Callers who mean harm, on bare sockets: what they send is refused or given up, and nobody else waits for them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::quotad::{ADMIN_KEY, Quotad, Start};

/// Nothing stands still for longer than a minute; a busy machine may notice it later.
const STILL_MAX: Duration = Duration::from_secs(75);

/// Idle connections are closed after 5 s, and those of a stranger who speaks no HTTP.
const IDLE_MAX: Duration = Duration::from_secs(15);

const HEALTHY: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";

fn connect(quotad: &Quotad) -> TcpStream {
    let stream = TcpStream::connect(quotad.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(90))).expect("a timeout");
    stream
}

/// All that comes until the connection is closed. What was still on its way then makes a reset of the end.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
            panic!("it is still open")
        }
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn answer(quotad: &Quotad, request: &[u8]) -> String {
    let mut stream = connect(quotad);
    // The server may close before it has read all.
    let _ = stream.write_all(request);
    rest(&mut stream)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {answer:?}"))
}

fn post(path: &str, lines: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{lines}\r\n")
}

async fn is_well(quotad: &Quotad) {
    assert_eq!(quotad.check(json!({"user_id": "somebody"})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_has_a_bound() {
    let quotad = Start::new().start().await;
    let many: String = (0..100).map(|number| format!("X-{number}: x\r\n")).collect();
    let long = format!("X: {}\r\n", "x".repeat(200_000));
    for (what, request, expected) in [
        ("many lines", format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{many}\r\n"), "431"),
        ("a long line", format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{long}\r\n"), "431"),
        ("a long path", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(70_000)), "400"),
        ("no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(), "400"),
        ("two lengths", post("/api/v2/check", "Content-Length: 2\r\nContent-Length: 3\r\n"), "400"),
        ("a length, and pieces", post("/api/v2/check", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), "400"),
    ] {
        let answer = answer(&quotad, request.as_bytes());
        assert_eq!(status(&answer), expected, "{what}: {answer}");
    }
    is_well(&quotad).await;
}

/// Ten thousand strangers with a megabyte each would fill the memory: theirs is not even waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_of_a_stranger_is_not_read() {
    let quotad = Start::new().start().await;
    for credential in ["", "X-API-Key: qd_0000000000000000_wrong\r\n", "Authorization: Bearer a.b.c\r\n"] {
        for path in ["/api/v2/check", "/api/v2/check/batch", "/api/v2/leases", "/api/v2/admin/keys"] {
            let head = post(path, &format!("{credential}Content-Length: 1000000\r\n"));
            let begun = Instant::now();
            let answer = answer(&quotad, format!("{head}{{").as_bytes());
            assert_eq!(status(&answer), "401", "{path} {credential}: {answer}");
            assert!(begun.elapsed() < Duration::from_secs(4), "it was not waited for: {:?}", begun.elapsed());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_a_mebibyte_is_given_up_before_it_is_there() {
    let quotad = Start::new().start().await;
    let key = format!("X-API-Key: {ADMIN_KEY}\r\n");
    let told = post("/api/v2/check", &format!("{key}Content-Length: 1048577\r\n"));
    let in_pieces = post("/api/v2/check", &format!("{key}Transfer-Encoding: chunked\r\n"));
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
    for request in [told, format!("{in_pieces}{}", piece.repeat(17))] {
        let mut stream = connect(&quotad);
        let _ = stream.write_all(request.as_bytes());
        let mut first = [0; 12];
        stream.read_exact(&mut first).expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 413");
    }
    is_well(&quotad).await;
}

/// Callers with a key who send slowly: what they may have on its way together has a bound, and others come through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_on_their_way_have_a_bound_together() {
    let quotad = Start::new().start().await;
    let begin = |path: &str, length: usize| {
        let head = post(path, &format!("X-API-Key: {ADMIN_KEY}\r\nContent-Length: {length}\r\n"));
        let mut stream = connect(&quotad);
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(b"{")).expect("half a request");
        stream
    };
    let begun = Instant::now();
    let mut slow: Vec<TcpStream> = (0..64).map(|_| begin("/api/v2/check/batch", 1024 * 1024)).collect();
    // Their heads have been read once a later request is answered; each worker has its own.
    for _ in 0..10 {
        is_well(&quotad).await;
    }
    let refused = rest(&mut begin("/api/v2/check/batch", 64 * 1024));
    assert_eq!(status(&refused), "503", "{refused}");
    assert!(refused.to_ascii_lowercase().contains("retry-after: 1"), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it was not waited for");
    let body = json!({"user_id": "x"}).to_string();
    let mut small = begin("/api/v2/check", body.len());
    small.write_all(&body.as_bytes()[1..]).expect("the other half");
    let mut first = [0; 12];
    small.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");

    // Given up, they leave their room to others.
    for stream in &mut slow {
        assert_eq!(status(&rest(stream)), "408");
    }
    assert_eq!(status(&rest(&mut begin("/api/v2/check/batch", 64 * 1024))), "408");
}

/// How long a connection lives that is answered once, and does this again and again then. What it reads tells it of its end,
/// or else what it can't write.
fn lives(quotad: &Quotad, reads: bool, again: impl Fn(&mut TcpStream, bool) -> io::Result<()>) -> Duration {
    let mut stream = connect(quotad);
    stream.write_all(HEALTHY.as_bytes()).expect("a request");
    let mut bytes = [0; 4096];
    assert!(stream.read(&mut bytes).expect("an answer") > 0);
    let pause = Some(Duration::from_millis(500));
    stream.set_read_timeout(pause).and_then(|()| stream.set_write_timeout(pause)).expect("timeouts");
    let goes_on = |done: io::Result<()>| match done {
        Ok(()) => true,
        Err(error) => [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
    };
    let begun = Instant::now();
    let mut first = true;
    while goes_on(again(&mut stream, std::mem::take(&mut first))) {
        assert!(begun.elapsed() < STILL_MAX, "it still lives");
        if !reads {
            std::thread::sleep(Duration::from_millis(500));
        } else if !goes_on(
            stream.read(&mut bytes).and_then(
                |count| {
                    if count == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
                },
            ),
        ) {
            break;
        }
    }
    begun.elapsed()
}

/// Actix bounds the first head of a connection alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_still_later_is_closed_too() {
    let quotad = Start::new().start().await;
    let answers = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n".repeat(4000);
    let pieces = "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let once = |stream: &mut TcpStream, first: bool, text: &str| {
        if first { stream.write_all(text.as_bytes()) } else { Ok(()) }
    };
    std::thread::scope(|scope| {
        let ways = [
            ("nothing at all", scope.spawn(|| lives(&quotad, true, |_, _| Ok(())))),
            ("half a head, letter by letter", scope.spawn(|| lives(&quotad, true, |stream, _| stream.write_all(b"G")))),
            (
                "half a head, then silence",
                scope.spawn(|| lives(&quotad, true, |stream, first| once(stream, first, "GET / HTTP"))),
            ),
            (
                "a body in pieces that nobody reads",
                scope.spawn(|| {
                    lives(&quotad, true, |stream, first| {
                        once(stream, first, pieces)?;
                        stream.write_all(b"1\r\nx\r\n")
                    })
                }),
            ),
            (
                "answers that nobody takes",
                scope.spawn(|| {
                    lives(&quotad, false, |stream, first| {
                        once(stream, first, &answers)?;
                        stream.write_all(b"x")
                    })
                }),
            ),
        ];
        for (what, way) in ways {
            println!("{what}: closed after {:?}", way.join().expect(what));
        }
    });
    is_well(&quotad).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed_and_nobody_waits_for_them() {
    let quotad = Start::new().start().await;
    let mut idle: Vec<TcpStream> = (0..150).map(|_| connect(&quotad)).collect();
    for stream in idle.iter_mut().step_by(2) {
        stream.write_all(HEALTHY.as_bytes()).expect("a request");
    }
    for _ in 0..20 {
        let begun = Instant::now();
        is_well(&quotad).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    let begun = Instant::now();
    idle.iter_mut().for_each(|stream| drop(rest(stream)));
    assert!(begun.elapsed() < IDLE_MAX, "{:?}", begun.elapsed());
}

/// Past the files that the process may have open, callers wait; the database and whoever is connected do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_there_may_be_wait_until_others_are_closed() {
    let quotad = Start::new().open_files(170).start().await;
    let idle: Vec<TcpStream> = (0..150).map(|_| connect(&quotad)).collect();
    let begun = Instant::now();
    let mut late = connect(&quotad);
    late.write_all(HEALTHY.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).expect("a request");
    assert_eq!(status(&rest(&mut late)), "200");
    println!("answered after {:?}", begun.elapsed());
    drop(idle);
    assert_eq!(quotad.put("/api/v2/admin/users/u", json!({"tier": "pro"})).await.status, 200);
    assert!(!quotad.log().contains("Error accepting"), "{}", quotad.log());
}
