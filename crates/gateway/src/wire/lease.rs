//! How a lease is doing.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

use super::LeaseId;

/// How a lease is doing, as its provider sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The lease.
    pub lease: LeaseId,
    /// Where it stands.
    pub phase: LeasePhase,
    /// Why, in words, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Hash of the manifest that is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_hash: Option<B256>,
    /// Unix seconds until which the provider waits for a manifest, while it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_deadline: Option<u64>,
    /// The first lease of the workload: leases that came from updates run the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<LeaseId>,
    /// Unix seconds at which what is paid for ends, while the lease lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<u64>,
    /// Unix seconds from which the workload is stopped if the lease was not extended until then: its end and the grace after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops_at: Option<u64>,
    /// Whether it is so near to its end that it should be extended now.
    #[serde(default)]
    pub low_on_funds: bool,
    /// The lease that an update put in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<LeaseId>,
    /// The last update that was proposed in its place, or the one that it came from, as far as something is to be said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
    /// In the order of their names; empty without a manifest.
    #[serde(default)]
    pub services: Vec<ServiceStatus>,
    /// What its user should know and what hinders nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Unix seconds at which this was observed.
    pub observed_at: u64,
}

/// Where a lease stands at its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeasePhase {
    /// No manifest has come yet.
    AwaitingManifest,
    /// It runs, but the provider lost the manifest: send it again.
    ManifestMissing,
    /// Images are pulled, containers are made.
    Deploying,
    /// Every replica of every service runs.
    Running,
    /// Something that ran does not.
    Degraded,
    /// It cannot run as it is.
    Failed,
    /// It ended on chain and is being removed.
    Closing,
    /// It ended and nothing is left but its logs.
    Closed,
    /// A phase of a newer provider.
    #[serde(other)]
    Unknown,
}

/// How an update is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// Where it stands.
    pub phase: UpdatePhase,
    /// Hash of the manifest that it brings.
    pub manifest_hash: B256,
    /// Unix seconds from which the proposal cannot be taken any more, while it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<u64>,
    /// Why it was refused or taken back, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where an update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdatePhase {
    /// Proposed: the provider would take it and waits for the manifest.
    AwaitingManifest,
    /// Its images are being brought to the provider; what ran before runs on.
    Staging,
    /// All is here; the provider takes the update on chain.
    Accepting,
    /// Taken: the new manifest takes the place of the old one, and is watched until it runs.
    Switching,
    /// The new manifest runs.
    Done,
    /// The provider refused it: nothing has changed.
    Refused,
    /// Taken, but its manifest did not come to run: the manifest before it runs again.
    RolledBack,
    /// The proposal expired before it could be taken: nothing has changed.
    Expired,
    /// A phase of a newer provider.
    #[serde(other)]
    Unknown,
}

/// One service of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// As in the manifest.
    pub name: String,
    /// Where it stands.
    pub state: ServiceState,
    /// Why, in words, where there is more to say: pull progress, the reason of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The image as written in the manifest.
    pub image: String,
    /// The image it was resolved to, which changes no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_image: Option<String>,
    /// How many replicas there should be.
    pub wanted: u32,
    /// How many run.
    pub running: u32,
    /// Each of them.
    #[serde(default)]
    pub replicas: Vec<ReplicaStatus>,
    /// Where it is reached from outside.
    #[serde(default)]
    pub addresses: Vec<PublicAddress>,
}

/// Where a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Nothing happened yet.
    Pending,
    /// Its image is pulled.
    Pulling,
    /// Its containers are started.
    Starting,
    /// As many run as wanted.
    Running,
    /// Fewer run than wanted.
    Degraded,
    /// It cannot run as it is.
    Failed,
    /// It was stopped.
    Stopped,
    /// A state of a newer provider.
    #[serde(other)]
    Unknown,
}

/// One container of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// From 0.
    pub replica: u32,
    /// What it does.
    pub state: ReplicaState,
    /// How often it was started again.
    pub restarts: u32,
    /// Exit status of its last run, where it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Why, in words: killed for memory, over its disk limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began to run, or ended, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// It is being made.
    Starting,
    /// It runs.
    Running,
    /// It ended and is about to be started again.
    Restarting,
    /// It ended.
    Exited,
    /// A state of a newer provider.
    #[serde(other)]
    Unknown,
}

/// Where one container port is reached from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicAddress {
    /// Which of the service's containers, from 0.
    pub replica: u32,
    /// Port inside the container.
    pub container_port: u16,
    /// Transport.
    pub protocol: TransportProtocol,
    /// Name or address of the host.
    pub host: String,
    /// Port on that host. The one the deployment file wished for may be another.
    pub port: u16,
    /// For what is served as a website.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Transport of an exposed port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}
