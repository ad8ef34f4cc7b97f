//! Who asks through a proxy, from an address of its own, and lies about it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::application::{KEY, head};
use super::process::Proxy;
use crate::support::answer::Answer;

/// What a client may write to pay less, or to be taken for another.
pub const LIES: [(&str, &str); 8] = [
    ("x-forwarded-for", "203.0.113.9"),
    ("forwarded", "for=203.0.113.9"),
    ("x-forwarded-uri", "/ws"),
    ("x-original-uri", "/ws"),
    ("x-forwarded-method", "LIE"),
    ("x-original-method", "LIE"),
    ("x-quotad-subject", "user:lie"),
    ("x-quotad-tier", "lie"),
];

pub struct Client {
    http: reqwest::Client,
    address: Ipv4Addr,
    port: u16,
}

impl Client {
    /// On loopback, 127.0.0.`last`.
    pub fn at(last: u8, proxy: &Proxy) -> Self {
        let address = Ipv4Addr::new(127, 0, 0, last);
        let http = reqwest::Client::builder().local_address(IpAddr::V4(address)).timeout(Duration::from_secs(20));
        Self { http: http.build().expect("a client"), address, port: proxy.port() }
    }

    /// A request with all [`LIES`], which would have the proxy drop headers of its own, too.
    pub async fn ask(&self, path: &str, credential: Option<&str>) -> Answer {
        let request = self.http.get(format!("http://127.0.0.1:{}{path}", self.port));
        let request = LIES.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.header("connection", "keep-alive, x-quotad-subject, x-quotad-tier, x-forwarded-for");
        let request = credential.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.expect("text");
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, json }
    }

    /// Opens a WebSocket on `/ws`; its head, and whether bytes come back through it.
    pub async fn upgrade(&self, credential: Option<&str>) -> (String, bool) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((self.address, 0))).expect("an address");
        let line = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await;
        let mut line: TcpStream = line.expect("a line");
        let credential = credential.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{credential}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.port
        );
        line.write_all(request.as_bytes()).await.expect("it is asked");
        let head = head(&mut line).await.expect("an answer");
        if !head.starts_with("http/1.1 101 ") {
            return (head, false);
        }
        line.write_all(b"frame").await.expect("the line is open");
        let mut back = [0; 5];
        line.read_exact(&mut back).await.expect("what was sent");
        (head, &back == b"frame")
    }
}
