//! Desired and observed in, actions out. Nothing else decides what is created, started, stopped or removed.
//!
//! The rules, which the property tests hold it to:
//! * objects without this scope's and this lease's labels are never touched;
//! * done in order, the actions lead to the desired state, and then there are none left; cut short anywhere, planning
//!   again from what exists leads to the same state;
//! * nothing starts before its network's isolation rules are in force, and they go only after the last container.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{LeaseId, Scope};

/// What is wanted for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent<'a> {
    /// It runs.
    Run(&'a DesiredLease),
    /// Its containers stand still; everything is kept.
    Stop,
    /// Nothing of it exists.
    Remove,
}

/// A lease that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredLease {
    /// Its network.
    pub network: String,
    /// Its containers' volumes, by name.
    pub volumes: BTreeSet<String>,
    /// Its containers, by name.
    pub containers: BTreeMap<String, DesiredContainer>,
}

/// One container that should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredContainer {
    /// Digest of everything it is made from. `None` while its image is not known: then what exists stays, and nothing
    /// is created.
    pub specification: Option<String>,
    /// Whether it may be started now: not while it waits after a crash, and not when it went over its disk.
    pub may_start: bool,
}

/// What exists on the engine: all of it that was listed, whoever owns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Containers.
    pub containers: Vec<ObservedContainer>,
    /// Networks.
    pub networks: Vec<ObservedNetwork>,
    /// Volumes.
    pub volumes: Vec<ObservedVolume>,
}

/// Whose an object is, by its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The provider and devnet.
    pub scope: Scope,
    /// The lease.
    pub lease: LeaseId,
}

/// A container that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContainer {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is; `None` for what carries no such labels.
    pub owner: Option<Owner>,
    /// The digest it was made from, by its label.
    pub specification: Option<String>,
    /// What it does.
    pub phase: Phase,
}

/// What an existing container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Exists and was never started, or ended.
    Still,
    /// Runs (or is paused, or restarts).
    Running,
    /// Is being removed; its name is not free yet.
    Leaving,
}

/// A network that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedNetwork {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: Option<Owner>,
}

/// A volume that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedVolume {
    /// Its name, which is also its id.
    pub name: String,
    /// Whose it is.
    pub owner: Option<Owner>,
}

/// One step. Each is idempotent where the engine allows it, so a step that was done but not seen does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stop a running container, with time to end by itself.
    StopContainer {
        /// The engine's id.
        id: String,
    },
    /// Stop and remove a container and its anonymous volumes.
    RemoveContainer {
        /// The engine's id.
        id: String,
    },
    /// Remove a network.
    RemoveNetwork {
        /// The engine's id.
        id: String,
    },
    /// Remove a volume and what is on it.
    RemoveVolume {
        /// Its name.
        name: String,
    },
    /// Create the lease's network.
    CreateNetwork {
        /// Its name.
        name: String,
    },
    /// Create a volume.
    CreateVolume {
        /// Its name.
        name: String,
    },
    /// Put the isolation rules of the lease's network in force and check that they are.
    Isolate,
    /// Create a container, not started.
    CreateContainer {
        /// Its name.
        name: String,
    },
    /// Start a container that exists.
    StartContainer {
        /// Its name.
        name: String,
    },
    /// Take away the isolation rules of networks that exist no more.
    Release,
}

/// What to do so that `lease` comes to be as intended.
pub fn plan(scope: &Scope, lease: LeaseId, intent: &Intent<'_>, observed: &Observed) -> Vec<Action> {
    let ours = |owner: &Option<Owner>| {
        owner
            .as_ref()
            .is_some_and(|owner| owner.scope == *scope && owner.lease == lease)
    };
    let containers: Vec<_> = observed
        .containers
        .iter()
        .filter(|container| ours(&container.owner))
        .collect();
    let networks: Vec<_> = observed
        .networks
        .iter()
        .filter(|network| ours(&network.owner))
        .collect();
    let volumes: Vec<_> = observed.volumes.iter().filter(|volume| ours(&volume.owner)).collect();

    match intent {
        Intent::Run(desired) => run(desired, &containers, &networks, &volumes),
        Intent::Stop => containers
            .iter()
            .filter(|container| container.phase == Phase::Running)
            .map(|container| Action::StopContainer {
                id: container.id.clone(),
            })
            .collect(),
        Intent::Remove => remove(&containers, &networks, &volumes),
    }
}

fn run(
    desired: &DesiredLease,
    containers: &[&ObservedContainer],
    networks: &[&ObservedNetwork],
    volumes: &[&ObservedVolume],
) -> Vec<Action> {
    let mut actions = Vec::new();

    // A container is kept when its name is wanted, it is made from the wanted specification (or nobody knows yet which
    // that is), and its network is there: an engine does not start a container whose network went away.
    let has_network = networks.iter().any(|network| network.name == desired.network);
    let mut kept: BTreeMap<&str, &ObservedContainer> = BTreeMap::new();
    let mut leaving: BTreeSet<&str> = BTreeSet::new();
    for container in containers {
        if container.phase == Phase::Leaving {
            leaving.insert(&container.name);
            continue;
        }
        let wanted = desired
            .containers
            .get(&container.name)
            .is_some_and(|wanted| wanted.specification.is_none() || wanted.specification == container.specification);
        if wanted && has_network && !kept.contains_key(container.name.as_str()) {
            kept.insert(&container.name, container);
        } else {
            actions.push(Action::RemoveContainer {
                id: container.id.clone(),
            });
        }
    }

    for network in networks {
        if network.name != desired.network {
            actions.push(Action::RemoveNetwork { id: network.id.clone() });
        }
    }
    if !has_network {
        actions.push(Action::CreateNetwork {
            name: desired.network.clone(),
        });
    }

    // Volumes that are wanted no more hold a tenant's data: they go with the lease, not before.
    for name in &desired.volumes {
        if !volumes.iter().any(|volume| volume.name == *name) {
            actions.push(Action::CreateVolume { name: name.clone() });
        }
    }

    let mut starts = Vec::new();
    for (name, wanted) in &desired.containers {
        let is_there = match kept.get(name.as_str()) {
            Some(container) if container.phase == Phase::Running => continue,
            Some(_) => true,
            None => false,
        };
        if !is_there {
            if wanted.specification.is_none() || leaving.contains(name.as_str()) {
                continue;
            }
            actions.push(Action::CreateContainer { name: name.clone() });
        }
        if wanted.may_start {
            starts.push(Action::StartContainer { name: name.clone() });
        }
    }
    if !starts.is_empty() {
        actions.push(Action::Isolate);
        actions.append(&mut starts);
    }
    actions
}

fn remove(
    containers: &[&ObservedContainer],
    networks: &[&ObservedNetwork],
    volumes: &[&ObservedVolume],
) -> Vec<Action> {
    let mut actions: Vec<Action> = containers
        .iter()
        .filter(|container| container.phase != Phase::Leaving)
        .map(|container| Action::RemoveContainer {
            id: container.id.clone(),
        })
        .collect();
    actions.extend(
        networks
            .iter()
            .map(|network| Action::RemoveNetwork { id: network.id.clone() }),
    );
    actions.extend(volumes.iter().map(|volume| Action::RemoveVolume {
        name: volume.name.clone(),
    }));
    if !actions.is_empty() {
        actions.push(Action::Release);
    }
    actions
}
