//! A redis-server of the test's own: free port, temporary folder, nothing saved, killed when dropped.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::certificates::{Certificates, text};
use super::free_port;

const START_WITHIN: Duration = Duration::from_secs(10);

pub struct RedisServer {
    port: u16,
    folder: TempDir,
    /// Its whole command line.
    arguments: Vec<String>,
    password: Option<String>,
    tls: Option<Certificates>,
    /// Variables of its environment.
    vars: Vec<(String, String)>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments on its command line, such as `&["--maxmemory", "2mb"]`.
    pub fn start_with(extra: &[&str]) -> Self {
        Self::start_in(extra, &[])
    }

    /// With variables in its environment too.
    pub fn start_in(extra: &[&str], vars: &[(&str, &str)]) -> Self {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut server = Self::planned(extra);
        server.vars = vars;
        server.start_first(|port, folder| {
            let mut arguments = ["--port", &port.to_string()].map(str::to_owned).to_vec();
            arguments.extend(plain_arguments(folder, extra));
            arguments
        });
        server
    }

    /// That listens by TLS alone, and asks its clients for a certificate.
    pub fn start_tls() -> Self {
        let certificates = Certificates::make();
        let ((certificate, key), ca) = (certificates.server(), certificates.ca());
        let mut server = Self::planned(&[]);
        server.tls = Some(certificates);
        server.start_first(|port, folder| {
            let mut arguments = ["--port", "0", "--tls-port", &port.to_string()].map(str::to_owned).to_vec();
            for (name, path) in [("cert-file", &certificate), ("key-file", &key), ("ca-cert-file", &ca)] {
                arguments.extend([format!("--tls-{name}"), text(path)]);
            }
            arguments.extend(plain_arguments(folder, &["--tls-auth-clients", "yes"]));
            arguments
        });
        server
    }

    /// Started as sentinel, by a file in its folder that it may write to.
    pub fn start_sentinel(port: u16, configuration: &str, password: Option<&str>) -> Self {
        let mut server = Self::planned(&[]);
        server.password = password.map(str::to_owned);
        server.port = port;
        let file = server.folder.path().join("sentinel.conf");
        std::fs::write(&file, configuration).expect("its configuration");
        server.arguments = vec![text(&file), "--sentinel".to_owned()];
        server.start_again();
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/0", if self.tls.is_some() { "rediss" } else { "redis" }, self.port)
    }

    /// Where it listens by TLS.
    pub fn tls(&self) -> Option<&Certificates> {
        self.tls.as_ref()
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// `kill -9`, and everything that was stored is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// An empty server on the same port; waits until it answers.
    pub fn start_again(&mut self) {
        self.kill();
        let begun = Instant::now();
        // The port may be held for a moment by a connection that somebody else is making.
        while begun.elapsed() < START_WITHIN {
            self.child = Some(self.spawn());
            if self.wait_until_up() {
                return;
            }
            self.kill();
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("redis-server did not start on port {}", self.port);
    }

    /// Killed and started once more, with more arguments, without waiting until it has loaded what it had saved.
    pub fn start_loading(&mut self, extra: &[&str]) {
        self.kill();
        let more = extra.iter().map(|argument| (*argument).to_owned());
        let own = std::mem::take(&mut self.arguments);
        self.arguments = own.iter().cloned().chain(more).collect();
        self.child = Some(self.spawn());
        self.arguments = own;
    }

    pub fn wait_until_loaded(&mut self) {
        assert!(self.wait_until_up(), "redis-server did not load");
    }

    /// Which password `cli` says from now on.
    pub fn set_password(&mut self, password: Option<&str>) {
        self.password = password.map(str::to_owned);
    }

    /// SIGSTOP: connections stay open and nothing is answered, until [`cont`](Self::cont).
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.signal("-CONT");
    }

    /// Stopped for that long, then let go on.
    pub fn stop_cont(&self, pause: Duration) {
        self.stop();
        std::thread::sleep(pause);
        self.cont();
    }

    /// Runs `redis-cli` with the arguments and returns what it prints, without the last line break.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).stdin(Stdio::null()).output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// The same with one command a line, over one connection.
    pub fn cli_lines(&self, lines: &str) -> String {
        let mut child = self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("redis-cli runs");
        child.stdin.take().expect("its input").write_all(lines.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// How many replicas are sent each write as it is made.
    pub fn replicas_in_step(&self) -> usize {
        let info = self.cli(&["INFO", "replication"]);
        info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online")).count()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        if let Some(certificates) = &self.tls {
            let (certificate, key) = certificates.client();
            command.arg("--tls").arg("--cacert").arg(certificates.ca()).arg("--cert").arg(certificate);
            command.arg("--key").arg(key);
        }
        command
    }

    /// One line of what `INFO` tells, as `connected_slaves`.
    pub fn info(&self, name: &str) -> String {
        let info = self.cli(&["INFO"]);
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim_end().to_owned()
    }

    fn planned(extra: &[&str]) -> Self {
        let password =
            extra.iter().position(|argument| *argument == "--requirepass").map(|at| extra[at + 1].to_owned());
        Self {
            port: 0,
            folder: tempfile::tempdir().expect("a temporary folder"),
            arguments: Vec::new(),
            password,
            tls: None,
            vars: Vec::new(),
            child: None,
        }
    }

    fn start_first(&mut self, arguments: impl Fn(u16, &Path) -> Vec<String>) {
        // Between finding a free port and binding it another process may take it, hence the second and third try.
        for _ in 0..3 {
            self.port = free_port();
            self.arguments = arguments(self.port, self.folder.path());
            self.child = Some(self.spawn());
            if self.wait_until_up() {
                return;
            }
            self.kill();
        }
        panic!("redis-server did not start: is it installed and in the PATH?");
    }

    fn spawn(&self) -> Child {
        Command::new("redis-server")
            .args(&self.arguments)
            .envs(self.vars.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is in the PATH")
    }

    /// `false` where the process ended instead, or took too long.
    fn wait_until_up(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < START_WITHIN {
            let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended {
                return false;
            }
            if self.answers() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Any answer will do: a server with a password says NOAUTH.
    fn answers(&self) -> bool {
        if self.tls.is_some() {
            return self.cli(&["PING"]) == "PONG";
        }
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut answer = [0; 5];
        stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut answer)).is_ok() && &answer != b"-LOAD"
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the server runs");
        let status = Command::new("/bin/kill").args([signal, &child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal} failed");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn plain_arguments(folder: &Path, extra: &[&str]) -> Vec<String> {
    let folder = text(folder);
    let own = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &folder];
    own.iter().chain(extra).map(|argument| (*argument).to_owned()).collect()
}
