//! Tokens that must not pass, for one kind of key: made part by part, so that each is wrong in one thing alone.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::Bad;
use super::signer::{Key, Signer, b64, claims, claims_with, good, hmac, now};

pub fn corpus(signer: &Signer<'_>) -> Vec<Bad> {
    let parts =
        [wrong_claims(signer), wrong_headers(signer), forged(signer), wrong_signatures(signer), malformed(signer)];
    let mut corpus: Vec<Bad> = parts.into_iter().flatten().map(|(what, token)| Bad::bearer(what, token)).collect();
    let good = good(signer);
    for (what, name, value) in [
        ("the scheme twice", "authorization", format!("Bearer Bearer {good}")),
        ("no scheme", "authorization", good.clone()),
        ("another scheme", "authorization", format!("Token {good}")),
        ("a scheme that binds it to a key", "authorization", format!("DPoP {good}")),
        ("in the key's header", "x-api-key", good.clone()),
        ("a no-break space behind it", "authorization", format!("Bearer {good}\u{a0}")),
        ("an umlaut behind it", "authorization", format!("Bearer {good}ä")),
    ] {
        corpus.push(Bad::new(what, name, value));
    }
    corpus.push(Bad::new("no text", "authorization", [b"Bearer \xff.", good.as_bytes()].concat()));
    let bearer = ("authorization", format!("Bearer {good}").into_bytes());
    corpus.push(Bad { what: "the header twice".to_owned(), headers: vec![bearer.clone(), bearer.clone()] });
    let beside = ("x-api-key", b"qd_0000000000000000_x".to_vec());
    corpus.push(Bad { what: "beside a bad key".to_owned(), headers: vec![bearer, beside] });
    corpus
}

type Named = Vec<(String, String)>;

/// Signed by the right key, and not to be taken.
fn wrong_claims(signer: &Signer<'_>) -> Named {
    let at = |seconds: i64| json!(now() + seconds);
    let mut tokens = Named::new();
    for (name, value) in [
        ("exp", at(-3600)),
        ("exp", json!(now() as f64 - 60.5)),
        ("exp", Value::Null),
        ("exp", json!((now() + 3600).to_string())),
        ("exp", json!([now() + 3600])),
        ("exp", json!(true)),
        ("exp", json!(0)),
        ("exp", json!(-1)),
        ("exp", json!(-1.0e18)),
        ("exp", json!(i64::MIN)),
        ("exp", json!((now() + 3600) * 1000)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(1.0e300)),
        ("nbf", at(3600)),
        ("nbf", json!((now() + 3600) as f64 + 0.5)),
        ("nbf", json!("now")),
        ("nbf", json!(1.0e300)),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!(42)),
        ("sub", json!(["u"])),
        ("sub", json!({"id": "u"})),
        ("sub", json!("a".repeat(129))),
        ("sub", json!("ä".repeat(129))),
        ("sub", json!("a\nb")),
        ("sub", json!("a\u{0}")),
        ("sub", json!("a\u{7f}")),
        ("sub", json!("a\u{85}")),
        ("iss", Value::Null),
        ("iss", json!("https://issuer.example.evil.example")),
        ("iss", json!("https://issuer.example/")),
        ("iss", json!(7)),
        ("aud", Value::Null),
        ("aud", json!("another")),
        ("aud", json!("QUOTAD")),
        ("aud", json!(["another", "quotad "])),
        ("aud", json!([])),
        ("role", json!("root")),
        ("role", json!("Admin")),
        ("role", json!(["admin"])),
        ("role", json!("")),
    ] {
        let token = signer.key.token(signer.header(), claims_with(name, value.clone()));
        tokens.push((format!("{name}: {}", value.to_string().chars().take(40).collect::<String>()), token));
    }
    let claims = claims();
    let good = claims.to_string();
    let open = good.trim_end_matches('}');
    for (what, text) in [
        ("an exp beyond numbers", good.replace(&claims["exp"].to_string(), "1e999")),
        ("sub twice", format!("{open},\"sub\":\"other\"}}")),
        ("exp twice", format!("{open},\"exp\":99999999999}}")),
        ("a list of claims", format!("[{good}]")),
        ("claims in a text", json!(good).to_string()),
        ("claims that are null", "null".to_owned()),
        ("no claims", "{}".to_owned()),
        ("an empty payload", String::new()),
        ("claims cut short", open.to_owned()),
        ("more behind the claims", format!("{good}{{}}")),
    ] {
        tokens.push((what.to_owned(), signer.key.token(signer.header(), text)));
    }
    tokens
}

