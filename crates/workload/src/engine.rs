//! The one interface over what runs workloads.

use std::collections::BTreeMap;

use async_trait::async_trait;
use manifest::Manifest;

use crate::logs::LogStore;
use crate::model::{Assignment, LeaseId, ResolvedImage};
use crate::status::LeaseStatus;

/// What runs workloads. Every call is idempotent and bounded in time; none waits for an image.
#[async_trait]
pub trait Engine: std::fmt::Debug + Send + Sync {
    /// Brings a lease one step closer to its manifest, from whatever state it is in, and says how far it is. Pulls run
    /// in the background: call again when [`Engine::changed`] returns, and periodically. `assignment` is what the last
    /// call returned (empty for a new lease); store the returned one before anything else.
    async fn apply(&self, lease: LeaseId, manifest: &Manifest, assignment: &Assignment) -> Result<Applied, Error>;

    /// Brings the images of a manifest here, and says what of it cannot run, while what runs is left alone: for a manifest
    /// that is to take the place of another. Pulls run in the background as for [`Engine::apply`].
    async fn stage(&self, lease: LeaseId, manifest: &Manifest) -> Result<Staged, Error>;

    /// Forgets what pulls for a lease came to: the next apply takes the images that its assignment names.
    async fn unstage(&self, lease: LeaseId);

    /// Stops a lease's containers and keeps everything else: its disks, its names, its ports.
    async fn stop(&self, lease: LeaseId) -> Result<(), Error>;

    /// Removes everything of a lease but its logs, which are kept for their time. A lease that is not there is removed.
    async fn remove(&self, lease: LeaseId) -> Result<(), Error>;

    /// Removes everything of this engine's scope: for a devnet that cleans up after its agents.
    async fn remove_all(&self) -> Result<(), Error>;

    /// What exists in this engine's scope, by label, whether or not anybody wants it.
    async fn observe(&self) -> Result<Vec<ObservedLease>, Error>;

    /// A lease as it is now; `None` where nothing of it exists and nobody applied it.
    async fn status(&self, lease: LeaseId) -> Result<Option<LeaseStatus>, Error>;

    /// Tries again what failed for good: for a manifest that was sent again.
    async fn forget_failures(&self, lease: LeaseId);

    /// Puts the isolation rules back where something removed them, and says whether they are in force.
    async fn isolation(&self) -> Isolation;

    /// The machine behind the engine.
    async fn capacity(&self) -> Result<Capacity, Error>;

    /// The file system where images, containers and volumes live.
    async fn disk(&self) -> Result<Disk, Error>;

    /// Measures what the leases' containers and volumes use, and stops containers above their limits. Walks the disks:
    /// call it every few minutes, and once before the first apply after a start.
    async fn measure(&self) -> Result<Vec<Usage>, Error>;

    /// Returns when a container changed its state or a pull moved on, at the latest after a minute.
    async fn changed(&self);

    /// The services' output.
    fn logs(&self) -> &LogStore;
}

/// What one call of [`Engine::apply`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What was decided for the lease: store it, and hand it to the next call.
    pub assignment: Assignment,
    /// How far the lease is.
    pub status: LeaseStatus,
    /// How many objects this call created, started, stopped or removed; 0 when everything was right.
    pub changes: usize,
}

/// How far the images of a manifest are that is to take the place of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Staged {
    /// Those that are here, by service: what the manifest will run from.
    pub images: BTreeMap<String, ResolvedImage>,
    /// Services whose image is on the way.
    pub waiting: Vec<String>,
    /// The first of these for which an attempt to pull it failed, and why. It is tried again.
    pub problem: Option<(String, String)>,
    /// The first service that cannot run as the manifest has it, and why.
    pub failure: Option<(String, String)>,
}

impl Staged {
    /// Whether every image is here.
    pub fn is_ready(&self) -> bool {
        self.waiting.is_empty() && self.failure.is_none()
    }
}

/// A lease of which something exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedLease {
    /// Which.
    pub lease: LeaseId,
    /// How many of its containers exist.
    pub containers: usize,
    /// How many of them run.
    pub running: usize,
    /// What the containers' labels say was decided for it.
    pub assignment: Assignment,
}

/// Whether tenants are kept away from the host, its networks and each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// Whether every rule is in force.
    pub isolated: bool,
    /// What is missing, each with what to do about it; empty when isolated.
    pub problems: Vec<String>,
}

/// The machine behind an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// CPU, in thousandths of a core.
    pub milli_cpu: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size of the file system of images, containers and volumes, in bytes.
    pub storage_bytes: u64,
    /// The architecture whose images run, as registries write it: `amd64`, `arm64`.
    pub architecture: String,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Its size in bytes.
    pub total_bytes: u64,
    /// What is left of it for the engine, in bytes.
    pub free_bytes: u64,
    /// Whether less is left than the settings want: a provider does not bid then.
    pub below_watermark: bool,
}

/// What one container uses of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The lease.
    pub lease: LeaseId,
    /// The service.
    pub service: String,
    /// The replica, from 0.
    pub replica: u32,
    /// Bytes of its writable layer and its volumes.
    pub used_bytes: u64,
    /// Bytes its manifest asked for.
    pub limit_bytes: u64,
}

/// Why an engine could not do what was asked. What a tenant did wrong is not here but in [`LeaseStatus`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine cannot be reached or did not answer in time.
    #[error(
        "the container engine at {address} does not answer; check that it runs (`docker info`) and that this user may use it"
    )]
    Unreachable {
        /// Where it was expected.
        address: String,
        /// What the connection said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine refused.
    #[error("the container engine refused to {action}")]
    Refused {
        /// What was asked of it.
        action: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No port of the configured range is free.
    #[error("all ports of {first}-{last} are in use; close leases or configure a wider range of host ports")]
    NoFreePort {
        /// The range's first port.
        first: u16,
        /// The range's last port.
        last: u16,
    },
    /// Isolation rules are missing and the settings insist on them.
    #[error("lease {lease} is not started: {problem}")]
    NotIsolated {
        /// Which lease.
        lease: LeaseId,
        /// What is missing.
        problem: String,
    },
    /// The settings cannot be used.
    #[error("{setting}: {problem}")]
    Settings {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A file of the log store or a mount point could not be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
