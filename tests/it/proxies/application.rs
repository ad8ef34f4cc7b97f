//! The application behind a proxy: it answers with the head of what it was asked, and takes WebSockets, whose bytes it sends back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Of the handshake that RFC 6455 (1.3) shows: HAProxy lets no other than a right answer pass.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub struct Application {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Application {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((line, _)) = listener.accept().await {
                tokio::spawn(serve(line, Arc::clone(&counter)));
            }
        });
        Self { port, asked }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many requests have reached it.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(mut line: TcpStream, asked: Arc<AtomicUsize>) {
    let Some(head) = head(&mut line).await else { return };
    asked.fetch_add(1, Ordering::SeqCst);
    if !head.contains("upgrade: websocket") {
        let length = head.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{head}");
        line.write_all(answer.as_bytes()).await.ok();
        return;
    }
    let switches = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    line.write_all(switches.as_bytes()).await.ok();
    let (mut from, mut to) = line.split();
    tokio::io::copy(&mut from, &mut to).await.ok();
}

/// The head of a message, in small letters; none where the line ends before it does.
pub async fn head(line: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(line.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).to_lowercase())
}
