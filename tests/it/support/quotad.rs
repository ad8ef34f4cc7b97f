//! The service as a process: its own folder, a free port, and nothing of this machine's environment.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::Value;
use tempfile::TempDir;

use super::postgres_server;
use super::redis_server::RedisServer;

const START_WITHIN: Duration = Duration::from_secs(20);
pub const ADMIN_KEY: &str = "an-admin-key-for-tests-of-enough-characters";
pub const JWT_SECRET: &str = "a-secret-for-tests-of-enough-characters";

/// An answer of the service.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Where counters and books are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Embedded,
    RedisAndPostgres,
}

/// The servers that one test's service uses.
pub struct Stores {
    pub redis: Option<RedisServer>,
    vars: Vec<(String, String)>,
    folder: TempDir,
}

impl Stores {
    pub fn start(backend: Backend) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut stores = Self { redis: None, vars: Vec::new(), folder };
        if backend == Backend::RedisAndPostgres {
            let redis = RedisServer::start();
            stores.vars.push(("QUOTAD_REDIS_URL".into(), redis.url()));
            stores.vars.push(("QUOTAD_DATABASE_URL".into(), postgres_server::database()));
            stores.redis = Some(redis);
        }
        stores
    }

    /// Starts the service on these stores, with settings on top.
    pub async fn quotad(&self, settings: &[(&str, &str)]) -> Quotad {
        let own = settings.iter().map(|(name, value)| (format!("QUOTAD_{name}"), (*value).to_owned()));
        let vars: Vec<_> = self.vars.iter().cloned().chain(own).collect();
        for _ in 0..3 {
            let mut quotad = Quotad::spawn(&vars, self.folder.path());
            if quotad.is_ready().await {
                return quotad;
            }
        }
        panic!("quotad did not start");
    }
}

pub struct Quotad {
    child: Child,
    base: String,
    client: Client,
}

impl Quotad {
    fn spawn(vars: &[(String, String)], folder: &std::path::Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let child = Command::new(env!("CARGO_BIN_EXE_quotad"))
            .env_clear()
            .env("QUOTAD_LISTEN", address.to_string())
            .env("QUOTAD_DATA_DIR", folder)
            .env("QUOTAD_ADMIN_KEY", ADMIN_KEY)
            .env("QUOTAD_JWT_SECRET", JWT_SECRET)
            .env("QUOTAD_SHARDS", "2")
            .env("QUOTAD_FLUSH_INTERVAL_MS", "50")
            .envs(vars.iter().cloned())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        Self { child, base: format!("http://{address}"), client: Client::new() }
    }

    async fn is_ready(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < START_WITHIN && matches!(self.child.try_wait(), Ok(None)) {
            if let Ok(answer) = self.client.get(format!("{}/health/ready", self.base)).send().await
                && answer.status() == 200
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        let status = Command::new("/bin/kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
        self.child.wait().expect("it ends").code()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }

    /// A request with the admin key.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.ask_as(method, path, body, &[("x-api-key", ADMIN_KEY)]).await
    }

    pub async fn ask_as(&self, method: Method, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Self::read(request).await
    }

    /// A body as it is, called JSON.
    pub async fn post_text(&self, path: &str, kind: &str, text: Vec<u8>) -> Answer {
        let request = self.client.post(format!("{}{path}", self.base)).header("x-api-key", ADMIN_KEY);
        Self::read(request.header("content-type", kind).body(text)).await
    }

    async fn read(request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = answer.bytes().await.expect("a body");
        Answer { status, headers, json: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    pub async fn check(&self, body: Value) -> Answer {
        self.ask(Method::POST, "/api/v2/check", Some(body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }
}

impl Drop for Quotad {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
