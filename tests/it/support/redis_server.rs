//! A redis-server of the test's own: free port, temporary folder, nothing saved, killed when dropped.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_WITHIN: Duration = Duration::from_secs(10);

pub struct RedisServer {
    port: u16,
    folder: TempDir,
    extra: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments on its command line, such as `&["--maxmemory", "2mb"]`.
    pub fn start_with(extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let extra = extra.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { port: 0, folder, extra, child: None };
        // Between finding a free port and binding it another process may take it, hence the second and third try.
        for _ in 0..3 {
            server.port = free_port();
            server.child = Some(server.spawn());
            if server.wait_until_up() {
                return server;
            }
            server.kill();
        }
        panic!("redis-server did not start: is it installed and in the PATH?");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
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
        self.child = Some(self.spawn());
        assert!(self.wait_until_up(), "redis-server did not start again on port {}", self.port);
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
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output();
        let output = output.expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    fn spawn(&self) -> Child {
        Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.extra)
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

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
