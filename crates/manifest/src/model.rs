//! The manifest: a deployment file after validation, in the shape that is sent to the provider and run by it.
//!
//! Everything is spelled out: aliases are resolved, units are integers (milli-CPU, bytes, seconds), defaults are filled
//! in. It also holds what the order asks of the market ([`Requirements`]), because the provider derives the order terms
//! again from what it received and compares them with the chain: a manifest that asks for more than was paid for is
//! refused.
//!
//! A manifest that arrives over the network is hostile until [`crate::validate`] has accepted it;
//! [`crate::SaltedManifest::decode`] does both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::decimal::Decimal;

/// A validated deployment: one order at one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `profiles.name`: a label for people, not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the order asks of the market beside the services' resources.
    pub requirements: Requirements,
    /// Services by name. A name is a DNS label: containers of one lease reach each other by it.
    pub services: BTreeMap<String, Service>,
}

/// What the order asks of the market beside the services' resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirements {
    /// Who may serve it: providers or fizz nodes.
    pub mode: Mode,
    /// How long the lease runs, in seconds; never 0.
    pub duration_seconds: u64,
    /// Acceptable trust tiers, each 1 (best) to 7; never empty (all seven when the file names none).
    pub tiers: BTreeSet<u8>,
    /// Symbol of the payment token as written (`uSPON`); only a network file says what it stands for.
    pub token: String,
    /// Where it may run.
    pub placement: Placement,
}

/// Who serves the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A provider's own machines.
    Provider,
    /// A fizz node behind a provider's gateway.
    Fizz,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Provider => "provider",
            Self::Fizz => "fizz",
        })
    }
}

/// Where the order may run. Empty sets restrict nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// The placement's name in the file; a label only.
    pub label: String,
    /// Regions it may run in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub regions: BTreeSet<String>,
    /// Regions it must not run in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub excluded_regions: BTreeSet<String>,
    /// Providers (in fizz mode: gateways) it may run at.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub providers: BTreeSet<Address>,
    /// Providers (in fizz mode: gateways) it must not run at.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub excluded_providers: BTreeSet<Address>,
    /// Fizz nodes it may run at; fizz mode only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub fizz_nodes: BTreeSet<Address>,
    /// Fizz nodes it must not run at; fizz mode only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub excluded_fizz_nodes: BTreeSet<Address>,
}

/// One service: `count` identical containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Image reference as written, for example `ghcr.io/org/app:1.2` or `nginx`.
    pub image: String,
    /// When the image is pulled.
    pub pull_policy: PullPolicy,
    /// Login for the image's registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// The entrypoint; empty means the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The entrypoint's arguments; empty means the image's own, unless `command` is given (then none).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment, in the file's order, names unique. Values are never expanded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvironmentVariable>,
    /// Ports, in the file's order, ranges expanded; unique by (port, protocol).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<Expose>,
    /// How many containers; at least 1.
    pub count: u32,
    /// The compute profile's name in the file; a label only.
    pub profile: String,
    /// What each of the `count` containers gets.
    pub resources: Resources,
    /// The most that one container may cost, in whole tokens per hour.
    pub hourly_price: Decimal,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At every start of a container.
    Always,
    /// Only when the machine does not have it.
    IfNotPresent,
    /// Never: the machine must have it.
    Never,
}

/// Login for one registry. It is sent to that registry and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Registry host, with a port where it is not 443: `ghcr.io`, `127.0.0.1:5000`, `docker.io`.
    pub registry: String,
    /// Account at that registry.
    pub username: String,
    /// Password or token.
    pub password: Secret,
}

/// One environment variable. The value is treated as a secret: people put passwords there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentVariable {
    /// Name, without `=`.
    pub name: String,
    /// Value, maybe empty.
    pub value: Secret,
}

/// One exposed container port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expose {
    /// Port inside the container; never 0.
    pub port: u16,
    /// `as`: the port its user would like to see outside. A wish: the provider maps it and reports host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_port: Option<u16>,
    /// Transport.
    pub protocol: Protocol,
    /// Reachable from the internet.
    pub global: bool,
    /// Services of this deployment that may connect. Docker does not enforce it (one network per lease).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<String>,
    /// Host names under which an HTTP port is served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<String>,
}

impl Expose {
    /// Whether it is served as a website: ports that want to be 80 outside.
    pub fn is_http(&self) -> bool {
        self.protocol == Protocol::Tcp && self.external_port.unwrap_or(self.port) == 80
    }
}

/// Transport protocol of an exposed port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What one container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU time, in thousandths of a core; never 0.
    pub milli_cpu: u64,
    /// Memory in bytes, without the memory volumes; never 0.
    pub memory_bytes: u64,
    /// Size of the container's writable root disk in bytes; 0 when the file asks for named volumes only: the container
    /// then gets what the machine's owner allows every container, and nothing is reserved for it.
    pub root_disk_bytes: u64,
    /// Named storage, in the file's order, names unique.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// GPUs, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
}

impl Resources {
    /// Memory to reserve and to limit to, in bytes: memory volumes (tmpfs, `/dev/shm`) are charged to the container.
    /// `None` on overflow, which a validated manifest does not have.
    pub fn total_memory_bytes(&self) -> Option<u64> {
        self.sum_volumes(self.memory_bytes, |volume| volume.kind == VolumeKind::Memory)
    }

    /// Disk to reserve, in bytes: the root disk and every volume that is not memory. `None` on overflow, which a
    /// validated manifest does not have.
    pub fn total_storage_bytes(&self) -> Option<u64> {
        self.sum_volumes(self.root_disk_bytes, |volume| volume.kind != VolumeKind::Memory)
    }

    fn sum_volumes(&self, start: u64, wanted: impl Fn(&Volume) -> bool) -> Option<u64> {
        self.volumes
            .iter()
            .filter(|volume| wanted(volume))
            .try_fold(start, |sum, volume| sum.checked_add(volume.bytes))
    }
}

/// One named piece of storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Name, a DNS label.
    pub name: String,
    /// Size in bytes; never 0.
    pub bytes: u64,
    /// What it is made of.
    pub kind: VolumeKind,
    /// Where it is mounted (`params.storage`). `None`: reserved and paid for, but not mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<Mount>,
}

/// What a volume is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// Disk that lives as long as the container.
    Ephemeral,
    /// Hard disk that lives as long as the lease.
    Beta1,
    /// SSD that lives as long as the lease.
    Beta2,
    /// NVMe that lives as long as the lease.
    Beta3,
    /// Memory (class `ram`): tmpfs, at `/dev/shm` the shared memory. Counts as memory, not as storage.
    Memory,
}

impl VolumeKind {
    /// Whether it outlives its container (and ends with the lease).
    pub fn is_persistent(self) -> bool {
        matches!(self, Self::Beta1 | Self::Beta2 | Self::Beta3)
    }
}

/// Where a volume is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path inside the container, without `..`.
    pub path: String,
    /// Mounted without write access.
    pub read_only: bool,
}

/// A GPU requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// GPUs per container; at least 1.
    pub units: u32,
    /// Acceptable kinds; any of them will do. Empty: any GPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<GpuKind>,
}

/// One acceptable kind of GPU; what is absent restricts nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuKind {
    /// Vendor in lower case: `nvidia`, `amd`.
    pub vendor: String,
    /// Model in lower case: `rtx4090`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The least video memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_memory_bytes: Option<u64>,
    /// `pcie` or `sxm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// Text that must not reach logs: `Debug` shows its length only, and it is wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for the container's environment and the registry's login, and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<{} bytes, hidden>", self.0.len())
    }
}
