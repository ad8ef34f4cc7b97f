//! A line that can be broken: it stands between the service and a server, on loopback, and fails as it is told to.
//!
//! | told | new connections | open ones |
//! |---|---|---|
//! | [`set`](TcpProxy::set) | as [`Replies`] says | the same |
//! | [`hold_requests`](TcpProxy::hold_requests) | nothing asked arrives, answers do | the same |
//! | [`go_half_open`](TcpProxy::go_half_open) | pass | carry nothing any more, and stay open |
//! | [`cut`](TcpProxy::cut) | pass | are closed |
//! | [`refuse`](TcpProxy::refuse) | are closed at once | are closed |
//! | [`lead_to`](TcpProxy::lead_to) | go to another server | are closed |
//! | [`at_next`](TcpProxy::at_next) | the one that next asks with a text meets a fate | the same |
//!
//! [`accepted`](TcpProxy::accepted) counts every attempt to connect, also those that were refused.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of the bytes that come back from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    Pass,
    /// Later by so much.
    Late(Duration),
    /// One byte a packet.
    Sliced,
    /// Replaced by bytes that are no reply; then the line is cut.
    Garbage,
    /// The line is cut in the place of a reply: what was asked has been done.
    Lost,
    /// They do not come, and the line stays open: what was asked has been done.
    Swallowed,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The server executes it, and the line is cut in the place of its reply.
    LosesReply,
    /// The server never gets it, and the line is cut.
    IsLost,
    /// The server never gets it, and neither side hears of it.
    IsHeld,
}

pub struct TcpProxy {
    port: u16,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

struct Shared {
    server: AtomicU16,
    replies: Mutex<Replies>,
    next: Mutex<Option<(&'static str, Fate)>>,
    holds_requests: AtomicBool,
    refuses: AtomicBool,
    /// Connections of an earlier epoch carry nothing any more, and stay open.
    epoch: AtomicU64,
    /// Changes when all open connections are to end.
    cuts: watch::Sender<u64>,
    accepted: AtomicUsize,
}

impl TcpProxy {
    /// Passes everything on to a port of this machine, until it is told otherwise.
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            server: AtomicU16::new(server),
            replies: Mutex::new(Replies::Pass),
            next: Mutex::new(None),
            holds_requests: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
            accepted: AtomicUsize::new(0),
        });
        let its_own = Arc::clone(&shared);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                its_own.accepted.fetch_add(1, Ordering::Relaxed);
                if !its_own.refuses.load(Ordering::Relaxed) {
                    tokio::spawn(carry_until_cut(client, Arc::clone(&its_own)));
                }
            }
        });
        Self { port, shared, listener }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, replies: Replies) {
        *self.shared.replies.lock().unwrap_or_else(PoisonError::into_inner) = replies;
    }

    /// What becomes of the next request that holds this text.
    pub fn at_next(&self, text: &'static str, fate: Fate) {
        *self.shared.next() = Some((text, fate));
    }

    /// A line that is cut one way: what is asked meanwhile never arrives, not even afterwards.
    pub fn hold_requests(&self, hold: bool) {
        self.shared.holds_requests.store(hold, Ordering::Relaxed);
    }

    /// The connections that are open carry nothing any more, though neither end is told. New ones do.
    pub fn go_half_open(&self) {
        self.shared.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the connections that are open.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// No connection is had any more, until it is told otherwise.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuses.store(refuse, Ordering::Relaxed);
        if refuse {
            self.cut();
        }
    }

    /// From now on another server stands behind it.
    pub fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::Relaxed);
        self.cut();
    }

    /// How many connections were made, or tried.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn next(&self) -> MutexGuard<'_, Option<(&'static str, Fate)>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate_of(&self, asked: &[u8]) -> Option<Fate> {
        let is_met = |(text, _): &mut (&str, Fate)| asked.windows(text.len()).any(|window| window == text.as_bytes());
        self.next().take_if(is_met).map(|(_, fate)| fate)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn carry_until_cut(client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    tokio::select! {
        _ = cuts.changed() => {}
        () = carry(client, &shared) => {}
    }
}

async fn carry(client: TcpStream, shared: &Shared) {
    let server = shared.server.load(Ordering::Relaxed);
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    let born = shared.epoch.load(Ordering::Relaxed);
    let is_dead = || shared.epoch.load(Ordering::Relaxed) != born;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let loses_reply = AtomicBool::new(false);
    let asked = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if is_dead() {
                std::future::pending::<()>().await;
            }
            if shared.holds_requests.load(Ordering::Relaxed) {
                continue;
            }
            match shared.fate_of(&bytes[..count]) {
                Some(Fate::LosesReply) => loses_reply.store(true, Ordering::Relaxed),
                Some(Fate::IsLost) => return,
                Some(Fate::IsHeld) => std::future::pending().await,
                None => {}
            }
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let answered = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            if is_dead() {
                std::future::pending::<()>().await;
            }
            if loses_reply.load(Ordering::Relaxed) {
                return;
            }
            let replies = *shared.replies.lock().unwrap_or_else(PoisonError::into_inner);
            let sent = match replies {
                Replies::Pass => to_client.write_all(&bytes[..count]).await,
                Replies::Late(pause) => {
                    tokio::time::sleep(pause).await;
                    to_client.write_all(&bytes[..count]).await
                }
                Replies::Sliced => {
                    let mut sent = Ok(());
                    for byte in bytes[..count].chunks(1) {
                        sent = to_client.write_all(byte).await;
                        tokio::task::yield_now().await;
                    }
                    sent
                }
                Replies::Garbage => {
                    let _ = to_client.write_all(b"HTTP/1.1 418 I'm a teapot\r\n\r\n\0\xff$-7\r\n").await;
                    return;
                }
                Replies::Lost => return,
                Replies::Swallowed => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = asked => {}
        () = answered => {}
    }
}
