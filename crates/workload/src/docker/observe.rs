//! What exists on the engine in one scope, by label.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, Network, Volume};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder};
use manifest::Protocol;

use super::client::{Client, status_code};
use super::labels::{self, ContainerLabels, Labels};
use crate::engine::{Error, ObservedLease};
use crate::model::{Assignment, LeaseId, Scope};
use crate::plan::{Observed, ObservedContainer, ObservedNetwork, ObservedVolume, Owner, Phase};
use crate::timestamp;

/// A container of this scope.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) owner: Owner,
    pub(super) phase: Phase,
    /// `None` where another version of this program wrote them, or somebody else.
    pub(super) labels: Option<ContainerLabels>,
    pub(super) specification: Option<String>,
    pub(super) size_bytes: u64,
    /// Where its volumes are on the host.
    pub(super) mounts: Vec<String>,
}

/// Everything of this scope.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) containers: Vec<Container>,
    pub(super) networks: Vec<ObservedNetwork>,
    /// Bridge names of the networks.
    pub(super) bridges: BTreeSet<String>,
    pub(super) volumes: Vec<ObservedVolume>,
}

/// How a container's life stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    /// Created, never started.
    Fresh,
    /// Runs.
    Running { since: String },
    /// Ended.
    Ended {
        since: String,
        code: i64,
        out_of_memory: bool,
        finished_at: String,
        /// How long it ran.
        ran_seconds: u64,
    },
}

impl View {
    /// In the planner's words.
    pub(super) fn observed(&self) -> Observed {
        Observed {
            containers: self
                .containers
                .iter()
                .map(|container| ObservedContainer {
                    id: container.id.clone(),
                    name: container.name.clone(),
                    owner: Some(container.owner.clone()),
                    specification: container.specification.clone(),
                    phase: container.phase,
                })
                .collect(),
            networks: self.networks.clone(),
            volumes: self.volumes.clone(),
        }
    }

    /// A lease's containers.
    pub(super) fn of(&self, lease: LeaseId) -> impl Iterator<Item = &Container> {
        self.containers
            .iter()
            .filter(move |container| container.owner.lease == lease)
    }

    /// Every lease of which something is left.
    pub(super) fn leases(&self) -> Vec<ObservedLease> {
        let empty = |lease| ObservedLease {
            lease,
            containers: 0,
            running: 0,
            assignment: Assignment::default(),
        };
        let mut leases: BTreeMap<LeaseId, ObservedLease> = BTreeMap::new();
        for container in &self.containers {
            let lease = container.owner.lease;
            let entry = leases.entry(lease).or_insert_with(|| empty(lease));
            entry.containers += 1;
            entry.running += usize::from(container.phase == Phase::Running);
            if let Some(labels) = &container.labels {
                labels.complete(&mut entry.assignment);
            }
        }
        let networks = self.networks.iter().map(|network| &network.owner);
        let volumes = self.volumes.iter().map(|volume| &volume.owner);
        for owner in networks.chain(volumes).flatten() {
            leases.entry(owner.lease).or_insert_with(|| empty(owner.lease));
        }
        leases.into_values().collect()
    }
}

/// Lists what exists. `sizes` also asks for the size of writable layers, which makes the engine walk them.
pub(super) async fn view(client: &Client, scope: &Scope, sizes: bool) -> Result<View, Error> {
    let filters = labels::filter(scope);
    let (containers, networks, volumes) = tokio::try_join!(
        async {
            let options = ListContainersOptionsBuilder::new()
                .all(true)
                .size(sizes)
                .filters(&filters)
                .build();
            let engine = client.engine().await?;
            engine
                .list_containers(Some(options))
                .await
                .map_err(|error| client.error("list containers", error))
        },
        async {
            let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
            let engine = client.engine().await?;
            engine
                .list_networks(Some(options))
                .await
                .map_err(|error| client.error("list networks", error))
        },
        async {
            let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
            let engine = client.engine().await?;
            engine
                .list_volumes(Some(options))
                .await
                .map_err(|error| client.error("list volumes", error))
        },
    )?;

    let mut view = View {
        containers: containers
            .into_iter()
            .filter_map(|summary| container(scope, summary))
            .collect(),
        ..View::default()
    };
    for network in networks {
        if let Some((network, bridge)) = self::network(scope, network) {
            view.networks.push(network);
            view.bridges.extend(bridge);
        }
    }
    view.volumes = volumes
        .volumes
        .unwrap_or_default()
        .into_iter()
        .filter_map(|volume| self::volume(scope, volume))
        .collect();
    Ok(view)
}

