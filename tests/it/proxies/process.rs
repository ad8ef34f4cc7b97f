//! A real proxy as a process of the test's own, with an example's configuration.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::{free_port, until};

const WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Nginx,
    Caddy,
    Haproxy,
}

/// What becomes of a request that quotad can't be asked about. The examples refuse; one line of each lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutQuotad {
    Refuses,
    LetsPass,
}

/// It ends when dropped; if the test has failed by then, what it printed is shown.
pub struct Proxy {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Proxy {
    /// `quotad` is its address, `application` a port of this machine.
    pub async fn start(kind: Kind, without: WithoutQuotad, quotad: &str, application: u16) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let places = [
            ("127.0.0.1:8080", quotad.to_owned()),
            ("127.0.0.1:3000", format!("127.0.0.1:{application}")),
            ("127.0.0.1:8000", format!("127.0.0.1:{port}")),
        ];
        let mut command = match kind {
            Kind::Nginx => nginx(folder.path(), without, &places),
            Kind::Caddy => caddy(folder.path(), without, &places),
            Kind::Haproxy => haproxy(folder.path(), without, &places, port),
        };
        let output = std::fs::File::create(folder.path().join("output")).expect("a file");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("the same file")).stderr(output);
        let proxy = Self { child: command.spawn().expect("the proxy (scripts/test installs it)"), port, folder };
        until(WITHIN, "the proxy listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Told to, it ends its workers too.
        Command::new("/bin/kill").args(["-TERM", &self.child.id().to_string()]).status().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let printed = std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
            println!("--- the proxy printed:\n{printed}---");
        }
    }
}

/// An example with this test's places in the place of its own.
fn placed(example: &str, places: &[(&str, String)]) -> String {
    places.iter().fold(example.to_owned(), |text, (place, own)| {
        assert!(text.contains(place), "{place}");
        text.replace(place, own)
    })
}

/// An example with its one line for letting pass in force.
fn switched(example: &str, without: WithoutQuotad, line: &str, instead: &str) -> String {
    assert_eq!(example.matches(line).count(), 1, "{line}");
    if without == WithoutQuotad::LetsPass { example.replace(line, instead) } else { example.to_owned() }
}

fn nginx(folder: &Path, without: WithoutQuotad, places: &[(&str, String)]) -> Command {
    let at = |name: &str| folder.join(name).display().to_string();
    let example = placed(include_str!("../../../examples/nginx/quotad.conf"), places);
    let example = switched(&example, without, "#error_page 500", "error_page 500");
    std::fs::write(at("quotad.conf"), example).expect("a file");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};", at(name)))
        .concat();
    let whole = format!(
        "pid {}; error_log stderr; daemon off; worker_processes 1; events {{}} http {{ access_log off; {temporary} include {}; }}",
        at("pid"),
        at("quotad.conf")
    );
    std::fs::write(at("nginx.conf"), whole).expect("a file");
    let mut command = Command::new("nginx");
    command.args(["-p", &at(""), "-e", "stderr", "-c", &at("nginx.conf")]);
    command
}

fn caddy(folder: &Path, without: WithoutQuotad, places: &[(&str, String)]) -> Command {
    let example = placed(include_str!("../../../examples/caddy/Caddyfile"), places);
    let example = placed(&example, &[("127.0.0.1:8001", format!("127.0.0.1:{}", free_port()))]);
    let example = switched(&example, without, "#import let_pass", "import let_pass");
    let file = folder.join("Caddyfile");
    std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{example}")).expect("a file");
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).env("HOME", folder);
    command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
    command
}

fn haproxy(folder: &Path, without: WithoutQuotad, places: &[(&str, String)], port: u16) -> Command {
    let script = folder.join("quotad.lua");
    // The name stands in the kernel, so each test has its own.
    let own = [("abns@quotad", format!("abns@quotad-{port}"))];
    let example = placed(include_str!("../../../examples/haproxy/quotad.lua"), &own);
    std::fs::write(&script, example).expect("a file");
    let example = placed(include_str!("../../../examples/haproxy/haproxy.cfg"), places);
    let example = placed(&example, &own);
    let example = placed(&example, &[("/etc/haproxy/quotad.lua", script.display().to_string())]);
    let example = switched(&example, without, "http-request deny", "#http-request deny");
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, example).expect("a file");
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f"]).arg(&file);
    command
}
