//! Tokens: JSON Web Tokens (RFC 7519), the algorithm pinned to the key they are verified by (RFC 8725, section 3.1).

use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::jwks::{KeySet, PublicKey};
use super::{Caller, IdentityError, Rejected};
use crate::config::{IdentitySettings, Secret};
use crate::domain::credential::Role;
use crate::domain::subject::UserId;
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;

/// Clocks of issuer and service may differ by so much.
const LEEWAY_SECONDS: i64 = 5;

/// The algorithms of public keys.
const PUBLIC: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// Longer tokens are refused unread.
const TOKEN_MAX_BYTES: usize = 8192;

/// What a token for a caller may be called: a JWT, or an access token (RFC 9068). An issuer signs other things by the same key.
const TYPES: [&str; 4] = ["jwt", "application/jwt", "at+jwt", "application/at+jwt"];

/// 9999-12-31T23:59:59Z. An `exp` in milliseconds would be beyond it, and its token never end.
const TIME_MAX_SECONDS: f64 = 253_402_300_799.0;

/// The keys that tokens are verified by.
pub struct Tokens {
    keys: Vec<(DecodingKey, Validation)>,
    published: Option<Arc<KeySet>>,
    /// For published keys: each is for one of these.
    validations: [Validation; 3],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({} keys)", self.keys.len())
    }
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970, fractions allowed (RFC 7519, section 2, NumericDate).
    exp: f64,
    nbf: Option<f64>,
    tier: Option<String>,
    role: Option<String>,
}

#[derive(Debug, Serialize)]
struct NewClaims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'a str>,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

impl Tokens {
    pub fn new(settings: &IdentitySettings) -> Result<Self, IdentityError> {
        let mut keys = Vec::new();
        if let Some(secret) = &settings.jwt_secret {
            let key = DecodingKey::from_secret(secret.expose().as_bytes());
            keys.push((key, validation(Algorithm::HS256, settings)));
        }
        if let Some(path) = &settings.jwt_public_key_file {
            let (key, algorithm) = public_key(path)?;
            keys.push((key, validation(algorithm, settings)));
        }
        let published = KeySet::new(settings).map_err(|source| IdentityError::KeySet { source })?.map(Arc::new);
        let validations = PUBLIC.map(|algorithm| validation(algorithm, settings));
        Ok(Self { keys, published, validations })
    }

    pub const fn published(&self) -> Option<&Arc<KeySet>> {
        self.published.as_ref()
    }

    /// A token without a `role` is a user's; a `role` that is none is refused; a `tier` that can't be a name says nothing.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Caller, Rejected> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(Rejected("a token too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Rejected("the token's header"))?;
        if !is_for_a_caller(&header) {
            return Err(Rejected("the token's kind"));
        }
        let verified = |key: &DecodingKey, validation: &Validation| {
            jsonwebtoken::decode::<Claims>(token, key, validation).ok().map(|token| token.claims)
        };
        let by_own = self.keys.iter().find_map(|(key, validation)| verified(key, validation));
        let by_published = || {
            self.published.as_ref()?.find(header.kid.as_deref(), |PublicKey { key, algorithm, .. }| {
                let is_for = |validation: &&Validation| validation.algorithms.contains(algorithm);
                verified(key, self.validations.iter().find(is_for)?)
            })
        };
        let claims = by_own.or_else(by_published).ok_or(Rejected("the token's signature or claims"))?;
        let are_times = |time: &f64| (0.0..=TIME_MAX_SECONDS).contains(time);
        if !std::iter::once(&claims.exp).chain(&claims.nbf).all(are_times) {
            return Err(Rejected("the token's times"));
        }
        let now = now.as_micros() as f64 / 1e6;
        let leeway = LEEWAY_SECONDS as f64;
        // JSON has no NaN, so that these can always be compared.
        if now >= claims.exp + leeway {
            return Err(Rejected("the token has expired"));
        }
        if claims.nbf.is_some_and(|from| now < from - leeway) {
            return Err(Rejected("the token does not hold yet"));
        }
        let role = match claims.role.as_deref() {
            None => Role::User,
            Some(role) => Role::parse(role).ok_or(Rejected("the token's role"))?,
        };
        let user_id = UserId::parse(&claims.sub).map_err(|_| Rejected("the token's sub"))?;
        let tier = claims.tier.and_then(|tier| TierName::parse(&tier).ok());
        Ok(Caller::Token { user_id, tier, role })
    }
}

/// What a token is to say.
#[derive(Debug)]
pub struct Grant<'a> {
    pub user_id: &'a UserId,
    pub tier: Option<&'a TierName>,
    pub role: Role,
    pub lifetime_seconds: u32,
}

/// The token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the token can't be signed")]
pub struct SignError(#[from] jsonwebtoken::errors::Error);

/// Signs a token with the HS256 secret: for trying things out, and for scripts.
pub fn sign(
    secret: &Secret,
    settings: &IdentitySettings,
    grant: &Grant<'_>,
    now: Timestamp,
) -> Result<String, SignError> {
    let claims = NewClaims {
        sub: grant.user_id.as_str(),
        iat: now.floor_seconds(),
        exp: now.floor_seconds().saturating_add(i64::from(grant.lifetime_seconds)),
        tier: grant.tier.map(TierName::as_str),
        role: grant.role,
        iss: settings.jwt_issuer.as_deref(),
        aud: settings.jwt_audience.as_deref(),
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

/// Whether a token says that it is one, and nothing that must be understood to read it (RFC 7515, section 4.1.11).
fn is_for_a_caller(header: &Header) -> bool {
    let is_known = |kind: &str| TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known));
    header.crit.is_none() && header.typ.as_deref().is_none_or(is_known)
}

/// Times are checked by the caller, against the `now` it was handed.
fn validation(algorithm: Algorithm, settings: &IdentitySettings) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_required_spec_claims(&["exp", "sub"]);
    match &settings.jwt_audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            validation.set_required_spec_claims(&["exp", "sub", "aud"]);
        }
        None => validation.validate_aud = false,
    }
    if let Some(issuer) = &settings.jwt_issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    validation
}

/// The key of a PEM file, and the one algorithm that it is for.
fn public_key(path: &Path) -> Result<(DecodingKey, Algorithm), IdentityError> {
    let pem = std::fs::read(path).map_err(|source| IdentityError::KeyFile { path: path.to_owned(), source })?;
    type ReadKey = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;
    let kinds: [(ReadKey, Algorithm); 3] = [
        (DecodingKey::from_rsa_pem, Algorithm::RS256),
        (DecodingKey::from_ec_pem, Algorithm::ES256),
        (DecodingKey::from_ed_pem, Algorithm::EdDSA),
    ];
    kinds
        .into_iter()
        .find_map(|(read, algorithm)| read(&pem).ok().map(|key| (key, algorithm)))
        .ok_or_else(|| IdentityError::KeyKind { path: path.to_owned() })
}
