//! What can go wrong between the command line and a gateway, in sentences.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use rustls::{AlertDescription, CertificateError};

use crate::tls::WrongFingerprint;
use crate::wire::ErrorBody;

/// Why a gateway did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not the address of a gateway.
    #[error("{url} is not the address of a gateway: {reason}; expected https://host:port")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The identity cannot be used.
    #[error("the TLS identity cannot be used")]
    Tls(#[source] rustls::Error),
    /// Nobody answers there.
    #[error("the gateway {gateway} cannot be reached; is the provider up, and may this machine connect there?")]
    Unreachable {
        /// `host:port`.
        gateway: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Somebody answers, too slowly.
    #[error("the gateway {gateway} did not send {awaited} within {} seconds", .limit.as_secs())]
    TimedOut {
        /// `host:port`.
        gateway: String,
        /// What was waited for.
        awaited: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// Somebody else answers.
    #[error("{gateway} is not the provider of this lease: {mismatch}; nothing was sent")]
    WrongFingerprint {
        /// `host:port`.
        gateway: String,
        /// Both fingerprints.
        mismatch: WrongFingerprint,
    },
    /// The gateway does not take our certificate.
    #[error("the gateway {gateway} refused this client's certificate ({alert}); is it well-formed?")]
    CertificateRefused {
        /// `host:port`.
        gateway: String,
        /// The TLS alert.
        alert: String,
    },
    /// The connection broke.
    #[error("the connection to the gateway {gateway} broke")]
    Broken {
        /// `host:port`.
        gateway: String,
        /// What broke it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The gateway says no, and why.
    #[error("the gateway {gateway} refused: {}", .body.message)]
    Refused {
        /// `host:port`.
        gateway: String,
        /// HTTP status.
        status: StatusCode,
        /// The reason, for people and for programs.
        body: ErrorBody,
    },
    /// What came back is not this protocol.
    #[error(
        "the gateway {gateway} sent {what}; is it a gateway of version {}?",
        crate::wire::VERSION
    )]
    Nonsense {
        /// `host:port`.
        gateway: String,
        /// What came.
        what: String,
    },
    /// No gateway takes it.
    #[error("the manifest takes {size} bytes, and no gateway takes more than {largest}")]
    ManifestTooLarge {
        /// Its size when encoded.
        size: usize,
        /// The limit.
        largest: usize,
    },
}

impl ClientError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Broken { .. } => true,
            Self::Refused { status, body, .. } => body.error.is_transient() || matches!(status.as_u16(), 502..=504),
            _ => false,
        }
    }

    /// Tells a refused key, or a refused certificate, from a broken connection: TLS hides both inside I/O errors.
    pub(super) fn of_connection(gateway: &str, source: Box<dyn Error + Send + Sync>) -> Self {
        let gateway = gateway.to_owned();
        match find_tls_error(source.as_ref()) {
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => {
                if let Some(mismatch) = other.0.downcast_ref::<WrongFingerprint>() {
                    return Self::WrongFingerprint {
                        gateway,
                        mismatch: mismatch.clone(),
                    };
                }
            }
            Some(rustls::Error::AlertReceived(
                alert @ (AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError),
            )) => {
                return Self::CertificateRefused {
                    gateway,
                    alert: format!("{alert:?}"),
                };
            }
            _ => {}
        }
        Self::Broken { gateway, source }
    }
}

fn find_tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // `io::Error::source` skips the error it wraps.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
