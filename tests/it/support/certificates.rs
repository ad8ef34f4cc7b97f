//! A certificate authority of the test's own, made by openssl: what a server shows, and what its clients must show.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Paths of PEM files. They are removed with this.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// For a server on loopback, called `localhost` or by its address.
    pub fn make() -> Self {
        let made = Self { folder: tempfile::tempdir().expect("a folder") };
        made.openssl(&["req", "-x509", "-subj", "/CN=quotad test CA", "-keyout", "ca.key", "-out", "ca.pem"], true);
        fs::write(made.path("server.ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
            .and_then(|()| fs::write(made.path("client.ext"), "basicConstraints=CA:FALSE\n"))
            .expect("files");
        for name in ["server", "client"] {
            let [key, request, certificate, extensions] =
                ["key", "csr", "pem", "ext"].map(|end| format!("{name}.{end}"));
            made.openssl(&["req", "-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &request], true);
            let signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
            let signed = ["x509", "-req", "-in", &request, "-extfile", &extensions, "-out", &certificate, "-days", "2"];
            made.openssl(&[&signed[..], &signed_by].concat(), false);
        }
        made
    }

    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.path("server.pem"), self.path("server.key"))
    }

    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.path("client.pem"), self.path("client.key"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, arguments: &[&str], with_new_key: bool) {
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let mut command = Command::new("openssl");
        command.current_dir(self.folder.path()).args(arguments).args(if with_new_key { &new_key[..] } else { &[] });
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
