//! Tokens by public keys: from a PEM file, and from an issuer's key set.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::issuer::{Answer, Issuer, SigningKey};
use crate::support::quotad::{Quotad, Start};
use crate::support::until;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The status that a token's bearer gets for their own quota.
async fn status(quotad: &Quotad, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    quotad.ask_as(Method::GET, "/api/v2/users/me/quota", None, &[("authorization", &bearer)]).await.status
}

fn me() -> Value {
    json!({"sub": "me"})
}

#[tokio::test]
async fn a_pem_file_is_for_one_algorithm_and_beside_the_secret() {
    for algorithm in ALGORITHMS {
        let (key, other) = (SigningKey::make("a", algorithm), SigningKey::make("a", algorithm));
        let path = key.public_pem();
        let quotad = Start::new().set("JWT_PUBLIC_KEY_FILE", path.to_str().unwrap()).start().await;
        assert_eq!(status(&quotad, &key.sign(&me())).await, 200, "{algorithm:?}");
        assert_eq!(status(&quotad, &other.sign(&me())).await, 401, "{algorithm:?}");
        assert_eq!(status(&quotad, &crate::support::answer::token(me())).await, 200, "the secret holds too");
        // The public half, which all may know, taken for a secret (RFC 8725, section 2.1).
        let public = std::fs::read_to_string(&path).unwrap();
        assert_eq!(status(&quotad, &crate::support::answer::token_signed(me(), &public)).await, 401);
    }
}

#[tokio::test]
async fn keys_of_an_issuer_hold_as_they_are_published() {
    let [a, b] =
        ["a", "b"].map(|id| ALGORITHMS.map(|algorithm| SigningKey::make(&format!("{id}-{algorithm:?}"), algorithm)));
    let issuer = Issuer::start();
    issuer.publish(&a.each_ref());
    let quotad = Start::new().set("JWKS_URL", issuer.address()).start().await;
    for key in &a {
        assert_eq!(status(&quotad, &key.sign(&me())).await, 200, "{:?}", key.algorithm);
        let unnamed = key.sign_with(&jsonwebtoken::Header::new(key.algorithm), &me());
        assert_eq!(status(&quotad, &unnamed).await, 200, "any key of the set may verify a token that names none");
    }
    let [rsa, ec, ed] = &b;
    let misnamed =
        jsonwebtoken::Header { kid: Some("a-ES256".to_owned()), ..jsonwebtoken::Header::new(Algorithm::ES256) };
    assert_eq!(status(&quotad, &ec.sign_with(&misnamed, &me())).await, 401, "signed by another key than it names");

    // A key that was published since the set was read is found by the token that names it.
    issuer.publish(&[&a[0], &a[1], &a[2], rsa]);
    let asked = issuer.asked();
    assert_eq!(status(&quotad, &rsa.sign(&me())).await, 200);
    assert_eq!(issuer.asked(), asked + 1);
    // Nobody can have the address asked more than once a minute.
    issuer.publish(&[&a[0], rsa, ec, ed]);
    for key in [ec, ed, ec, ed] {
        assert_eq!(status(&quotad, &key.sign(&me())).await, 401);
    }
    assert_eq!(issuer.asked(), asked + 1);
}

#[tokio::test]
async fn keys_hold_while_their_address_is_down() {
    let (key, later) = (SigningKey::make("a", Algorithm::ES256), SigningKey::make("b", Algorithm::ES256));
    let issuer = Issuer::start();
    let quotad = Start::new().set("JWKS_URL", issuer.address()).start().await;
    until(Duration::from_secs(5), "the address is asked at the start", async || (issuer.asked() > 0).then_some(()))
        .await;
    // It had nothing to say at the start; a token has it asked again.
    issuer.publish(&[&key]);
    assert_eq!(status(&quotad, &key.sign(&me())).await, 200);
    let huge = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300 * 1024));
    for body in [String::new(), "{".to_owned(), json!({"keys": []}).to_string(), huge] {
        issuer.publish(&[&key]);
        let quotad = Start::new().set("JWKS_URL", issuer.address()).start().await;
        assert_eq!(status(&quotad, &key.sign(&me())).await, 200);
        issuer.answer(Answer { status: if body.is_empty() { 500 } else { 200 }, body });
        let asked = issuer.asked();
        assert_eq!(status(&quotad, &later.sign(&me())).await, 401);
        assert_eq!((issuer.asked(), status(&quotad, &key.sign(&me())).await), (asked + 1, 200));
    }
}
