//! An app on a free port, on threads of this process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Payload, ServiceConfig};
use actix_web::{App, HttpResponse, HttpServer, error};
use futures_util::StreamExt;
use quotad::middleware::QuotaBuilder;
use reqwest::Client;
use serde_json::Value;

use super::actix_app;
use crate::support::answer::Answer;

/// A running app. It is stopped when dropped.
pub struct RunningApp {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
    client: Client,
}

/// Routes beside those of the example.
fn routes(app: &mut ServiceConfig) {
    app.configure(actix_app::routes)
        .route(
            "/fails",
            web::get().to(async || Err::<&str, _>(error::InternalError::new("no", StatusCode::IM_A_TEAPOT))),
        )
        .route("/panics", web::get().to(panics))
        .route("/endless", web::get().to(endless))
        .route("/upgrade", web::get().to(upgrade));
}

async fn panics() -> HttpResponse {
    panic!("on purpose");
}

/// Something every ten milliseconds.
async fn endless() -> HttpResponse {
    let pieces = futures_util::stream::unfold((), |()| async {
        actix_web::rt::time::sleep(Duration::from_millis(10)).await;
        Some((Ok::<_, actix_web::Error>(Bytes::from_static(b"more")), ()))
    });
    HttpResponse::Ok().streaming(pieces)
}

/// Says back what it is told, as a WebSocket would.
async fn upgrade(payload: Payload) -> HttpResponse {
    let said = payload.map(|piece| piece.map_err(actix_web::Error::from));
    HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS).upgrade("websocket").streaming(said)
}

impl RunningApp {
    pub fn start(limits: QuotaBuilder) -> Self {
        let (started, running) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let quota = limits.start().await.expect("limits");
                let limiting = quota.clone();
                let app = move || App::new().wrap(limiting.clone()).configure(routes);
                let server = HttpServer::new(app).workers(2).h1_allow_half_closed(false).disable_signals();
                let server = server.bind(("127.0.0.1", 0)).expect("a free port");
                let address = server.addrs()[0];
                let server = server.run();
                started.send((address, server.handle())).expect("somebody waits");
                server.await.expect("it serves");
                quota.stop().await;
            });
        });
        let (address, handle) = running.recv().expect("it starts");
        let client = Client::builder().pool_max_idle_per_host(0).build().expect("a client");
        Self { address, handle, thread: Some(thread), client }
    }

    /// A request of a user on a connection of its own; of nobody where the name is empty.
    pub fn request(&self, path: &str, user: &str) -> impl Future<Output = reqwest::Result<Answer>> + Send + use<> {
        let request = self.client.get(format!("http://{}{path}", self.address));
        let request = if user.is_empty() { request } else { request.header("x-user", user) };
        async move {
            let answer = request.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let text = answer.text().await?;
            let json = serde_json::from_str(&text).unwrap_or(Value::Null);
            Ok(Answer { status, headers, text, json })
        }
    }

    /// A client that asks until it has a slot, which whoever looks for a free one may have for a moment.
    pub fn hold(&self, path: &str, user: &str) -> tokio::task::JoinHandle<()> {
        let (client, url, user) = (self.client.clone(), format!("http://{}{path}", self.address), user.to_owned());
        tokio::spawn(async move {
            loop {
                let answer = client.get(&url).header("x-user", &user).send().await.expect("an answer");
                if answer.status() != 429 {
                    answer.bytes().await.expect("a body");
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    }

    pub async fn get(&self, path: &str, user: &str) -> Answer {
        self.request(path, user).await.expect("an answer")
    }

    /// A connection that is a WebSocket from now on, or what was answered instead.
    pub fn upgrade(&self, user: &str) -> Result<TcpStream, String> {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        let head = format!(
            "GET /upgrade HTTP/1.1\r\nHost: app\r\nX-User: {user}\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it is sent");
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        if answer.starts_with("HTTP/1.1 101 ") { Ok(stream) } else { Err(answer) }
    }
}

impl Drop for RunningApp {
    fn drop(&mut self) {
        // What it has begun to do is done by its own threads.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
