//! The service as a process: its own folder, a free port, and nothing of this machine's environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::Value;
use tempfile::TempDir;

use super::answer::{Answer, token};
use super::certificates::text;
use super::redis_server::RedisServer;
use super::{free_port, postgres_server};

const START_WITHIN: Duration = Duration::from_secs(20);
const STOP_WITHIN: Duration = Duration::from_secs(10);
pub const ADMIN_KEY: &str = "an-admin-key-for-tests-of-enough-characters";
pub const JWT_SECRET: &str = "a-secret-for-tests-of-enough-characters";

/// Where counters and books are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Embedded,
    RedisAndPostgres,
}

/// The servers that one test's services use.
pub struct Stores {
    pub redis: Option<RedisServer>,
    postgres: Option<String>,
    folder: TempDir,
}

impl Stores {
    pub fn start(backend: Backend) -> Self {
        let shared = backend == Backend::RedisAndPostgres;
        Self {
            redis: shared.then(RedisServer::start),
            postgres: shared.then(postgres_server::database),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("this backend has a Redis")
    }

    /// A service on these stores. Embedded ones share the folder; the others have nothing in common but the servers.
    pub fn service(&self) -> Start {
        match (&self.redis, &self.postgres) {
            (Some(redis), Some(url)) => Start::new().redis(redis).postgres(url),
            _ => Start::new().folder(self.folder.path()),
        }
    }

    /// Starts a service on these stores, with settings on top.
    pub async fn quotad(&self, settings: &[(&str, &str)]) -> Quotad {
        settings.iter().fold(self.service(), |start, (name, value)| start.set(name, value)).start().await
    }
}

/// What a service is started with.
#[derive(Clone)]
pub struct Start {
    vars: BTreeMap<String, String>,
    folder: Option<PathBuf>,
    open_files: Option<u32>,
}

impl Start {
    pub fn new() -> Self {
        let start = Self { vars: BTreeMap::new(), folder: None, open_files: None };
        let start = start.set("ADMIN_KEY", ADMIN_KEY).set("JWT_SECRET", JWT_SECRET);
        start.set("SHARDS", "2").set("WORKERS", "2").set("FLUSH_INTERVAL_MS", "50")
    }

    /// A setting, without its prefix.
    pub fn set(self, name: &str, value: &str) -> Self {
        self.env(&format!("QUOTAD_{name}"), value)
    }

    /// A variable by its whole name.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn unset(mut self, name: &str) -> Self {
        self.vars.remove(&format!("QUOTAD_{name}"));
        self
    }

    /// With a deadline that a busy machine keeps; tests of the deadline set their own.
    pub fn redis(self, server: &RedisServer) -> Self {
        let start = self.redis_at(&server.url());
        let Some(certificates) = server.tls() else { return start };
        let (certificate, key) = certificates.client();
        let files = [("CA", certificates.ca()), ("CERT", certificate), ("KEY", key)];
        files.iter().fold(start, |start, (name, path)| start.set(&format!("REDIS_{name}_FILE"), &text(path)))
    }

    /// The same, of sentinels or a cluster.
    pub fn redis_at(self, url: &str) -> Self {
        self.set("REDIS_URL", url).set("REDIS_DEADLINE_MS", "3000")
    }

    pub fn postgres(self, url: &str) -> Self {
        self.set("DATABASE_URL", url)
    }

    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// It may have no more files open than this.
    pub fn open_files(mut self, most: u32) -> Self {
        self.open_files = Some(most);
        self
    }

    /// Runs another command than `serve`, to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = self.command(self.folder.as_deref().unwrap_or(folder.path()));
        command.args(arguments).output().expect("the binary runs")
    }

    /// Starts the service and waits until it is ready. A port that somebody else took is tried for again.
    pub async fn start(&self) -> Quotad {
        for _ in 0..3 {
            let mut quotad = Quotad::spawn(self);
            if quotad.is_ready().await {
                return quotad;
            }
            assert!(quotad.log().contains("cannot listen"), "quotad did not start:\n{}", quotad.log());
        }
        panic!("no port could be had");
    }

    fn command(&self, folder: &Path) -> Command {
        let quotad = env!("CARGO_BIN_EXE_quotad");
        let mut command = match self.open_files {
            None => Command::new(quotad),
            Some(most) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\""), quotad]);
                shell
            }
        };
        command.env_clear().env("QUOTAD_DATA_DIR", folder).envs(&self.vars).stdin(Stdio::null());
        command
    }
}

/// A running service. It is killed when dropped; if the test has failed by then, what it printed is shown.
pub struct Quotad {
    child: Child,
    address: String,
    client: Client,
    own: TempDir,
    data: PathBuf,
}

impl Quotad {
    fn spawn(start: &Start) -> Self {
        let own = tempfile::tempdir().expect("a folder");
        let data = start.folder.clone().unwrap_or_else(|| own.path().join("data"));
        let address = format!("127.0.0.1:{}", free_port());
        let output = std::fs::File::create(own.path().join("output")).expect("a file");
        let child = start
            .command(&data)
            .env("QUOTAD_LISTEN", &address)
            .stdout(output.try_clone().expect("the same file"))
            .stderr(output)
            .spawn()
            .expect("the binary starts");
        // The service closes a line that nobody used for 5 s, and a request could meet that.
        let client = Client::builder().timeout(Duration::from_secs(30)).pool_idle_timeout(Duration::from_secs(2));
        let client = client.build().expect("a client");
        Self { child, address, client, own, data }
    }

    async fn is_ready(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < START_WITHIN && matches!(self.child.try_wait(), Ok(None)) {
            let ready = self.client.get(format!("http://{}/health/ready", self.address)).send().await;
            if ready.is_ok_and(|answer| answer.status() == 200) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The number of its process.
    pub fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// All that it has printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.own.path().join("output")).unwrap_or_default()
    }

    /// SIGTERM: it must end with 0 within ten seconds.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("/bin/kill").args(["-TERM", &id]).status().is_ok_and(|status| status.success()));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                break status;
            }
            assert!(begun.elapsed() < STOP_WITHIN, "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0));
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }

    /// A request with the given headers and no other credential.
    pub async fn ask_as(&self, method: Method, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        let bytes = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send(method, path, bytes, headers).await
    }

    /// A request with the admin key.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.ask_as(method, path, body, &[("x-api-key", ADMIN_KEY)]).await
    }

    /// A request with a token made of these claims; `exp` is an hour away where they have none.
    pub async fn ask_with(&self, claims: Value, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.ask_as(method, path, body, &[("authorization", &format!("Bearer {}", token(claims)))]).await
    }

    /// What `/metrics` says of one name.
    pub async fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics").await.text;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
    }

    pub async fn check(&self, body: Value) -> Answer {
        self.post("/api/v2/check", body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PUT, path, Some(body)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, None).await
    }

    /// A user's quota, as an admin sees it.
    pub async fn quota(&self, user: &str) -> Answer {
        self.get(&format!("/api/v2/admin/quotas/{user}")).await
    }

    /// Any bytes, called what the test calls them.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = match body {
            Some((kind, bytes)) => request.header("content-type", kind).body(bytes),
            None => request,
        };
        let answer = request.send().await.unwrap_or_else(|error| panic!("no answer to {path}: {error:?}"));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.expect("a body");
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, json }
    }
}

impl Drop for Quotad {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- quotad at {} printed:\n{}---", self.address, self.log());
        }
    }
}
