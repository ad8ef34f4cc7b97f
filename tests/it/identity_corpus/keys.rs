//! API keys and the admin key, nearly right.

use std::time::Duration;

use serde_json::{Value, json};

use super::Bad;
use crate::support::quotad::{ADMIN_KEY, Quotad};
use crate::support::until;

async fn made(quotad: &Quotad, body: Value) -> (String, String) {
    let made = quotad.post("/api/v2/admin/keys", body).await;
    let text = |field: &str| made.json[field].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned();
    (text("id"), text("key"))
}

/// The text with another character at this place, of the same kind.
fn changed(text: &str, at: usize) -> String {
    let mut text = text.to_owned();
    text.replace_range(at..=at, if &text[at..=at] == "0" { "1" } else { "0" });
    text
}

fn swapped(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect()
}

pub async fn corpus(quotad: &Quotad) -> Vec<Bad> {
    let admin = json!({"name": "k", "role": "admin", "user_id": "u"});
    let (id, key) = made(quotad, admin.clone()).await;
    let (other_id, other_key) = made(quotad, admin.clone()).await;
    let (revoked_id, revoked) = made(quotad, admin.clone()).await;
    assert_eq!(quotad.delete(&format!("/api/v2/admin/keys/{revoked_id}")).await.status, 204);
    let (rotated_id, rotated) = made(quotad, admin).await;
    quotad.post(&format!("/api/v2/admin/keys/{rotated_id}/rotate"), json!({"overlap_seconds": 0})).await;
    let soon = (jiff::Timestamp::now() + Duration::from_secs(2)).to_string();
    let (_, expired) = made(quotad, json!({"name": "k", "role": "admin", "user_id": "u", "expires_at": soon})).await;
    until(Duration::from_secs(5), "the key ends", async || {
        let headers = [("x-api-key", expired.as_str())];
        let answer = quotad.ask_as(reqwest::Method::GET, "/api/v2/users/me/quota", None, &headers).await;
        (answer.status == 401).then_some(())
    })
    .await;

    let secret = key.rsplit('_').next().expect("a secret").to_owned();
    let (start, end) = (key.len() - secret.len(), key.len() - 1);
    let texts = [
        ("another first character of the secret", changed(&key, start)),
        ("another character in its middle", changed(&key, start + 32)),
        ("another last character", changed(&key, end)),
        ("another character of the id", changed(&key, 3)),
        ("the secret under another id", format!("qd_{other_id}_{secret}")),
        ("another secret under the id", format!("qd_{id}_{}", other_key.rsplit('_').next().expect("a secret"))),
        ("the secret in capitals", format!("qd_{id}_{}", secret.to_uppercase())),
        ("the id in capitals", format!("qd_{}_{secret}", id.to_uppercase())),
        ("all in capitals", key.to_uppercase()),
        ("the prefix in capitals", format!("QD_{id}_{secret}")),
        ("another prefix", format!("sk_{id}_{secret}")),
        ("no prefix", format!("{id}_{secret}")),
        ("no id", format!("qd__{secret}")),
        ("no secret", format!("qd_{id}_")),
        ("the secret alone", secret.clone()),
        ("the id alone", id.clone()),
        ("without its last character", key[..end].to_owned()),
        ("without its first character", key[1..].to_owned()),
        ("half of it", key[..key.len() / 2].to_owned()),
        ("one character more", format!("{key}0")),
        ("twice", format!("{key}{key}")),
        ("twice, with a comma", format!("{key}, {key}")),
        ("and another, with a comma", format!("{key},{other_key}")),
        ("the secret twice", format!("qd_{id}_{secret}_{secret}")),
        ("a space in it", format!("qd_{id}_{} {}", &secret[..32], &secret[32..])),
        ("a tab in it", format!("qd_{id}\t_{secret}")),
        ("an encoded space behind it", format!("{key}%20")),
        ("an encoded newline behind it", format!("{key}%0a")),
        ("a written newline behind it", format!("{key}\\n")),
        ("in quotes", format!("\"{key}\"")),
        ("in brackets", format!("<{key}>")),
        ("a wildcard for the secret", format!("qd_{id}_*")),
        ("a pattern of SQL for the secret", format!("qd_{id}_%")),
        ("SQL behind it", format!("{key}' OR '1'='1")),
        ("SQL for the secret", format!("qd_{id}_' OR 1=1 --")),
        ("dots for the underscores", key.replace('_', ".")),
        ("revoked", revoked),
        ("expired", expired),
        ("rotated, after its overlap", rotated),
        ("the admin key with another first character", changed(ADMIN_KEY, 0)),
        ("the admin key with another last character", changed(ADMIN_KEY, ADMIN_KEY.len() - 1)),
        ("the admin key without its last character", ADMIN_KEY[..ADMIN_KEY.len() - 1].to_owned()),
        ("the admin key and more", format!("{ADMIN_KEY}x")),
        ("the admin key in capitals", swapped(ADMIN_KEY)),
        ("the admin key as a secret", format!("qd_{id}_{ADMIN_KEY}")),
        ("the admin key with the prefix", format!("qd_{ADMIN_KEY}")),
        ("the word admin", "admin".to_owned()),
        ("the word null", "null".to_owned()),
        ("nothing but the prefix", "qd_".to_owned()),
        ("underscores", "qd__".to_owned()),
        ("zeros", format!("qd_{}_{}", "0".repeat(16), "0".repeat(64))),
        ("60 KiB", "0".repeat(60 * 1024)),
    ];
    let both_ways = |(what, text): (&str, String)| {
        [Bad::new(format!("{what}, as a key"), "x-api-key", &text), Bad::bearer(format!("{what}, as bearer"), text)]
    };
    let mut corpus: Vec<Bad> = texts.into_iter().flat_map(both_ways).collect();
    let bytes = |text: &[u8]| [key.as_bytes(), text].concat();
    for (what, tail) in [("a no-break space", "\u{a0}"), ("a zero-width space", "\u{200b}"), ("an umlaut", "ä")] {
        corpus.push(Bad::new(format!("{what} behind it, as a key"), "x-api-key", bytes(tail.as_bytes())));
        corpus.push(Bad::bearer(format!("{what} behind it, as bearer"), bytes(tail.as_bytes())));
    }
    corpus.push(Bad::new("no text behind it", "x-api-key", bytes(b"\xff\xfe")));
    corpus.push(Bad::new("an empty key", "x-api-key", ""));
    for (what, value) in [
        ("no scheme", key.clone()),
        ("another scheme", format!("Basic {key}")),
        ("a scheme that is nearly right", format!("Bearers {key}")),
        ("the scheme twice", format!("Bearer Bearer {key}")),
        ("a colon for the space", format!("Bearer:{key}")),
        ("the header's own name", format!("X-API-Key: {key}")),
        ("the scheme alone", "Bearer".to_owned()),
    ] {
        corpus.push(Bad::new(what, "authorization", value));
    }
    let twice = |what: &str, headers: [(&'static str, String); 2]| Bad {
        what: what.to_owned(),
        headers: headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
    };
    corpus.push(twice("the header twice", [("x-api-key", key.clone()), ("x-api-key", key.clone())]));
    corpus.push(twice(
        "another key in the same header again",
        [("x-api-key", key.clone()), ("x-api-key", other_key.clone())],
    ));
    corpus.push(twice(
        "two that disagree",
        [("x-api-key", key.clone()), ("authorization", format!("Bearer {other_key}"))],
    ));
    corpus.push(twice("a good and a bad one", [("x-api-key", key), ("authorization", "Bearer x".to_owned())]));
    corpus
}