/// Signed by the right key, under a header that is not to be taken.
fn wrong_headers(signer: &Signer<'_>) -> Named {
    let mut tokens = Named::new();
    let others = ["HS256", "HS384", "HS512", "RS256", "RS384", "PS256", "ES256", "ES384", "EdDSA"];
    let others = others.iter().filter(|name| **name != signer.name());
    for name in others.chain(&["none", "None", "nOnE", "NONE", "", "Ed25519", "dir"]) {
        tokens.push((format!("alg: {name}"), signer.key.token(signer.header_with("alg", json!(name)), claims())));
    }
    for (field, value) in [
        ("alg", Value::Null),
        ("alg", json!(signer.name().to_lowercase() + " ")),
        ("alg", json!([signer.name()])),
        ("alg", json!(0)),
        ("typ", json!("JWE")),
        ("typ", json!("logout+jwt")),
        ("typ", json!("secevent+jwt")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!("")),
        ("typ", json!(7)),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!("exp")),
        ("kid", json!(7)),
        ("kid", json!(["a"])),
    ] {
        let token = signer.key.token(signer.header_with(field, value.clone()), claims());
        tokens.push((format!("{field}: {value}"), token));
    }
    let header = signer.header().to_string();
    let open = header.trim_end_matches('}');
    for (what, text) in [
        ("alg twice, none first", format!("{{\"alg\":\"none\",{}", &header[1..])),
        ("alg twice, none last", format!("{open},\"alg\":\"none\"}}")),
        ("kid twice", format!("{{\"kid\":\"a\",\"kid\":\"b\",{}", &header[1..])),
        ("a list for a header", format!("[{header}]")),
        ("a text for a header", json!(header).to_string()),
        ("no header", String::new()),
        ("an empty header", "{}".to_owned()),
        ("a header cut short", open.to_owned()),
        ("a header that is no JSON", "alg=none".to_owned()),
        ("a token for a header", good(signer)),
    ] {
        tokens.push((what.to_owned(), signer.key.token(text, claims())));
    }
    let nested = signer.key.token(signer.header_with("cty", json!("JWT")), good(signer));
    tokens.push(("a token for claims".to_owned(), nested));
    tokens
}

