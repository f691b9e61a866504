//! What runs, in words and numbers: what a provider shows a lease's owner.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::AssignedPort;

/// A lease as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Its services, by name.
    pub services: BTreeMap<String, ServiceStatus>,
}

impl LeaseStatus {
    /// Whether every replica of every service runs.
    pub fn is_ready(&self) -> bool {
        !self.services.is_empty()
            && self.services.values().all(|service| {
                !service.replicas.is_empty()
                    && service
                        .replicas
                        .iter()
                        .all(|replica| matches!(replica.state, ReplicaState::Running { .. }))
            })
    }

    /// The first reason why it will not run as it is, if there is one: an image that does not exist, for example.
    pub fn failure(&self) -> Option<(&str, &str)> {
        self.services.iter().find_map(|(name, service)| {
            service.replicas.iter().find_map(|replica| match &replica.state {
                ReplicaState::Failed { reason } => Some((name.as_str(), reason.as_str())),
                _ => None,
            })
        })
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The image as the manifest has it.
    pub image: String,
    /// The same image as it was resolved, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_image: Option<String>,
    /// Its containers, by replica.
    pub replicas: Vec<ReplicaStatus>,
    /// What its owner should know, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Counts from 0.
    pub replica: u32,
    /// What it does.
    pub state: ReplicaState,
    /// How often it was started again after it had ended by itself. Counted since this agent started.
    pub restarts: u32,
    /// Its published ports.
    pub ports: Vec<AssignedPort>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Nothing yet, and why.
    Waiting {
        /// Why.
        reason: String,
    },
    /// Its image is on the way.
    Pulling {
        /// Bytes of the layers that are here.
        received_bytes: u64,
        /// Bytes of the layers known so far; grows while the registry names more of them.
        total_bytes: u64,
        /// Attempts, from 1.
        attempt: u32,
        /// Why the attempt before this one ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
    },
    /// Exists, not started.
    Created,
    /// Runs.
    Running {
        /// Since when, RFC 3339.
        since: String,
    },
    /// Ended by itself; it is started again after a pause that grows.
    Exited {
        /// Exit status of its first process; 137 also stands for being killed.
        code: i64,
        /// Whether the kernel ended it because it went over its memory limit.
        out_of_memory: bool,
        /// When, RFC 3339.
        finished_at: String,
        /// Seconds until it is started again.
        restart_in_seconds: u64,
    },
    /// Stopped by the provider, and why.
    Stopped {
        /// Why.
        reason: String,
    },
    /// Cannot run as the manifest has it, and why.
    Failed {
        /// Why, with what to change.
        reason: String,
    },
}
