//! Who may do what: the roles and the routes, and how long keys hold. Credentials that must not pass: `identity_corpus`.

mod matrix;
mod routes;

use reqwest::Method;
use serde_json::{Value, json};

use crate::errors::assert_problem;
use crate::support::quotad::{ADMIN_KEY, Backend, Quotad, Start, Stores};
use crate::support::until;

const ME: &str = "/api/v2/users/me/quota";

/// A new API key, as its maker gets it.
async fn new_key(quotad: &Quotad, body: Value) -> (String, String) {
    let made = quotad.post("/api/v2/admin/keys", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let text = |field: &str| made.json[field].as_str().expect(field).to_owned();
    (text("id"), text("key"))
}

#[tokio::test]
async fn issuer_and_audience_are_checked_where_set() {
    let quotad = Start::new().set("JWT_ISSUER", "us").set("JWT_AUDIENCE", "quotad").start().await;
    for (claims, status) in [
        (json!({"sub": "me", "iss": "us", "aud": "quotad"}), 200),
        (json!({"sub": "me", "iss": "us", "aud": ["other", "quotad"]}), 200),
        (json!({"sub": "me", "iss": "them", "aud": "quotad"}), 401),
        (json!({"sub": "me", "iss": "us", "aud": "other"}), 401),
        (json!({"sub": "me", "aud": "quotad"}), 401),
        (json!({"sub": "me", "iss": "us"}), 401),
    ] {
        assert_eq!(quotad.ask_with(claims.clone(), Method::GET, ME, None).await.status, status, "{claims}");
    }
}

on_both! {
    async fn a_key_holds_until_it_is_revoked_or_ends(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let (id, key) = new_key(&quotad, json!({"name": "gateway", "role": "service"})).await;
        assert!(key.starts_with(&format!("qd_{id}_")), "{key}");
        let end = jiff::Timestamp::now() + std::time::Duration::from_secs(2);
        let brief = json!({"name": "brief", "role": "service", "expires_at": end.to_string()});
        let (_, brief) = new_key(&quotad, brief).await;
        let check = async |key: &str| {
            let body = Some(json!({"user_id": "u"}));
            quotad.ask_as(Method::POST, "/api/v2/check", body, &[("x-api-key", key)]).await.status
        };
        assert_eq!((check(&key).await, check(&brief).await), (200, 200));
        let listed = quotad.get("/api/v2/admin/keys").await;
        assert!(listed.text.contains(&id) && !listed.text.contains(&key), "{}", listed.text);
        let secret = key.rsplit_once('_').expect("a secret").1;
        assert!(!listed.text.contains(secret), "a key is shown once");
        let path = format!("/api/v2/admin/keys/{id}");
        assert_eq!(quotad.delete(&path).await.status, 204);
        assert_eq!(check(&key).await, 401);
        assert_eq!(quotad.delete(&path).await.status, 404);
        let within = std::time::Duration::from_secs(4);
        until(within, "the key ends", async || (check(&brief).await == 401).then_some(())).await;
        assert!(jiff::Timestamp::now() >= end, "it ended too early");
    }

    /// The old key goes on for the overlap and no longer than it would have; the new one is like it.
    async fn a_rotated_key_overlaps_with_its_successor(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let end = "2999-12-01T00:00:00Z";
        let wanted = json!({"name": "gateway", "role": "service", "user_id": "u", "expires_at": end});
        let (old, old_key) = new_key(&quotad, wanted).await;
        let rotate = async |id: &str, body: Value| quotad.post(&format!("/api/v2/admin/keys/{id}/rotate"), body).await;
        let status = async |key: &str| quotad.ask_as(Method::GET, ME, None, &[("x-api-key", key)]).await.status;
        let begun = jiff::Timestamp::now();
        let made = rotate(&old, json!({"overlap_seconds": 3600})).await;
        assert_eq!(made.status, 201, "{}", made.text);
        for (field, value) in [("name", "gateway"), ("role", "service"), ("user_id", "u"), ("expires_at", end)] {
            assert_eq!(made.json[field], value, "{}", made.text);
        }
        let (new, new_key) = (made.json["id"].as_str().expect("an id"), made.json["key"].as_str().expect("a key"));
        assert!(new != old && new_key.starts_with(&format!("qd_{new}_")), "{}", made.text);
        assert_eq!((status(&old_key).await, status(new_key).await), (200, 200));
        let ends = ends_of(&quotad, &old).await.expect("an end");
        assert!((3599..=3900).contains(&(ends - begun).get_seconds()), "{ends}");

        // Whoever lost the answer is told which key to rotate now; a second successor would end with the old key.
        assert_eq!(field_of(&quotad, &old, "successor").await, new);
        let again = rotate(&old, json!({})).await;
        assert_problem(&again, 409);
        assert!(again.text.contains(new), "{}", again.text);
        assert_eq!(ends_of(&quotad, &old).await, Some(ends));
        let third = rotate(new, json!({"overlap_seconds": 0})).await;
        assert_eq!((third.status, status(new_key).await), (201, 401), "{}", third.text);
        assert_eq!(status(third.json["key"].as_str().expect("a key")).await, 200);
        for (id, body, expected) in [
            (new, json!({}), 404),
            ("0000000000000000", json!({}), 404),
            ("no id", json!({}), 404),
            (&old, json!({"overlap_seconds": 2_592_001}), 422),
            (&old, json!({"overlap_seconds": -1}), 422),
            (&old, json!({"overlap_seconds": 1.5}), 422),
            (&old, json!({"overlap": 1}), 400),
        ] {
            assert_problem(&rotate(id, body.clone()).await, expected);
        }
        let by_default = quotad.ask(Method::POST, &format!("/api/v2/admin/keys/{}/rotate", third.json["id"].as_str().expect("an id")), None).await;
        assert_eq!(by_default.status, 201, "{}", by_default.text);
        let ends = ends_of(&quotad, third.json["id"].as_str().expect("an id")).await.expect("an end");
        assert!((86_399..=86_700).contains(&(ends - begun).get_seconds()), "a day: {ends}");

        let audit = quotad.get("/api/v2/admin/audit").await;
        let of = |place: usize, field: &str| audit.json["items"][place][field].as_str().unwrap_or_default().to_owned();
        let successor = format!("key:{}", by_default.json["id"].as_str().expect("an id"));
        assert_eq!((of(0, "action"), of(0, "target")), ("key.create".to_owned(), successor));
        assert_eq!(of(1, "action"), "key.rotate");
        assert!(!audit.text.contains(new_key.rsplit('_').next().expect("a secret")), "no secret is in the trail");
    }

    /// It is known at once where the key was used, and to all who come after a stop.
    async fn a_key_says_when_it_was_last_used(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let (used, key) = new_key(&quotad, json!({"name": "used", "role": "user", "user_id": "u"})).await;
        let (unused, _) = new_key(&quotad, json!({"name": "unused", "role": "user", "user_id": "u"})).await;
        let near = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
        assert_eq!(quotad.ask_as(Method::GET, ME, None, &[("x-api-key", &near)]).await.status, 401);
        assert_eq!(field_of(&quotad, &used, "last_used_at").await, Value::Null, "a near miss is no use");
        let begun = jiff::Timestamp::now().as_second();
        assert_eq!(quotad.ask_as(Method::GET, ME, None, &[("x-api-key", &key)]).await.status, 200);
        let at = field_of(&quotad, &used, "last_used_at").await;
        let second = at.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).expect("a time").as_second();
        assert!((begun..=begun + 60).contains(&second), "{at}");
        quotad.stop();
        let again = stores.quotad(&[]).await;
        assert_eq!(field_of(&again, &used, "last_used_at").await, at);
        assert_eq!(field_of(&again, &unused, "last_used_at").await, Value::Null);
    }
}

