//! Credentials: nobody is let in by anything but a key as it was given out, or a token signed with the secret.
#![no_main]

use std::sync::OnceLock;

use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use quotad::config::{Secret, Settings};
use quotad::domain::credential::{ApiKeyRecord, Role};
use quotad::domain::subject::UserId;
use quotad::domain::time::Timestamp;
use quotad::identity::api_key;
use quotad::identity::{Caller, CredentialHeaders, Identity};

const ADMIN_KEY: &str = "an-admin-key-for-fuzzing-of-enough-characters";
const SECRET: &str = "a-secret-for-fuzzing-of-enough-characters";
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Who knows one API key, its text, and the id of its user.
fn known() -> &'static (Identity, String) {
    static KNOWN: OnceLock<(Identity, String)> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let vars = [("QUOTAD_JWT_SECRET".to_owned(), SECRET.to_owned())];
        let settings = Settings::from_vars(vars).expect("settings");
        let identity = Identity::new(&settings.identity, &Secret::new(ADMIN_KEY)).expect("an identity");
        let key = api_key::make().expect("a key");
        let record = ApiKeyRecord {
            id: key.id,
            name: "fuzz".to_owned(),
            role: Role::Service,
            user_id: None,
            secret_sha256: key.secret_sha256,
            created_at: NOW,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            successor: None,
        };
        let read = identity.key_ring().reload(async { Ok::<_, std::convert::Infallible>(vec![record]) });
        actix::System::new().block_on(read).expect("it can't fail");
        (identity, key.text)
    })
}

/// As any stranger could write it.
fn unsigned(authorization: Option<&[u8]>, api_key: Option<&[u8]>) {
    let (identity, key) = known();
    // It does find the keys out: it sees what they are compared with.
    let given = |bytes: Option<&[u8]>, text: &str| {
        bytes.is_some_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    let is_known = [ADMIN_KEY, key].iter().any(|text| given(authorization, text) || given(api_key, text));
    match identity.authenticate(CredentialHeaders { authorization, api_key }, NOW) {
        Ok(Caller::Anonymous) => assert!(authorization.is_none() && api_key.is_none(), "junk is never anonymous"),
        Ok(caller) => assert!(is_known, "{caller:?}"),
        Err(rejected) => assert!(!rejected.0.contains(key.as_str())),
    }
}

#[derive(Debug, serde::Deserialize)]
struct Believed {
    sub: String,
    exp: f64,
}

/// Claims that are signed, by the secret or another.
fn signed(header: &str, claims: &str, secret: &str) {
    let encode = |text: &str| base64url(text.as_bytes());
    let message = format!("{}.{}", encode(header), encode(claims));
    let Ok(signature) = sign(message.as_bytes(), &EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256) else {
        return;
    };
    let text = format!("Bearer {message}.{signature}");
    let headers = CredentialHeaders { authorization: Some(text.as_bytes()), api_key: None };
    match known().0.authenticate(headers, NOW) {
        Ok(Caller::Token { user_id, .. }) => {
            assert_eq!(secret, SECRET, "another's signature");
            assert_eq!(UserId::parse(user_id.as_str()).as_ref(), Ok(&user_id));
            // Of claims that the service does not know nothing is asked: a number among them may be larger than any type has.
            let believed: Believed = serde_json::from_str(claims).expect("claims that were believed");
            assert!(believed.exp + 5.0 > 1_800_000_000.0, "{believed:?}");
            assert_eq!(believed.sub, user_id.as_str());
        }
        Ok(caller) => panic!("a token made {caller:?}"),
        Err(_) => {}
    }
}

/// base64url without padding (RFC 4648, section 5).
fn base64url(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for sign in 0..=chunk.len() {
            text.push(char::from(SIGNS[(bits >> (18 - 6 * sign) & 63) as usize]));
        }
    }
    text
}

fuzz_target!(|input: (u8, &[u8])| {
    let (way, bytes) = input;
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (one, other) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let bearer = [b"Bearer ", one].concat();
    let texts = std::str::from_utf8(one).ok().zip(std::str::from_utf8(other).ok());
    match (way % 6, texts) {
        (0, _) => unsigned(Some(one), None),
        (1, _) => unsigned(Some(&bearer), None),
        (2, _) => unsigned(None, Some(one)),
        (3, _) => unsigned(Some(&bearer), Some(other)),
        (4, Some((header, claims))) => signed(header, claims, SECRET),
        (5, Some((header, claims))) => signed(header, claims, "another-secret-of-quite-enough-characters"),
        _ => {}
    }
});
