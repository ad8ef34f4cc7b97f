//! Who signs tokens: keys made by openssl, and the address where an issuer publishes them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A private key, and what others may know of it.
pub struct SigningKey {
    pub algorithm: Algorithm,
    key: EncodingKey,
    /// Its name, and its public half with it.
    pub jwk: Value,
    folder: TempDir,
}

impl SigningKey {
    pub fn make(id: &str, algorithm: Algorithm) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let kind: &[&str] = match algorithm {
            Algorithm::RS256 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            Algorithm::ES256 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Algorithm::EdDSA => &["-algorithm", "ED25519"],
            other => panic!("no key for {other:?}"),
        };
        openssl(folder.path(), &[&["genpkey", "-out", "key.pem"], kind].concat());
        openssl(folder.path(), &["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
        let pem = std::fs::read(folder.path().join("key.pem")).expect("a key");
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(&pem),
            Algorithm::ES256 => EncodingKey::from_ec_pem(&pem),
            _ => EncodingKey::from_ed_pem(&pem),
        };
        let key = key.expect("a key of that kind");
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).expect("its public half")).expect("JSON");
        jwk["kid"] = json!(id);
        Self { algorithm, key, jwk, folder }
    }

    pub fn public_pem(&self) -> PathBuf {
        self.folder.path().join("public.pem")
    }

    /// A token of these claims that names the key.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: self.jwk["kid"].as_str().map(str::to_owned), ..Header::new(self.algorithm) };
        self.sign_with(&header, claims)
    }

    /// The signature of a text that may be no token at all, as a token has it.
    pub fn signature(&self, text: &str) -> String {
        jsonwebtoken::crypto::sign(text.as_bytes(), &self.key, self.algorithm).expect("a signature")
    }

    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        let mut claims = claims.clone();
        if claims.get("exp").is_none() {
            claims["exp"] = json!(jiff::Timestamp::now().as_second() + 3600);
        }
        jsonwebtoken::encode(header, &claims, &self.key).expect("a token")
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let run = Command::new("openssl").current_dir(folder).args(arguments).output().expect("openssl");
    assert!(run.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
}

/// What the address answers.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// An address on loopback that publishes keys.
pub struct Issuer {
    address: String,
    state: Arc<Mutex<(Answer, usize)>>,
}

impl Issuer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/keys.json", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new((Answer { status: 503, body: String::new() }, 0)));
        let shared = Arc::clone(&state);
        // It ends with the tests' process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = {
                    let mut state = shared.lock().expect("no panic");
                    state.1 += 1;
                    state.0.clone()
                };
                // A caller who has gone is not answered.
                let _ = give(stream, &answer);
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
        self.answer(Answer { status: 200, body: json!({ "keys": keys }).to_string() });
    }

    pub fn answer(&self, answer: Answer) {
        self.state.lock().expect("no panic").0 = answer;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.state.lock().expect("no panic").1
    }
}

fn give(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut read = Vec::new();
    let mut piece = [0; 1024];
    while !read.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => read.extend_from_slice(&piece[..count]),
        }
    }
    let Answer { status, body } = answer;
    write!(stream, "HTTP/1.1 {status} OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
