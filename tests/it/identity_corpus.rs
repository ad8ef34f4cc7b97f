//! Credentials that must not pass: each is 401 and never anonymous, the answer does not say why, and the log does not repeat it.
//!
//! The corpus itself: `tokens`, forged, stale and malformed, for each kind of key that may be configured; `keys`, near misses.

mod keys;
mod signer;
mod tokens;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use reqwest::header::HeaderValue;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::errors::assert_problem;
use crate::support::answer::Answer;
use crate::support::issuer::{Issuer, SigningKey};
use crate::support::quotad::{JWT_SECRET, Quotad, Start};
use signer::{AUDIENCE, ISSUER, Signer, good};

/// The headers of a request: a credential that is wrong, and how.
pub struct Bad {
    what: String,
    headers: Vec<(&'static str, Vec<u8>)>,
}

impl Bad {
    fn new(what: impl Into<String>, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        Self { what: what.into(), headers: vec![(name, value.as_ref().to_vec())] }
    }

    fn bearer(what: impl Into<String>, credential: impl AsRef<[u8]>) -> Self {
        Self::new(what, "authorization", [b"Bearer ", credential.as_ref()].concat())
    }
}

/// Where a bad credential is tried: of oneself, of others, of administrators, and where no credential is needed.
const PATHS: [&str; 4] =
    ["/api/v2/users/me/quota", "/api/v2/admin/users", "/api/v2/forward-auth", "/api/v2/forward-auth/api/v1/agents"];

/// From an address of one's own: one that shows too many bad credentials is told to wait.
async fn ask(client: &Client, quotad: &Quotad, path: &str, from: usize, headers: &[(&'static str, Vec<u8>)]) -> Answer {
    let request = client.request(Method::GET, format!("http://{}{path}", quotad.address()));
    let request = request.header("x-forwarded-for", format!("198.18.{}.{}", from / 256, from % 256));
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, HeaderValue::from_bytes(value).expect("a header"))
    });
    let answer = request.send().await.unwrap_or_else(|error| panic!("no answer to {path}: {error:?}"));
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.expect("a body");
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, headers, text, json }
}

async fn assert_refused(quotad: &Quotad, corpus: &[Bad]) {
    let client = Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
    let mut passed = Vec::new();
    for (number, Bad { what, headers }) in corpus.iter().enumerate() {
        for path in PATHS {
            let answer = ask(&client, quotad, path, number, headers).await;
            if answer.status != 401 {
                passed.push(format!("{what}: {} at {path}", answer.status));
                continue;
            }
            assert_problem(&answer, 401);
            let said = answer.json["detail"].as_str().unwrap_or_default();
            let known = ["the credential does not verify", "a credential may be given once"];
            assert!(known.contains(&said), "{what}: {said}");
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
    let log = quotad.log();
    for Bad { what, headers } in corpus {
        for (_, value) in headers {
            let is_of_words = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
            for word in value.split(|byte| !is_of_words(byte)).filter(|word| word.len() >= 16) {
                let word = std::str::from_utf8(word).expect("ASCII");
                assert!(!log.contains(word), "{what}: {word} stands in the log");
            }
        }
    }
}

/// The corpus of one kind of key; and that what it is made from would pass.
async fn assert_kind(quotad: &Quotad, signer: &Signer<'_>) {
    let right = Bad::bearer("good", good(signer));
    let answer = ask(&Client::new(), quotad, PATHS[0], 0, &right.headers).await;
    assert_eq!(answer.status, 200, "what the corpus is made of is good: {}", answer.text);
    let corpus = tokens::corpus(signer);
    assert!(corpus.len() > 100, "{}", corpus.len());
    assert_refused(quotad, &corpus).await;
}

fn start() -> Start {
    Start::new().unset("JWT_SECRET").set("JWT_ISSUER", ISSUER).set("JWT_AUDIENCE", AUDIENCE)
}

#[tokio::test]
async fn tokens_by_a_secret() {
    let quotad = start().set("JWT_SECRET", JWT_SECRET).start().await;
    assert_kind(&quotad, &Signer::secret(JWT_SECRET)).await;
}

#[tokio::test]
async fn tokens_by_a_public_key() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let (key, other) = (SigningKey::make("a", algorithm), SigningKey::make("a", algorithm));
        let path = key.public_pem();
        let quotad = start().set("JWT_PUBLIC_KEY_FILE", path.to_str().expect("a path")).start().await;
        assert_kind(&quotad, &Signer::key(&key, &other)).await;
    }
}

#[tokio::test]
async fn tokens_by_published_keys() {
    let keys = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(|algorithm| {
        (SigningKey::make(&format!("{algorithm:?}"), algorithm), SigningKey::make("other", algorithm))
    });
    let issuer = Issuer::start();
    issuer.publish(&keys.each_ref().map(|(key, _)| key));
    let quotad = start().set("JWKS_URL", issuer.address()).start().await;
    for (key, other) in &keys {
        assert_kind(&quotad, &Signer::key(key, other)).await;
    }
}

/// Secret, file and published keys at once: none takes a token that another was meant for.
#[tokio::test]
async fn tokens_where_all_kinds_are_configured() {
    let (rsa, other) = (SigningKey::make("a", Algorithm::RS256), SigningKey::make("a", Algorithm::RS256));
    let ec = SigningKey::make("b", Algorithm::ES256);
    let issuer = Issuer::start();
    issuer.publish(&[&ec]);
    let path = rsa.public_pem();
    let quotad = start().set("JWT_SECRET", JWT_SECRET).set("JWT_PUBLIC_KEY_FILE", path.to_str().expect("a path"));
    let quotad = quotad.set("JWKS_URL", issuer.address()).start().await;
    assert_kind(&quotad, &Signer::secret(JWT_SECRET)).await;
    assert_kind(&quotad, &Signer::key(&rsa, &other)).await;
    assert_kind(&quotad, &Signer::key(&ec, &SigningKey::make("b", Algorithm::ES256))).await;
}

#[tokio::test]
async fn api_keys_that_are_nearly_right() {
    let quotad = Start::new().start().await;
    let corpus = keys::corpus(&quotad).await;
    assert!(corpus.len() > 40, "{}", corpus.len());
    assert_refused(&quotad, &corpus).await;
}

/// No token may be used where none can be verified.
#[tokio::test]
async fn tokens_where_no_key_is_configured() {
    let quotad = Start::new().unset("JWT_SECRET").start().await;
    let signer = Signer::secret(JWT_SECRET);
    assert_refused(&quotad, &[Bad::bearer("a good token", good(&signer))]).await;
    assert_refused(&quotad, &[Bad::bearer("by an empty secret", good(&Signer::secret("")))]).await;
}

/// A head that large is refused before anything in it is read.
#[tokio::test]
async fn a_credential_of_a_mebibyte_is_refused() {
    let quotad = Start::new().start().await;
    for path in PATHS {
        let mut stream = TcpStream::connect(quotad.address()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let head = format!("GET {path} HTTP/1.1\r\nHost: q\r\nAuthorization: Bearer {}\r\n\r\n", "a.".repeat(1 << 19));
        // The service may close before it was sent whole.
        let _ = stream.write_all(head.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{}", &answer[..answer.len().min(300)]);
    }
    assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200);
}
