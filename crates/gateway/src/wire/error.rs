//! Every answer that is not 2xx has this body.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

/// Body of every answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorBody {
    /// For programs.
    pub error: ErrorCode,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// What the message is about, in parts.
    #[serde(default, skip_serializing_if = "ErrorDetails::is_empty")]
    pub details: ErrorDetails,
}

/// What an error is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetails {
    /// Where a manifest differs from its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// When it is worth asking again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl ErrorDetails {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One field of the order terms that the manifest does not lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The field: `manifest hash`, `cpu`, `duration`, ...
    pub field: String,
    /// What the order on chain says, for people: amounts in the units of a deployment file.
    pub on_chain: String,
    /// What follows from the manifest, in the same way.
    pub from_manifest: String,
}

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not a request this server understands.
    BadRequest,
    /// No such path.
    NotFound,
    /// The path does not take this method.
    MethodNotAllowed,
    /// No such lease at this provider.
    UnknownLease,
    /// The certificate is neither that of the owner of the lease's account nor that of a [`super::HOLDER`] who has a right to
    /// spend of it now; or it was revoked.
    NotYours,
    /// The lease is over.
    LeaseClosed,
    /// There is no manifest to give back.
    NoManifest,
    /// Not a manifest.
    InvalidManifest,
    /// The manifest's hash is not the one on chain.
    ManifestHashMismatch,
    /// The manifest asks for something else than the order on chain.
    TermsMismatch,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// Too many requests, or too many streams at once.
    RateLimited,
    /// The server has too much to do.
    Overloaded,
    /// The server cannot reach the chain, so that it does not know who may.
    ChainUnavailable,
    /// The server cannot store, or failed in another way that is not the client's fault.
    Internal,
    /// A code of a newer server.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// The HTTP status that goes with it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotFound | Self::UnknownLease | Self::NoManifest => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotYours => StatusCode::FORBIDDEN,
            Self::LeaseClosed => StatusCode::GONE,
            Self::InvalidManifest | Self::ManifestHashMismatch | Self::TermsMismatch => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::ChainUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal | Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Overloaded | Self::ChainUnavailable | Self::BodyTooSlow
        )
    }
}

impl ErrorBody {
    /// Without details.
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            error,
            message: message.into(),
            details: ErrorDetails::default(),
        }
    }

    /// Says when to ask again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.details.retry_after_seconds = Some(seconds);
        self
    }

    /// Says what differs.
    pub fn with_differences(mut self, differences: Vec<Difference>) -> Self {
        self.details.differences = differences;
        self
    }
}

impl IntoResponse for ErrorBody {
    fn into_response(self) -> Response {
        let retry_after = self.details.retry_after_seconds;
        let mut response = (self.error.status(), Json(self)).into_response();
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_newer_server_are_understood_as_unknown() {
        let body: ErrorBody =
            serde_json::from_str(r#"{"error":"on_fire","message":"run","details":{"colour":"red"}}"#).expect("parse");
        assert_eq!(body.error, ErrorCode::Unknown);
        assert_eq!(body.message, "run");
        let bare: ErrorBody = serde_json::from_str(r#"{"error":"not_yours","message":"no"}"#).expect("parse");
        assert_eq!(bare.error, ErrorCode::NotYours);
    }

    #[test]
    fn details_are_left_out_when_there_are_none() {
        let json = serde_json::to_string(&ErrorBody::new(ErrorCode::NotFound, "no such path")).expect("json");
        assert_eq!(json, r#"{"error":"not_found","message":"no such path"}"#);
    }
}
