//! The two ways of TLS that look at less than all of the server's certificate: what `sslmode` calls `require` and `verify-ca`.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Looks at the handshake's own signature, and at as much of the certificate as it is made for, never at the name.
#[derive(Debug)]
pub(super) struct AnyName {
    provider: Arc<CryptoProvider>,
    /// Who must have signed the certificate. `None` takes any: that keeps listeners out, but not someone who stands in for
    /// the server.
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl AnyName {
    /// `require`: any certificate.
    pub(super) const fn any_certificate(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, authorities: None }
    }

    /// `verify-ca`: a certificate that a trusted authority signed, for whatever name.
    pub(super) const fn signed_by(authorities: Arc<WebPkiServerVerifier>, provider: Arc<CryptoProvider>) -> Self {
        Self { provider, authorities: Some(authorities) }
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last: an error about it means that the chain was good.
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