async fn field_of(quotad: &Quotad, id: &str, field: &str) -> Value {
    let listed = quotad.get("/api/v2/admin/keys").await;
    let keys = listed.json["items"].as_array().expect("keys");
    keys.iter().find(|key| key["id"] == id).unwrap_or_else(|| panic!("{id} in {}", listed.text))[field].clone()
}

async fn ends_of(quotad: &Quotad, id: &str) -> Option<jiff::Timestamp> {
    field_of(quotad, id, "expires_at").await.as_str().map(|text| text.parse().expect("a time"))
}

/// The operator may choose any text, one that looks like a token too.
#[tokio::test]
async fn an_admin_key_with_two_dots_is_no_token() {
    let key = "an.admin.key-that-looks-like-a-token-from-afar";
    let quotad = Start::new().set("ADMIN_KEY", key).start().await;
    for header in [("x-api-key", key), ("authorization", &format!("Bearer {key}"))] {
        assert_eq!(quotad.ask_as(Method::GET, "/api/v2/admin/keys", None, &[header]).await.status, 200, "{header:?}");
        let near = [(header.0, &*format!("{}x", header.1))];
        assert_eq!(quotad.ask_as(Method::GET, "/api/v2/admin/keys", None, &near).await.status, 401, "{near:?}");
    }
}

/// The address that a change came from is the client's, where a trusted proxy says so, and read from the right.
#[tokio::test]
async fn forwarding_headers_are_believed_from_trusted_proxies_alone() {
    for (trusted, forwarded, expected) in [
        ("127.0.0.0/8", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.0/8", "192.0.2.1, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.0/8,198.51.100.0/24", "192.0.2.1, 198.51.100.7", "192.0.2.1"),
        ("10.0.0.0/8", "198.51.100.7", "127.0.0.1"),
    ] {
        let quotad = Start::new().set("TRUSTED_PROXIES", trusted).start().await;
        let headers = [("x-api-key", ADMIN_KEY), ("x-forwarded-for", forwarded)];
        let body = Some(json!({"tier": "pro"}));
        let put = quotad.ask_as(Method::PUT, "/api/v2/admin/users/u", body, &headers).await;
        assert_eq!(put.status, 200, "{}", put.text);
        let audit = quotad.get("/api/v2/admin/audit").await;
        assert_eq!(audit.json["items"][0]["address"], expected, "{forwarded} with {trusted}: {}", audit.text);
    }
}
