//! Who signs the tokens of the corpus, and the parts that they are made of.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::support::issuer::SigningKey;

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "quotad";

/// Who signs: the key that the service verifies by, and one of the same kind that it does not know.
pub struct Signer<'a> {
    pub algorithm: Algorithm,
    pub key: Key<'a>,
    pub stranger: Key<'a>,
}

pub enum Key<'a> {
    Secret(&'a str),
    Private(&'a SigningKey),
}

impl<'a> Signer<'a> {
    pub fn secret(secret: &'a str) -> Self {
        let stranger = Key::Secret("another-secret-of-quite-enough-characters");
        Self { algorithm: Algorithm::HS256, key: Key::Secret(secret), stranger }
    }

    pub fn key(key: &'a SigningKey, stranger: &'a SigningKey) -> Self {
        Self { algorithm: key.algorithm, key: Key::Private(key), stranger: Key::Private(stranger) }
    }

    pub fn name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::HS256 => "HS256",
            Algorithm::RS256 => "RS256",
            Algorithm::ES256 => "ES256",
            _ => "EdDSA",
        }
    }

    fn key_id(&self) -> Option<&str> {
        match self.key {
            Key::Secret(_) => None,
            Key::Private(key) => key.jwk["kid"].as_str(),
        }
    }

    pub fn header(&self) -> Value {
        let mut header = json!({"alg": self.name(), "typ": "JWT"});
        if let Some(id) = self.key_id() {
            header["kid"] = json!(id);
        }
        header
    }

    /// The header with another field in it, or one changed.
    pub fn header_with(&self, field: &str, value: Value) -> Value {
        let mut header = self.header();
        header[field] = value;
        header
    }
}

impl Key<'_> {
    /// The signature of a text, in base64.
    pub fn sign(&self, text: &str) -> String {
        match self {
            Key::Secret(secret) => hmac(text, secret.as_bytes(), Algorithm::HS256),
            Key::Private(key) => key.signature(text),
        }
    }

    pub fn token(&self, header: impl ToString, claims: impl ToString) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        format!("{signed}.{}", self.sign(&signed))
    }
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub fn hmac(text: &str, secret: &[u8], algorithm: Algorithm) -> String {
    jsonwebtoken::crypto::sign(text.as_bytes(), &EncodingKey::from_secret(secret), algorithm).expect("a signature")
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

pub fn claims() -> Value {
    json!({"sub": "u", "role": "admin", "iss": ISSUER, "aud": AUDIENCE, "exp": now() + 3600})
}

/// The claims with one of them changed; null takes it out.
pub fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().expect("an object").remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

pub fn good(signer: &Signer<'_>) -> String {
    signer.key.token(signer.header(), claims())
}
