//! A receiver of webhooks on loopback that does what a test wants: takes events, refuses them, is slow, or is not there.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::free_port;

/// An event as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// What was answered.
    pub status: u16,
    pub at: Instant,
}

impl Received {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

#[derive(Debug)]
struct State {
    received: Vec<Received>,
    status: u16,
    /// How long it takes to answer.
    delay: Duration,
}

/// A receiver; there is none at its address while it is stopped.
pub struct Receiver {
    port: u16,
    state: Arc<Mutex<State>>,
    running: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Receiver {
    pub fn start() -> Self {
        let state = State { received: Vec::new(), status: 204, delay: Duration::ZERO };
        let mut receiver = Self { port: free_port(), state: Arc::new(Mutex::new(state)), running: None };
        receiver.start_again();
        receiver
    }

    /// With a password in it, which nobody should see again.
    pub fn url(&self) -> String {
        format!("http://ann:hunter2@127.0.0.1:{}/events?token=hunter2", self.port)
    }

    pub fn stop(&mut self) {
        if let Some((told_to_stop, thread)) = self.running.take() {
            told_to_stop.store(true, Ordering::Relaxed);
            // It sees it with the next connection.
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
            thread.join().expect("it does not panic");
        }
    }

    pub fn start_again(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("its port");
        let told_to_stop = Arc::new(AtomicBool::new(false));
        let (stops, state) = (Arc::clone(&told_to_stop), Arc::clone(&self.state));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stops.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&state);
                // Whoever has gone meanwhile is not answered.
                std::thread::spawn(move || drop(answer(stream, &state)));
            }
        });
        self.running = Some((told_to_stop, thread));
    }

    /// What it answers from now on.
    pub fn answers(&self, status: u16) {
        self.state.lock().expect("no panic").status = status;
    }

    pub fn takes(&self, delay: Duration) {
        self.state.lock().expect("no panic").delay = delay;
    }

    /// All that came, with what is answered still.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().expect("no panic").received.clone()
    }

    /// The bodies of events that were taken, in the order in which they came.
    pub fn taken(&self) -> Vec<Value> {
        let taken = |event: &Received| (200..300).contains(&event.status).then(|| event.json());
        self.received().iter().filter_map(taken).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    let (head, mut body) = loop {
        if let Some(end) = read.windows(4).position(|end| end == b"\r\n\r\n") {
            break (String::from_utf8_lossy(&read[..end]).into_owned(), read[end + 4..].to_vec());
        }
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => read.extend_from_slice(&piece[..count]),
        }
    };
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or_default();
    while body.len() < length {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => body.extend_from_slice(&piece[..count]),
        }
    }
    let body = String::from_utf8(body).expect("UTF-8");
    let (status, delay) = {
        let mut state = state.lock().expect("no panic");
        let (status, delay) = (state.status, state.delay);
        state.received.push(Received { headers, body, status, at: Instant::now() });
        (status, delay)
    };
    std::thread::sleep(delay);
    let said = format!("said {status}");
    let body = if status == 204 { "" } else { &said };
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(stream, "HTTP/1.1 {status} X\r\n{length}Connection: close\r\n\r\n{body}")
}
