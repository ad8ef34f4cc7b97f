//! What the service answered, and the tokens that tests ask with.

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::quotad::JWT_SECRET;

/// An answer of the service. `json` is null where the body is none.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A header that is a whole number.
    pub fn number(&self, name: &str) -> i64 {
        self.header(name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name}: {:?}", self.headers))
    }

    /// A field that is a whole number, as `requests_hour_used`.
    pub fn field(&self, name: &str) -> u64 {
        self.json[name].as_u64().unwrap_or_else(|| panic!("{name} in {}", self.text))
    }

    pub fn limit(&self, name: &str) -> &Value {
        let limits = self.json["limits"].as_array().unwrap_or_else(|| panic!("limits in {}", self.text));
        limits.iter().find(|limit| limit["name"] == name).unwrap_or_else(|| panic!("{name} in {}", self.text))
    }

    /// How much of a limit is used.
    pub fn used(&self, limit: &str) -> u64 {
        self.limit(limit)["used"].as_u64().expect("a number")
    }
}

/// A token signed with [`JWT_SECRET`].
pub fn token(claims: Value) -> String {
    token_signed(claims, JWT_SECRET)
}

pub fn token_signed(mut claims: Value, secret: &str) -> String {
    if claims.get("exp").is_none() {
        claims["exp"] = json!(jiff::Timestamp::now().as_second() + 3600);
    }
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}
