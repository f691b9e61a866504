//! What goes over the wire: paths, a header, JSON bodies, errors. Version 1; a change that an older peer would misread gets `/v2`.
//!
//! Numbers that may exceed 2^53 (lease ids) are decimal strings. Unknown fields are ignored, so that a newer peer may say
//! more; unknown states and codes are kept apart as `Unknown`.

mod error;
mod holder;
mod lease;
mod logs;
mod provider;

use std::fmt;
use std::str::FromStr;

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

pub use error::{Difference, ErrorBody, ErrorCode, ErrorDetails};
pub use holder::{HOLDER, MalformedHolder, claimed_holder};
pub use lease::{
    LeasePhase, LeaseStatus, PublicAddress, ReplicaState, ReplicaStatus, ServiceState, ServiceStatus,
    TransportProtocol, UpdatePhase, UpdateStatus,
};
pub use logs::{LogCursor, LogEnd, LogGap, LogItem, LogLine, LogQuery, MalformedCursor, OutputStream};
pub use provider::{GpuCapacity, ProviderStatus, ResourceAmounts};

/// The version in all paths, and of [`ProviderStatus::version`].
pub const VERSION: u32 = 1;

/// The largest encoded manifest. Servers refuse more with 413.
pub const LARGEST_MANIFEST_BYTES: usize = 512 * 1024;

/// `Content-Type` of a log stream: one [`LogItem`] per line.
pub const NDJSON: &str = "application/x-ndjson";

/// Paths: as templates for a router, and filled in for a client.
pub mod path {
    use super::LeaseId;

    /// GET: [`super::ProviderStatus`].
    pub const STATUS: &str = "/v1/status";
    /// GET: [`super::LeaseStatus`].
    pub const LEASE: &str = "/v1/leases/{lease}";
    /// PUT the bytes of `manifest::SaltedManifest::encode`, answered by a [`super::ManifestReceipt`]; GET gives them back. The
    /// manifest of a proposed update is sent under the lease that it is to replace.
    pub const MANIFEST: &str = "/v1/leases/{lease}/manifest";
    /// GET with a [`super::LogQuery`]: [`super::LogItem`]s, one per line.
    pub const LOGS: &str = "/v1/leases/{lease}/logs";

    /// [`LEASE`] of one lease.
    pub fn lease(lease: LeaseId) -> String {
        format!("/v1/leases/{lease}")
    }

    /// [`MANIFEST`] of one lease.
    pub fn manifest(lease: LeaseId) -> String {
        format!("/v1/leases/{lease}/manifest")
    }

    /// [`LOGS`] of one lease.
    pub fn logs(lease: LeaseId) -> String {
        format!("/v1/leases/{lease}/logs")
    }
}

/// A lease's id, which is its order's: account, token and nonce as the order book packs them. Text and JSON: decimal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseId(pub u64);

/// Text that is not a lease id.
#[derive(Debug, thiserror::Error)]
#[error("expected a lease id: a decimal number below 2^64")]
pub struct MalformedLeaseId;

impl fmt::Display for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for LeaseId {
    type Err = MalformedLeaseId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `u64::from_str` would take a plus sign and leading zeros: one lease has one path.
        let canonical = text == "0" || (text.starts_with(|first: char| matches!(first, '1'..='9')) && text.len() <= 20);
        canonical
            .then(|| text.parse().ok())
            .flatten()
            .map(Self)
            .ok_or(MalformedLeaseId)
    }
}

impl TryFrom<String> for LeaseId {
    type Error = MalformedLeaseId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LeaseId> for String {
    fn from(lease: LeaseId) -> Self {
        lease.to_string()
    }
}

impl From<u64> for LeaseId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

/// The answer to a manifest that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReceipt {
    /// The lease.
    pub lease: LeaseId,
    /// The hash that the provider computed; equal to the one on chain.
    pub manifest_hash: B256,
    /// Whether the provider had exactly this manifest already.
    pub already_stored: bool,
    /// Whether it is the manifest of a proposed update: it runs once the provider has taken the update.
    #[serde(default)]
    pub for_update: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_one_spelling() {
        let largest = u64::MAX.to_string();
        for text in ["0", "1", largest.as_str()] {
            assert_eq!(text.parse::<LeaseId>().expect("canonical").to_string(), text);
        }
        for text in [
            "",
            "+1",
            "01",
            "-1",
            "0x1",
            "1 ",
            "18446744073709551616",
            "99999999999999999999999",
        ] {
            assert!(text.parse::<LeaseId>().is_err(), "{text}");
        }
        assert_eq!(
            serde_json::to_string(&LeaseId(u64::MAX)).expect("json"),
            format!("\"{largest}\"")
        );
    }
}
