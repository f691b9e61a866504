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
