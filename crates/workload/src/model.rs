//! What names a lease's objects on an engine, and what an engine decides once for a lease.

use std::collections::BTreeMap;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use alloy_primitives::Address;
use avs::words::OrderId;
use manifest::Protocol;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A lease, by its order's id on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

impl LeaseId {
    /// The escrow account that pays for it.
    pub fn account(self) -> u32 {
        OrderId::unpack(self.0).account
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl FromStr for LeaseId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Whose objects these are. Two providers may share one engine: each sees and touches only what carries its own scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The provider's address on chain.
    pub provider: Address,
    /// The devnet that started it, if one did: what a devnet leaves behind it finds again by this, and devnets that use
    /// the same accounts do not meet.
    pub devnet: Option<String>,
}

impl Scope {
    /// The provider as it is written in labels: lower-case hexadecimal with `0x`.
    pub fn provider_text(&self) -> String {
        format!("0x{}", hex::encode(self.provider))
    }

    /// Twelve hexadecimal digits that tell this scope from any other.
    pub fn tag(&self) -> String {
        self.digest(None)
    }

    /// The names of one lease's objects.
    pub fn names(&self, lease: LeaseId) -> Names {
        let tag = self.digest(Some(lease));
        Names {
            prefix: format!("spheron-{lease}-{}", &tag[..8]),
            // Interface names have at most 15 bytes.
            bridge: format!("sp{tag}"),
        }
    }

    fn digest(&self, lease: Option<LeaseId>) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"spheron workload scope");
        hasher.update(self.provider);
        match &self.devnet {
            Some(devnet) => {
                hasher.update([1]);
                hasher.update((devnet.len() as u64).to_be_bytes());
                hasher.update(devnet);
            }
            None => hasher.update([0]),
        }
        if let Some(lease) = lease {
            hasher.update(lease.0.to_be_bytes());
        }
        hex::encode(&hasher.finalize()[..6])
    }
}

/// The names of one lease's objects: the same at every call, so that an engine which has one refuses a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    prefix: String,
    bridge: String,
}

impl Names {
    /// The lease's network.
    pub fn network(&self) -> String {
        self.prefix.clone()
    }

    /// The network's bridge on the host, at most 15 bytes: the firewall rules name it.
    pub fn bridge(&self) -> String {
        self.bridge.clone()
    }

    /// One container. `replica` counts from 0.
    pub fn container(&self, service: &str, replica: u32) -> String {
        format!("{}-{service}-{replica}", self.prefix)
    }

    /// One volume of one container.
    pub fn volume(&self, service: &str, replica: u32, volume: &str) -> String {
        format!("{}-{service}-{replica}-{volume}", self.prefix)
    }
}

/// What an engine decides once for a lease and must not decide again. The caller stores it with the lease and hands it
/// back at every apply; where it was lost, what the containers' labels say is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The images, by service: a tag is resolved once, a restart runs the same bytes.
    #[serde(default)]
    pub images: BTreeMap<String, ResolvedImage>,
    /// The published ports: the lease's URLs, which outlive a restart of the engine.
    #[serde(default)]
    pub ports: Vec<AssignedPort>,
}

/// An image that can change no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// The reference it was resolved from, as the manifest has it.
    pub reference: String,
    /// The engine's id of the image, `sha256:...`.
    pub id: String,
    /// Where the same image can be pulled from again, `repository@sha256:...`; images that exist only on this machine
    /// have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AssignedPort {
    /// The service.
    pub service: String,
    /// The replica, from 0.
    pub replica: u32,
    /// The port inside the container.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// The port on the host.
    pub host_port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(devnet: Option<&str>) -> Scope {
        Scope {
            provider: Address::repeat_byte(0x11),
            devnet: devnet.map(str::to_owned),
        }
    }

    #[test]
    fn names_are_stable_and_fit_the_kernel() {
        let names = scope(None).names(LeaseId(u64::MAX));
        assert_eq!(names, scope(None).names(LeaseId(u64::MAX)));
        assert!(names.bridge().len() <= 15, "{}", names.bridge());
        assert!(names.container("web", 0).starts_with("spheron-18446744073709551615-"));
    }

    #[test]
    fn names_differ_by_lease_devnet_and_provider() {
        let mut other = scope(None);
        other.provider = Address::repeat_byte(0x12);
        let bridges = [
            scope(None).names(LeaseId(1)).bridge(),
            scope(None).names(LeaseId(2)).bridge(),
            scope(Some("a")).names(LeaseId(1)).bridge(),
            scope(Some("b")).names(LeaseId(1)).bridge(),
            other.names(LeaseId(1)).bridge(),
        ];
        let distinct: std::collections::BTreeSet<_> = bridges.iter().collect();
        assert_eq!(distinct.len(), bridges.len());
    }
}
