//! What runs, in the gateway's words.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use async_trait::async_trait;
use futures::stream::BoxStream;
use gateway::wire::{self, LeasePhase, PublicAddress, ServiceState, TransportProtocol, UpdatePhase, UpdateStatus};
use manifest::Manifest;
use workload::{AssignedPort, Engine, LeaseId, LeaseStatus, LogItem, ReplicaState, ReplicaStatus, ServiceStatus};

use super::Settings;
use super::access::Granted;
use crate::manifests::StoredManifest;
use crate::store::Store;

/// What the gateway asks of the engine.
#[async_trait]
pub trait Workloads: Send + Sync + fmt::Debug + 'static {
    /// A lease as it is now; `None` where nothing of it exists.
    async fn status(&self, lease: LeaseId) -> Result<Option<LeaseStatus>, workload::Error>;

    /// The manifest that was ordered with a lease was stored, maybe the same again: what failed for good may be tried again.
    async fn manifest_sent(&self, lease: LeaseId, workload: LeaseId);

    /// The services of which output is kept. Blocks.
    fn log_services(&self, lease: LeaseId) -> Vec<String>;

    /// The cursor from which the last `lines` lines are read. Blocks.
    fn log_tail(&self, lease: LeaseId, service: &str, lines: u64) -> Result<u64, workload::Error>;

    /// The lines of a service from `cursor` on, and when `follow` is set those that are still to come. Blocks.
    fn read_log(
        &self,
        lease: LeaseId,
        service: &str,
        cursor: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, workload::Error>>, workload::Error>;
}

/// The workloads of a real engine, and what is kept of them.
#[derive(Debug, Clone)]
pub struct EngineWorkloads(pub Arc<dyn Engine>, pub Store);

#[async_trait]
impl Workloads for EngineWorkloads {
    async fn status(&self, lease: LeaseId) -> Result<Option<LeaseStatus>, workload::Error> {
        self.0.status(lease).await
    }

    async fn manifest_sent(&self, lease: LeaseId, workload: LeaseId) {
        // An update that was taken back gets another chance.
        if let Err(error) = self.1.clear_setback(lease).await {
            tracing::error!(%lease, %error, "the manifest that was sent again cannot be tried again");
        }
        self.0.forget_failures(workload).await;
    }

    fn log_services(&self, lease: LeaseId) -> Vec<String> {
        self.0.logs().services(lease)
    }

    fn log_tail(&self, lease: LeaseId, service: &str, lines: u64) -> Result<u64, workload::Error> {
        self.0.logs().tail(lease, service, lines)
    }

    fn read_log(
        &self,
        lease: LeaseId,
        service: &str,
        cursor: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, workload::Error>>, workload::Error> {
        self.0.logs().read(lease, service, cursor, None, follow)
    }
}

/// A lease's status, from the chain, the store and the engine.
pub(super) fn lease_status(
    granted: &Granted,
    proposed: Option<UpdateStatus>,
    stored: Option<&StoredManifest>,
    last_good: Option<B256>,
    workload: Option<&LeaseStatus>,
    settings: &Settings,
) -> wire::LeaseStatus {
    let on_chain = &granted.on_chain;
    let (phase, reason) = phase(on_chain.closed.as_deref(), stored.is_some(), workload);
    let awaited = phase == LeasePhase::AwaitingManifest;
    wire::LeaseStatus {
        lease: granted.lease.0.into(),
        phase,
        reason,
        workload: Some(on_chain.workload.0.into()),
        ends_at: on_chain.ends.map(|(end, _)| end),
        stops_at: on_chain.ends.map(|(_, stops_at)| stops_at),
        low_on_funds: on_chain.low_on_funds,
        replaced_by: on_chain.replaced_by.map(|lease| lease.0.into()),
        update: proposed.or_else(|| update_behind(granted, last_good)),
        manifest_hash: stored.map(|stored| stored.hash),
        manifest_deadline: awaited.then(|| on_chain.started_at.saturating_add(settings.manifest_timeout.as_secs())),
        services: services(stored.map(|stored| &stored.salted.manifest), workload, settings),
        warnings: warnings(workload),
        observed_at: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs()),
    }
}

