//! Who is calling: an API key, a token, or nobody but an address.

pub mod api_key;
pub mod attempts;
pub mod client_ip;
pub mod jwks;
pub mod jwt;
pub mod key_use;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{IdentitySettings, Secret};
use crate::domain::credential::{KeyId, Role};
use crate::domain::subject::{ClientAddress, Subject, UserId};
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;

use api_key::KeyRing;
use client_ip::{Forwarding, TrustedProxies};
use jwks::KeySet;
use jwt::Tokens;

/// The identity can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read JWT_PUBLIC_KEY_FILE {path}")]
    KeyFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("JWT_PUBLIC_KEY_FILE {path} is no RSA, P-256 or Ed25519 public key in PEM")]
    KeyKind { path: PathBuf },
    #[error("JWKS_URL can't be asked")]
    KeySet {
        #[source]
        source: jwks::KeySetError,
    },
}

/// The credential does not verify. Which part failed is for the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credential does not verify: {0}")]
pub struct Rejected(pub &'static str);

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// No credential.
    Anonymous,
    Token {
        user_id: UserId,
        tier: Option<TierName>,
        role: Role,
    },
    Key {
        id: KeyId,
        role: Role,
        user_id: Option<UserId>,
    },
    /// The operator's bootstrap key.
    AdminKey,
}

impl Caller {
    /// `None`: anonymous.
    pub const fn role(&self) -> Option<Role> {
        match self {
            Caller::Anonymous => None,
            Caller::Token { role, .. } | Caller::Key { role, .. } => Some(*role),
            Caller::AdminKey => Some(Role::Admin),
        }
    }

    /// The user that the caller speaks for, where it does for one.
    pub const fn user_id(&self) -> Option<&UserId> {
        match self {
            Caller::Token { user_id, .. } => Some(user_id),
            Caller::Key { user_id, .. } => user_id.as_ref(),
            Caller::Anonymous | Caller::AdminKey => None,
        }
    }

    pub const fn claimed_tier(&self) -> Option<&TierName> {
        match self {
            Caller::Token { tier, .. } => tier.as_ref(),
            _ => None,
        }
    }

    /// As the audit names it.
    pub fn actor(&self) -> String {
        match self {
            Caller::Anonymous => "anonymous".to_owned(),
            Caller::Token { user_id, .. } => format!("user:{user_id}"),
            Caller::Key { id, .. } => format!("key:{id}"),
            Caller::AdminKey => "admin-key".to_owned(),
        }
    }
}

/// The credential headers of a request.
#[derive(Debug, Clone, Copy, Default, Hash)]
pub struct CredentialHeaders<'a> {
    pub authorization: Option<&'a [u8]>,
    pub api_key: Option<&'a [u8]>,
}

impl CredentialHeaders<'_> {
    pub const fn is_none(&self) -> bool {
        self.authorization.is_none() && self.api_key.is_none()
    }
}

/// Everything that tells who is calling. Clones share it.
#[derive(Debug, Clone)]
pub struct Identity {
    keys: Arc<KeyRing>,
    tokens: Arc<Tokens>,
    proxies: Arc<TrustedProxies>,
    ipv6_prefix: u8,
}

impl Identity {
    pub fn new(settings: &IdentitySettings, admin_key: &Secret) -> Result<Self, IdentityError> {
        Ok(Self {
            keys: Arc::new(KeyRing::new(admin_key)),
            tokens: Arc::new(Tokens::new(settings)?),
            proxies: Arc::new(TrustedProxies::new(settings.trusted_proxies.clone())),
            ipv6_prefix: settings.ipv6_prefix,
        })
    }

    pub fn key_ring(&self) -> &KeyRing {
        &self.keys
    }

    /// Verifies the credential that a request carries; without one the caller is anonymous. Two that disagree are refused.
    pub fn authenticate(&self, headers: CredentialHeaders<'_>, now: Timestamp) -> Result<Caller, Rejected> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Rejected("not text"));
        let bearer = match headers.authorization.map(text).transpose()? {
            None => None,
            Some(value) => Some(bearer(value).ok_or(Rejected("not a bearer credential"))?),
        };
        match (bearer, headers.api_key.map(text).transpose()?) {
            (None, None) => Ok(Caller::Anonymous),
            (Some(credential), None) => self.verify(credential, now),
            (None, Some(key)) => self.keys.verify(key, now),
            (Some(credential), Some(key)) if credential == key => self.keys.verify(key, now),
            (Some(_), Some(_)) => Err(Rejected("two credentials")),
        }
    }

    /// The keys that an issuer publishes, where an address of them is set.
    pub fn published_keys(&self) -> Option<&Arc<KeySet>> {
        self.tokens.published()
    }

    /// Looks for the key of a token where it is not known, before the token is verified.
    pub async fn look_for_key(&self, authorization: Option<&[u8]>, now: Timestamp) {
        let Some(keys) = self.published_keys() else { return };
        let token = authorization.and_then(|value| bearer(std::str::from_utf8(value).ok()?));
        if let Some(id) = token.and_then(jwks::key_id).filter(|id| !keys.knows(id)) {
            keys.ask_for(&id, now).await;
        }
    }

    /// The caller's address, as far as the proxies before this service can be believed.
    pub fn client_ip(&self, peer: Option<SocketAddr>, forwarding: Forwarding<'_>) -> Option<IpAddr> {
        peer.map(|peer| self.proxies.client_ip(peer.ip(), forwarding))
    }

    /// Whether forwarding headers of this peer are believed.
    pub fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_some_and(|peer| self.proxies.trusts(peer.ip()))
    }

    /// Who is charged for an address.
    pub fn subject_of(&self, address: IpAddr) -> Subject {
        Subject::Ip(ClientAddress::new(address, self.ipv6_prefix))
    }

    /// A bearer credential with two dots is a token, where it is not the admin key, which may be any text; anything else is a key.
    fn verify(&self, credential: &str, now: Timestamp) -> Result<Caller, Rejected> {
        if credential.bytes().filter(|byte| *byte == b'.').count() == 2 {
            self.tokens
                .verify(credential, now)
                .or_else(|rejected| self.keys.verify(credential, now).map_err(|_| rejected))
        } else {
            self.keys.verify(credential, now)
        }
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}
