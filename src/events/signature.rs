//! The signature of Standard Webhooks 1.0.0: HMAC-SHA256 of `id.timestamp.body`, as `v1,<base64>`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::WebhookError;
use crate::config::SigningKey;
use crate::domain::event::EventId;

/// Signs what is sent.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(***)")
    }
}

impl Signer {
    pub(super) fn new(key: &SigningKey) -> Result<Self, WebhookError> {
        Hmac::new_from_slice(key.expose()).map(Self).map_err(|_| WebhookError::Secret)
    }

    /// `timestamp` is that of the attempt, in Unix seconds.
    pub(super) fn sign(&self, id: &EventId, timestamp: i64, body: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out with `openssl dgst -sha256 -hmac`.
    #[test]
    fn a_signature_is_the_one_that_others_work_out() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = Signer::new(&key).unwrap().sign(&EventId::of(7), 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,MTN/R5Vdyv2jlldmKM+2nGW0GMy8W8wp5Yhx/khhCCA=");
    }
}