/// How the update is doing that a lease came from.
fn update_behind(granted: &Granted, last_good: Option<B256>) -> Option<UpdateStatus> {
    let on_chain = &granted.on_chain;
    if on_chain.workload == granted.lease || on_chain.closed.is_some() {
        return None;
    }
    let manifest_hash = on_chain.order.terms.manifest_hash;
    let phase = match &on_chain.setback {
        Some(_) => UpdatePhase::RolledBack,
        None if last_good == Some(manifest_hash) => UpdatePhase::Done,
        None => UpdatePhase::Switching,
    };
    Some(UpdateStatus {
        phase,
        manifest_hash,
        expiry: None,
        reason: on_chain.setback.clone(),
    })
}

fn phase(closed: Option<&str>, has_manifest: bool, workload: Option<&LeaseStatus>) -> (LeasePhase, Option<String>) {
    match (closed, workload) {
        (Some(reason), Some(_)) => (LeasePhase::Closing, Some(reason.to_owned())),
        (Some(reason), None) => (LeasePhase::Closed, Some(reason.to_owned())),
        (None, None) if has_manifest => (LeasePhase::Deploying, None),
        (None, None) => (LeasePhase::AwaitingManifest, None),
        (None, Some(_)) if !has_manifest => {
            let reason = "it runs, but the provider lost the manifest; send it again with `spheron lease send`";
            (LeasePhase::ManifestMissing, Some(reason.to_owned()))
        }
        (None, Some(workload)) => {
            if let Some((service, reason)) = workload.failure() {
                return (LeasePhase::Failed, Some(format!("{service}: {reason}")));
            }
            if workload.is_ready() {
                return (LeasePhase::Running, None);
            }
            let ended = |replica: &ReplicaStatus| {
                matches!(
                    replica.state,
                    ReplicaState::Exited { .. } | ReplicaState::Stopped { .. }
                )
            };
            let any_ended = workload
                .services
                .values()
                .flat_map(|service| &service.replicas)
                .any(ended);
            (
                if any_ended {
                    LeasePhase::Degraded
                } else {
                    LeasePhase::Deploying
                },
                None,
            )
        }
    }
}

fn warnings(workload: Option<&LeaseStatus>) -> Vec<String> {
    let services = workload.into_iter().flat_map(|workload| &workload.services);
    services
        .flat_map(|(name, service)| service.notes.iter().map(move |note| format!("{name}: {note}")))
        .collect()
}

/// Every service of the manifest, also those of which nothing exists yet; without a manifest those that exist.
fn services(
    manifest: Option<&Manifest>,
    workload: Option<&LeaseStatus>,
    settings: &Settings,
) -> Vec<wire::ServiceStatus> {
    let observed = |name: &str| workload.and_then(|workload| workload.services.get(name));
    match manifest {
        Some(manifest) => manifest
            .services
            .iter()
            .map(|(name, wanted)| match observed(name) {
                Some(service) => service_status(name, service, Some(wanted), settings),
                None => wire::ServiceStatus {
                    name: name.clone(),
                    state: ServiceState::Pending,
                    message: None,
                    image: wanted.image.clone(),
                    resolved_image: None,
                    wanted: wanted.count,
                    running: 0,
                    replicas: Vec::new(),
                    addresses: Vec::new(),
                },
            })
            .collect(),
        None => workload
            .into_iter()
            .flat_map(|workload| &workload.services)
            .map(|(name, service)| service_status(name, service, None, settings))
            .collect(),
    }
}

