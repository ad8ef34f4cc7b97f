//! The address of a PostgreSQL server: which part of it the driver reads, and what `sslmode` means.
//!
//! `sslmode` is as libpq has it: `disable`, `prefer` (the default), `require`, `verify-ca` and `verify-full`; with
//! `sslrootcert`, a PEM file or `system` (the default: the certificates that the system trusts). Not supported, and refused:
//! `allow`, client certificates (`sslcert`, `sslkey`) and revocation lists (`sslcrl`).

use std::sync::Arc;
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use percent_encoding::percent_decode_str;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::DbError;
use super::postgres_tls::AnyName;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// After so long without an acknowledgement the system gives a connection up.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);

/// A line that broke in silence leaves its session behind on the server. In a transaction it holds locks that others wait
/// for, so the server is told to end it soon.
const SESSION: &str = "SET jit = off; SET idle_in_transaction_session_timeout = '15s'; SET tcp_keepalives_idle = 30; \
     SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3";

/// Where the server is, and how to speak to it.
pub(super) struct PostgresAddress {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl PostgresAddress {
    pub(super) fn parse(url: &str) -> Result<Self, DbError> {
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = Mode::Prefer;
        let mut roots = None;
        let mut passed_on = Vec::new();
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| unusable("a parameter is not UTF-8"))?;
            match name {
                "sslmode" => mode = Mode::parse(&value)?,
                "sslrootcert" => roots = (value != "system").then(|| value.into_owned()),
                "sslcert" | "sslkey" | "sslcrl" | "sslpassword" => {
                    return Err(unusable(&format!("the parameter {name} is not supported")));
                }
                _ => passed_on.push(parameter),
            }
        }
        let driver_url = if passed_on.is_empty() { base.to_owned() } else { format!("{base}?{}", passed_on.join("&")) };
        // The driver's own message names the part that it can't read, never the password.
        let mut config: Config = driver_url.parse().map_err(|error: tokio_postgres::Error| {
            unusable(&std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        if config.get_application_name().is_none() {
            config.application_name("quotad");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.keepalives_idle(KEEPALIVE_IDLE).tcp_user_timeout(TCP_USER_TIMEOUT).ssl_mode(mode.of_driver());
        let tls = mode.tls(roots.as_deref())?.map(MakeRustlsConnect::new);
        Ok(Self { config, tls })
    }

    /// Opens a connection, driven by the runtime that this is called on.
    pub(super) async fn open(&self) -> ConnectionResult<AsyncPgConnection> {
        let mut opened = match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.map_err(refused)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await?
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(refused)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await?
            }
        };
        opened.batch_execute(SESSION).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(opened)
    }
}

fn refused(error: tokio_postgres::Error) -> ConnectionError {
    // "error connecting to server" alone tells nobody what to do.
    let reason = std::error::Error::source(&error).map(|source| format!(": {source}"));
    ConnectionError::BadConnection(format!("{error}{}", reason.unwrap_or_default()))
}

fn unusable(reason: &str) -> DbError {
    DbError::Settings { reason: reason.to_owned() }
}

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    /// TLS where the server offers it, without looking at its certificate.
    Prefer,
    /// TLS. The certificate is looked at where `sslrootcert` says what to hold it against, as libpq does.
    Require,
    /// TLS with a certificate that a trusted authority signed.
    VerifyCa,
    /// The same, and it is for the host's name.
    VerifyFull,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, DbError> {
        Ok(match text {
            "disable" => Mode::Disable,
            "prefer" => Mode::Prefer,
            "require" => Mode::Require,
            "verify-ca" => Mode::VerifyCa,
            "verify-full" => Mode::VerifyFull,
            _ => return Err(unusable("sslmode must be disable, prefer, require, verify-ca or verify-full")),
        })
    }

    const fn of_driver(self) -> SslMode {
        match self {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        }
    }

    fn tls(self, roots: Option<&str>) -> Result<Option<ClientConfig>, DbError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verified = match self {
            Mode::Disable => return Ok(None),
            Mode::Prefer => false,
            Mode::Require => roots.is_some(),
            Mode::VerifyCa | Mode::VerifyFull => true,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error.to_string()))?;
        let verifier = if verified {
            let authorities = trusting(roots, Arc::clone(&provider))?;
            if self == Mode::VerifyFull {
                return Ok(Some(builder.with_webpki_verifier(authorities).with_no_client_auth()));
            }
            AnyName::signed_by(authorities, provider)
        } else {
            AnyName::any_certificate(provider)
        };
        Ok(Some(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()))
    }
}

fn trusting(file: Option<&str>, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, DbError> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            let unreadable = |error: &dyn std::fmt::Display| unusable(&format!("sslrootcert={file}: {error}"));
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
                roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
            }
        }
        // A certificate that the system has and rustls can't read is no reason to trust fewer of the others.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unusable(&format!("no certificate authority to hold the server's against: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        PostgresAddress::parse(url).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        assert!(refusal("postgres://h/d?sslmode=allow").contains("sslmode must be"));
        assert!(refusal("postgres://h/d?sslcert=/x").contains("sslcert is not supported"));
        assert!(refusal("postgres://h/d?sslmode=verify-full&sslrootcert=/nowhere.pem").contains("/nowhere.pem"));
        assert!(refusal("postgres://h/d?colour=blue").contains("colour"));
    }

    #[test]
    fn a_password_is_never_told() {
        let told = refusal("postgres://me:hunter2@h:notaport/d");
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn the_rest_of_the_address_is_the_drivers() {
        let address =
            PostgresAddress::parse("postgres://me:p%20w@h:5433/d?application_name=x&sslmode=disable").unwrap();
        assert_eq!(address.config.get_password(), Some("p w".as_bytes()));
        assert_eq!(address.config.get_application_name(), Some("x"));
        assert_eq!(address.config.get_ssl_mode(), SslMode::Disable);
        assert!(address.tls.is_none());
    }
}
