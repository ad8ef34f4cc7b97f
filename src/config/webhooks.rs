//! `WEBHOOK_URL` and `WEBHOOK_SECRET`: set both, or neither. Events are always signed.

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::parse::Source;
use super::{Secret, SettingsError, fields};

/// Libraries of Standard Webhooks take a secret with its padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const PREFIX: &str = "whsec_";

/// Standard Webhooks: 192 bits at least.
const KEY_MIN_BYTES: usize = 24;

/// Where events go, and what they are signed with.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// It may hold a password.
    pub url: Secret,
    pub key: SigningKey,
}

/// The bytes that events are signed with. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Box<[u8]>);

impl SigningKey {
    /// Reads `whsec_` and base64; any other text is the key itself. `None` where it is shorter than 24 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = match text.strip_prefix(PREFIX) {
            Some(encoded) => BASE64.decode(encoded).ok()?,
            None => text.as_bytes().to_vec(),
        };
        (bytes.len() >= KEY_MIN_BYTES).then(|| Self(bytes.into()))
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `None` where no address is set.
pub fn read(source: &Source<'_>) -> Result<Option<WebhookSettings>, SettingsError> {
    let url = source.optional("WEBHOOK_URL", "an address, https://... or http://...", fields::http_address)?;
    let allowed = "whsec_ and base64 of 24 bytes or more, or a text of 24 bytes or more";
    let key = source.optional("WEBHOOK_SECRET", allowed, SigningKey::parse)?;
    match (url, key) {
        (Some(url), Some(key)) => Ok(Some(WebhookSettings { url, key })),
        (None, None) => Ok(None),
        (Some(_), None) => {
            source.must_be_unset("WEBHOOK_URL", "events are signed: set WEBHOOK_SECRET too").map(|()| None)
        }
        (None, Some(_)) => {
            source.must_be_unset("WEBHOOK_SECRET", "it signs nothing without WEBHOOK_URL").map(|()| None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_base64_behind_its_prefix_and_else_a_text() {
        let bytes = |text: &str| SigningKey::parse(text).map(|key| key.expose().to_vec());
        let decoded: Vec<u8> = (0..25).collect();
        let encoded = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA";
        assert_eq!(bytes(&format!("whsec_{encoded}==")), Some(decoded.clone()));
        assert_eq!(bytes(&format!("whsec_{encoded}")), Some(decoded));
        assert_eq!(bytes("just a text of 24 bytes.").map(|key| key.len()), Some(24));
        for short in ["whsec_", "whsec_AAEC", "whsec_not base64 at all, though long", "a text of 23 bytes, no."] {
            assert_eq!(bytes(short), None, "{short}");
        }
    }
}