fn service_status(
    name: &str,
    service: &ServiceStatus,
    wanted: Option<&manifest::Service>,
    settings: &Settings,
) -> wire::ServiceStatus {
    let count = |test: fn(&ReplicaState) -> bool| service.replicas.iter().filter(|one| test(&one.state)).count();
    let running = count(|state| matches!(state, ReplicaState::Running { .. }));
    let existing = u32::try_from(service.replicas.len()).unwrap_or(u32::MAX);
    let wanted_count = wanted.map_or(existing, |wanted| wanted.count);
    let any = |test: fn(&ReplicaState) -> bool| count(test) > 0;
    let state = if any(|state| matches!(state, ReplicaState::Failed { .. })) {
        ServiceState::Failed
    } else if any(|state| matches!(state, ReplicaState::Pulling { .. })) {
        ServiceState::Pulling
    } else if running as u64 >= u64::from(wanted_count) && running > 0 {
        ServiceState::Running
    } else if any(|state| matches!(state, ReplicaState::Exited { .. })) {
        ServiceState::Degraded
    } else if any(|state| matches!(state, ReplicaState::Stopped { .. })) {
        ServiceState::Stopped
    } else if any(|state| matches!(state, ReplicaState::Created)) || running > 0 {
        ServiceState::Starting
    } else {
        ServiceState::Pending
    };
    let addresses = service.replicas.iter().flat_map(|replica| &replica.ports);
    wire::ServiceStatus {
        name: name.to_owned(),
        state,
        message: service.replicas.iter().find_map(|replica| message(&replica.state)),
        image: service.image.clone(),
        resolved_image: service.resolved_image.clone(),
        wanted: wanted_count,
        running: u32::try_from(running).unwrap_or(u32::MAX),
        replicas: service.replicas.iter().map(replica_status).collect(),
        addresses: addresses.map(|port| address(port, wanted, settings)).collect(),
    }
}

fn replica_status(replica: &ReplicaStatus) -> wire::ReplicaStatus {
    let (state, exit_code, since) = match &replica.state {
        ReplicaState::Waiting { .. } | ReplicaState::Pulling { .. } | ReplicaState::Created => {
            (wire::ReplicaState::Starting, None, None)
        }
        ReplicaState::Running { since } => (wire::ReplicaState::Running, None, Some(since.clone())),
        ReplicaState::Exited { code, finished_at, .. } => {
            (wire::ReplicaState::Restarting, Some(*code), Some(finished_at.clone()))
        }
        ReplicaState::Stopped { .. } | ReplicaState::Failed { .. } => (wire::ReplicaState::Exited, None, None),
    };
    wire::ReplicaStatus {
        replica: replica.replica,
        state,
        restarts: replica.restarts,
        exit_code,
        message: message(&replica.state),
        since,
    }
}

fn message(state: &ReplicaState) -> Option<String> {
    match state {
        ReplicaState::Waiting { reason } | ReplicaState::Stopped { reason } | ReplicaState::Failed { reason } => {
            Some(reason.clone())
        }
        ReplicaState::Pulling {
            received_bytes,
            total_bytes,
            attempt,
            last_error,
        } => {
            let mib = |bytes: &u64| bytes >> 20;
            let progress = format!("pulling: {} of {} MiB", mib(received_bytes), mib(total_bytes));
            Some(match last_error {
                Some(error) => format!("{progress} (attempt {attempt}; before: {error})"),
                None => progress,
            })
        }
        ReplicaState::Exited {
            code,
            out_of_memory,
            restart_in_seconds,
            ..
        } => {
            let why = if *out_of_memory {
                "it went over its memory limit"
            } else {
                "it ended by itself"
            };
            Some(format!(
                "{why} (exit status {code}); started again in {restart_in_seconds} s"
            ))
        }
        ReplicaState::Created | ReplicaState::Running { .. } => None,
    }
}

