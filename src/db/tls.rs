//! The address of a PostgreSQL server, and the TLS that its `sslmode` asks for, as libpq means it:
//! `disable`, `prefer` and `require` (encrypted, certificate not checked), `verify-ca` and `verify-full` (checked).

use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;

use super::DbError;

/// Where the server is, and how it is spoken to.
#[derive(Clone)]
pub struct Address {
    pub config: tokio_postgres::Config,
    /// `None`: in the clear.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Address {
    /// Reads a `postgres://` URL. `sslmode` and `sslrootcert` are read here: the driver knows but three modes.
    pub fn parse(url: &str) -> Result<Self, DbError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = "prefer";
        let mut root_file = None;
        let mut rest = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = value,
                Some(("sslrootcert", value)) => root_file = Some(value),
                _ => rest.push(parameter),
            }
        }
        let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        // The driver's text may quote the URL, and with it the password.
        let mut config = tokio_postgres::Config::from_str(&url)
            .map_err(|_| DbError::Address("is not a PostgreSQL address".to_owned()))?;
        let (ssl_mode, tls) = match mode {
            "disable" => (SslMode::Disable, None),
            "prefer" | "allow" => (SslMode::Prefer, Some(unchecked()?)),
            "require" if root_file.is_none() => (SslMode::Require, Some(unchecked()?)),
            "require" | "verify-ca" | "verify-full" => (SslMode::Require, Some(checked(root_file)?)),
            other => return Err(DbError::Address(format!("sslmode={other} is not one that libpq knows"))),
        };
        config.ssl_mode(ssl_mode);
        Ok(Self { config, tls })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn in_words(error: impl std::fmt::Display) -> DbError {
    DbError::Address(error.to_string())
}

/// Certificates are checked against a file of roots, or those of the system, and against the name of the host.
fn checked(root_file: Option<&str>) -> Result<Arc<ClientConfig>, DbError> {
    let mut roots = RootCertStore::empty();
    match root_file {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(in_words)? {
                roots.add(certificate.map_err(in_words)?).map_err(in_words)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(DbError::Address("there is no root certificate to check the server by".to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    Ok(Arc::new(builder.map_err(in_words)?.with_root_certificates(roots).with_no_client_auth()))
}

fn unchecked() -> Result<Arc<ClientConfig>, DbError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let verifier = Arc::new(AnyCertificate(provider()));
    Ok(Arc::new(
        builder.map_err(in_words)?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth(),
    ))
}

/// Takes any certificate, as libpq does without `verify-*`: it keeps out who listens, not who stands between.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sslmode_is_read_as_libpq_means_it() {
        let tls = |mode: &str| Address::parse(&format!("postgres://u:p@h/d?sslmode={mode}")).map(|a| a.tls.is_some());
        assert!(matches!(tls("disable"), Ok(false)));
        assert!(matches!(tls("require"), Ok(true)));
        assert!(tls("sometimes").is_err());
        assert!(matches!(Address::parse("postgres://u:p@h/d?application_name=x"), Ok(a) if a.tls.is_some()));
    }
}