/// By a key of the forger's own, which the header recommends; and by what all may know.
fn forged(signer: &Signer<'_>) -> Named {
    let mut tokens = Named::new();
    let theirs = match signer.stranger {
        Key::Secret(secret) => json!({"kty": "oct", "k": b64(secret), "alg": "HS256", "kid": "theirs"}),
        Key::Private(key) => key.jwk.clone(),
    };
    for (field, value) in [
        ("jwk", theirs.clone()),
        ("jku", json!("https://attacker.example/keys.json")),
        ("jku", json!("file:///dev/null")),
        ("x5u", json!("https://attacker.example/cert.pem")),
        ("x5c", json!([BASE64_STANDARD.encode("a certificate")])),
        ("kid", json!("theirs")),
        ("kid", json!("")),
        ("kid", json!("../../../../../../dev/null")),
        ("kid", json!("/proc/self/environ")),
        ("kid", json!("' UNION SELECT 'a' --")),
        ("kid", json!("x'; DROP TABLE api_keys; --")),
        ("kid", json!("a\u{0}b")),
        ("kid", json!("k".repeat(3000))),
        ("typ", json!("JWT")),
    ] {
        let token = signer.stranger.token(signer.header_with(field, value.clone()), claims());
        tokens.push((
            format!("a stranger's, {field}: {}", value.to_string().chars().take(40).collect::<String>()),
            token,
        ));
    }
    // The secrets that the tricks with a `kid` hope for, and those that come to mind.
    let hs256 = json!({"alg": "HS256", "typ": "JWT", "kid": "../../../../../../dev/null"});
    for secret in ["", "\0", "a", "secret", "password", "quotad", "your-256-bit-secret", "null", "undefined"] {
        tokens.push((format!("HMAC by {secret:?}"), Key::Secret(secret).token(&hs256, claims())));
    }
    let unsigned = b64(json!({"alg": "none"}).to_string());
    for signature in ["", "AA", "none"] {
        tokens.push((
            format!("unsigned, {signature:?}"),
            format!("{unsigned}.{}.{signature}", b64(claims().to_string())),
        ));
    }
    let Key::Private(key) = signer.key else { return tokens };
    // The public half, which all may know, taken for a secret (RFC 8725, section 2.1).
    let pem = std::fs::read_to_string(key.public_pem()).expect("a key");
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64_STANDARD.decode(&lines).expect("DER");
    let jwk = key.jwk.to_string();
    let field = |name: &str| key.jwk[name].as_str().map(|text| BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64"));
    let mut secrets = vec![
        ("the PEM file", pem.clone().into_bytes()),
        ("the PEM file without its last newline", pem.trim_end().as_bytes().to_vec()),
        ("the PEM file with lines of Windows", pem.replace('\n', "\r\n").into_bytes()),
        ("its base64", lines.into_bytes()),
        ("the DER", der),
        ("the JWK", jwk.into_bytes()),
    ];
    secrets.extend(["n", "x", "y"].iter().filter_map(|name| Some((*name, field(name)?))));
    for (what, secret) in secrets {
        for (name, algorithm) in [("HS256", Algorithm::HS256), ("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)]
        {
            for header in [json!({"alg": name, "typ": "JWT"}), signer.header_with("alg", json!(name))] {
                let signed = format!("{}.{}", b64(header.to_string()), b64(claims().to_string()));
                tokens.push((format!("{name} by {what}"), format!("{signed}.{}", hmac(&signed, &secret, algorithm))));
            }
        }
    }
    tokens
}

/// A good token with another signature.
fn wrong_signatures(signer: &Signer<'_>) -> Named {
    let good = good(signer);
    let (signed, signature) = good.rsplit_once('.').expect("a signature");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64");
    let flipped = |at: usize, bit: u8| {
        let mut bytes = bytes.clone();
        bytes[at] ^= bit;
        bytes
    };
    let (length, last) = (bytes.len(), bytes.len() - 1);
    let mut signatures = vec![
        ("a bit of the first byte flipped".to_owned(), flipped(0, 0x80)),
        ("a bit in the middle flipped".to_owned(), flipped(length / 2, 1)),
        ("a bit of the last byte flipped".to_owned(), flipped(last, 1)),
        ("all zeros".to_owned(), vec![0; length]),
        ("64 zeros".to_owned(), vec![0; 64]),
        ("all ones".to_owned(), vec![0xff; length]),
        ("one byte".to_owned(), vec![0]),
        ("without its last byte".to_owned(), bytes[..last].to_vec()),
        ("without its first byte".to_owned(), bytes[1..].to_vec()),
        ("half of it".to_owned(), bytes[..length / 2].to_vec()),
        ("a byte more".to_owned(), [&bytes[..], &[0]].concat()),
        ("a byte more in front".to_owned(), [&[0], &bytes[..]].concat()),
        ("twice".to_owned(), bytes.repeat(2)),
        ("backwards".to_owned(), bytes.iter().rev().copied().collect()),
    ];
    if signer.algorithm == Algorithm::ES256 {
        signatures.push(("in DER, as other formats have it".to_owned(), der(&bytes)));
        let (r, s) = bytes.split_at(32);
        signatures.push(("its halves swapped".to_owned(), [s, r].concat()));
        signatures.push(("r of one, s of zero".to_owned(), [&[0; 31][..], &[1], &[0; 32]].concat()));
    }
    let mut tokens: Named = signatures
        .into_iter()
        .map(|(what, bytes)| (format!("the signature: {what}"), format!("{signed}.{}", b64(bytes))))
        .collect();
    let of_other_claims = signer.key.token(signer.header(), claims_with("sub", json!("other")));
    let of_other_claims = of_other_claims.rsplit('.').next().expect("a signature");
    tokens.push(("the signature of another token".to_owned(), format!("{signed}.{of_other_claims}")));
    tokens
}

/// `r` and `s` as a SEQUENCE of two INTEGERs.
fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let bytes: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign: &[u8] = if bytes.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
        [&[2, (sign.len() + bytes.len()) as u8], sign, &bytes].concat()
    };
    let (r, s) = signature.split_at(32);
    let body = [integer(r), integer(s)].concat();
    [&[0x30, body.len() as u8][..], &body].concat()
}

/// A good token that was damaged, or is written in another way.
fn malformed(signer: &Signer<'_>) -> Named {
    let good = good(signer);
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    let padded = |part: &str| BASE64_URL_SAFE.encode(BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64"));
    // Of the last character of a part not all bits count: with another one a lax reader would read the same.
    let loose = |part: &str| {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (start, last) = part.split_at(part.len() - 1);
        let place = alphabet.iter().position(|byte| *byte == last.as_bytes()[0]).expect("base64");
        format!("{start}{}", alphabet[place ^ 1] as char)
    };
    let spaced = BASE64_URL_SAFE_NO_PAD.encode(format!(" {}", super::signer::claims()));
    let big = signer.key.token(signer.header(), claims_with("padding", json!("x".repeat(9000))));
    let mut tokens: Named = [
        ("nothing", String::new()),
        ("one dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("three dots", "...".to_owned()),
        ("the header alone", header.to_owned()),
        ("without a signature", format!("{header}.{claims}")),
        ("an empty signature", format!("{header}.{claims}.")),
        ("an empty header", format!(".{claims}.{signature}")),
        ("an empty payload", format!("{header}..{signature}")),
        ("a dot in front", format!(".{good}")),
        ("a dot behind", format!("{good}.")),
        ("two dots behind", format!("{good}..")),
        ("four parts", format!("{good}.{signature}")),
        ("five parts, as encrypted ones have", format!("{header}.{claims}.{claims}.{claims}.{signature}")),
        ("its parts backwards", format!("{signature}.{claims}.{header}")),
        ("the header twice", format!("{header}.{header}.{signature}")),
        ("another payload", format!("{header}.{spaced}.{signature}")),
        ("a signature with an equals sign", format!("{good}=")),
        ("a signature with two", format!("{good}==")),
        ("a header with padding", format!("{}=.{claims}.{signature}", padded(header).trim_end_matches('='))),
        ("commas for dots", good.replace('.', ",")),
        ("encoded dots", good.replace('.', "%2e")),
        ("spaces beside the dots", good.replace('.', " . ")),
        ("a space in it", format!("{header}.{claims} .{signature}")),
        ("in quotes", format!("\"{good}\"")),
        ("twice, with a comma", format!("{good},{good}")),
        ("twice, with a space", format!("{good} {good}")),
        ("in capitals", good.to_uppercase()),
        ("in small letters", good.to_lowercase()),
        ("without its first character", good[1..].to_owned()),
        ("half of it", good[..good.len() / 2].to_owned()),
        ("its JSON, not encoded", format!("{}.{}.{signature}", signer.header(), super::signer::claims())),
        ("larger than 8 KiB", big),
        ("60 KiB of dots", ".".repeat(60 * 1024)),
        ("60 KiB of a header", format!("{}.{claims}.{signature}", "A".repeat(60 * 1024))),
        ("brackets that go deep", format!("{}.{claims}.{signature}", b64("[".repeat(5000)))),
        ("a payload that goes deep", signer.key.token(signer.header(), "{\"a\":".repeat(1000))),
    ]
    .map(|(what, token)| (what.to_owned(), token))
    .into();
    for (what, part) in [("header", header), ("payload", claims), ("signature", signature)] {
        if BASE64_URL_SAFE_NO_PAD.decode(part).is_ok_and(|bytes| bytes.len() % 3 != 0) {
            let token = good.replacen(part, &loose(part), 1);
            tokens.push((format!("a {what} whose last character has loose bits"), token));
        }
        let other = part.replace('-', "+").replace('_', "/");
        if other != part {
            tokens.push((format!("a {what} of the other alphabet"), good.replacen(part, &other, 1)));
        }
    }
    tokens
}