fn address(port: &AssignedPort, wanted: Option<&manifest::Service>, settings: &Settings) -> PublicAddress {
    let exposed = wanted.and_then(|wanted| {
        let same = |one: &&manifest::Expose| one.port == port.container_port && one.protocol == port.protocol;
        wanted.expose.iter().find(same)
    });
    let host = &settings.public_host;
    let bracketed = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    PublicAddress {
        replica: port.replica,
        container_port: port.container_port,
        protocol: match port.protocol {
            manifest::Protocol::Tcp => TransportProtocol::Tcp,
            manifest::Protocol::Udp => TransportProtocol::Udp,
        },
        host: host.clone(),
        port: port.host_port,
        url: exposed
            .filter(|exposed| exposed.is_http())
            .map(|_| format!("http://{bracketed}:{}", port.host_port)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn workload(states: Vec<ReplicaState>) -> LeaseStatus {
        let replica = |(replica, state)| ReplicaStatus {
            replica,
            state,
            restarts: 0,
            ports: vec![AssignedPort {
                service: "web".to_owned(),
                replica,
                container_port: 8080,
                protocol: manifest::Protocol::Tcp,
                host_port: 30000,
            }],
        };
        let service = ServiceStatus {
            image: "spheron/hello:1".to_owned(),
            resolved_image: None,
            replicas: (0..).zip(states).map(replica).collect(),
            notes: vec!["`sudo` does not work here".to_owned()],
        };
        LeaseStatus {
            services: BTreeMap::from([("web".to_owned(), service)]),
        }
    }

    fn runs() -> ReplicaState {
        ReplicaState::Running {
            since: "2026-11-22T17:30:00Z".to_owned(),
        }
    }

    fn exited() -> ReplicaState {
        ReplicaState::Exited {
            code: 137,
            out_of_memory: true,
            finished_at: "2026-11-22T17:30:00Z".to_owned(),
            restart_in_seconds: 4,
        }
    }

    #[test]
    fn the_phase_follows_chain_store_and_engine() {
        let failed = ReplicaState::Failed {
            reason: "no such image".to_owned(),
        };
        let cases = [
            (None, false, None, LeasePhase::AwaitingManifest),
            (None, true, None, LeasePhase::Deploying),
            (None, false, Some(vec![runs()]), LeasePhase::ManifestMissing),
            (
                None,
                true,
                Some(vec![ReplicaState::Created, runs()]),
                LeasePhase::Deploying,
            ),
            (None, true, Some(vec![runs(), runs()]), LeasePhase::Running),
            (None, true, Some(vec![runs(), exited()]), LeasePhase::Degraded),
            (None, true, Some(vec![runs(), failed]), LeasePhase::Failed),
            (Some("over"), true, Some(vec![runs()]), LeasePhase::Closing),
            (Some("over"), true, None, LeasePhase::Closed),
        ];
        for (closed, has_manifest, states, expected) in cases {
            let workload = states.map(workload);
            assert_eq!(
                phase(closed, has_manifest, workload.as_ref()).0,
                expected,
                "{workload:?}"
            );
        }
    }

    #[test]
    fn a_website_has_a_url_and_a_service_says_why_it_is_down() {
        let deployment = manifest::parse(
            "two-services.icl.yaml",
            include_bytes!("../../../examples/two-services.icl.yaml"),
        )
        .expect("a valid example");
        let settings = Settings {
            public_host: "2001:db8::1".to_owned(),
            ..Settings::default()
        };
        let observed = workload(vec![exited()]);
        let services = services(Some(&deployment.manifest), Some(&observed), &settings);
        let [backend, web] = services.as_slice() else {
            panic!("{services:?}")
        };
        assert_eq!(backend.state, ServiceState::Pending);
        assert_eq!(web.state, ServiceState::Degraded);
        assert_eq!(web.addresses[0].url.as_deref(), Some("http://[2001:db8::1]:30000"));
        assert!(
            web.message
                .as_deref()
                .is_some_and(|message| message.contains("memory limit")),
            "{web:?}"
        );
        assert_eq!(warnings(Some(&observed)), ["web: `sudo` does not work here"]);
    }
}