/// How one container's life stands; `None` when it is gone.
pub(super) async fn life(client: &Client, id: &str) -> Result<Option<Life>, Error> {
    let inspected = match client.engine().await?.inspect_container(id, None).await {
        Ok(inspected) => inspected,
        Err(error) if status_code(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(client.error(format!("inspect container {id}"), error)),
    };
    let state = inspected.state.unwrap_or_default();
    let started_at = state.started_at.unwrap_or_default();
    if state.running.unwrap_or_default() {
        return Ok(Some(Life::Running { since: started_at }));
    }
    let Some(started) = timestamp::parse(&started_at) else {
        return Ok(Some(Life::Fresh));
    };
    let finished_at = state.finished_at.unwrap_or_default();
    let finished = timestamp::parse(&finished_at).unwrap_or(started);
    Ok(Some(Life::Ended {
        since: started_at,
        code: state.exit_code.unwrap_or_default(),
        out_of_memory: state.oom_killed.unwrap_or_default(),
        finished_at,
        ran_seconds: u64::try_from((finished - started) / 1_000_000_000).unwrap_or_default(),
    }))
}

/// The host ports that any container on the engine publishes, whoever owns it.
pub(super) async fn published_ports(client: &Client) -> Result<BTreeSet<(Protocol, u16)>, Error> {
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let containers = client
        .engine()
        .await?
        .list_containers(Some(options))
        .await
        .map_err(|error| client.error("list containers", error))?;
    let mut ports = BTreeSet::new();
    for container in containers {
        // What stands still publishes nothing now, and will again when it is started.
        if let Some(labels) = ContainerLabels::read(&container.labels.unwrap_or_default()) {
            ports.extend(labels.ports.iter().map(|port| (port.protocol, port.host_port)));
        }
        for port in container.ports.unwrap_or_default() {
            let protocol = match port.typ {
                Some(bollard::models::PortSummaryTypeEnum::UDP) => Protocol::Udp,
                _ => Protocol::Tcp,
            };
            ports.extend(port.public_port.map(|port| (protocol, port)));
        }
    }
    Ok(ports)
}

/// The owner, if it is this scope: the engine's filter lets other devnets through when this scope has none.
fn own(scope: &Scope, labels: &Labels) -> Option<Owner> {
    labels::owner(labels).filter(|owner| owner.scope == *scope)
}

fn container(scope: &Scope, summary: ContainerSummary) -> Option<Container> {
    let labels = summary.labels.unwrap_or_default();
    let owner = own(scope, &labels)?;
    let read = ContainerLabels::read(&labels);
    Some(Container {
        id: summary.id?,
        name: summary.names?.first()?.trim_start_matches('/').to_owned(),
        owner,
        phase: match summary.state {
            Some(
                ContainerSummaryStateEnum::RUNNING
                | ContainerSummaryStateEnum::PAUSED
                | ContainerSummaryStateEnum::RESTARTING,
            ) => Phase::Running,
            Some(ContainerSummaryStateEnum::REMOVING) => Phase::Leaving,
            _ => Phase::Still,
        },
        specification: read.as_ref().map(|labels| labels.specification.clone()),
        labels: read,
        size_bytes: summary
            .size_rw
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or_default(),
        mounts: summary
            .mounts
            .unwrap_or_default()
            .into_iter()
            .filter(|mount| mount.typ.as_deref() == Some("volume"))
            .filter_map(|mount| mount.source)
            .filter(|source| !source.is_empty())
            .collect(),
    })
}

fn network(scope: &Scope, network: Network) -> Option<(ObservedNetwork, Option<String>)> {
    let owner = own(scope, &network.labels.unwrap_or_default())?;
    let bridge = network.options.unwrap_or_default().remove(super::BRIDGE_NAME_OPTION);
    let observed = ObservedNetwork {
        id: network.id?,
        name: network.name?,
        owner: Some(owner),
    };
    Some((observed, bridge))
}

fn volume(scope: &Scope, volume: Volume) -> Option<ObservedVolume> {
    Some(ObservedVolume {
        owner: Some(own(scope, &volume.labels)?),
        name: volume.name,
    })
}
