//! The planner against an engine in memory: whatever exists and wherever it is cut short, it comes to what is wanted,
//! makes nothing twice, and touches nobody else's objects.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use proptest::prelude::*;
use workload::plan::{
    Action, DesiredContainer, DesiredLease, Intent, Observed, ObservedContainer, ObservedNetwork, ObservedVolume,
    Owner, Phase, plan,
};
use workload::{LeaseId, Scope};

const LEASE: LeaseId = LeaseId(7);
const NETWORK: &str = "net";

fn scope(byte: u8, devnet: Option<&str>) -> Scope {
    Scope {
        provider: Address::repeat_byte(byte),
        devnet: devnet.map(str::to_owned),
    }
}

fn own_scope() -> Scope {
    scope(1, Some("d"))
}

/// An engine as the planner's shell meets it.
#[derive(Debug, Clone)]
struct Engine {
    observed: Observed,
    /// Names of networks whose rules are in force.
    isolated: bool,
    next_id: u32,
}

impl Engine {
    /// What an action does. Fails the test where a real engine would refuse, or where a rule of the planner is broken.
    fn perform(&mut self, action: &Action, desired: Option<&DesiredLease>) {
        let owner = Some(Owner {
            scope: own_scope(),
            lease: LEASE,
        });
        match action {
            Action::StopContainer { id } => self.container(id).phase = Phase::Still,
            Action::RemoveContainer { id } => {
                assert_eq!(self.container(id).owner, owner, "removes a foreign container");
                self.observed.containers.retain(|container| container.id != *id);
            }
            Action::RemoveNetwork { id } => {
                let network = self.observed.networks.iter().find(|network| network.id == *id);
                assert_eq!(network.expect("exists").owner, owner, "removes a foreign network");
                self.observed.networks.retain(|network| network.id != *id);
                self.isolated = false;
            }
            Action::RemoveVolume { name } => {
                let volume = self.observed.volumes.iter().find(|volume| volume.name == *name);
                assert_eq!(volume.expect("exists").owner, owner, "removes a foreign volume");
                self.observed.volumes.retain(|volume| volume.name != *name);
            }
            Action::CreateNetwork { name } => {
                assert!(
                    self.observed.networks.iter().all(|network| network.name != *name),
                    "network twice"
                );
                let id = self.id();
                self.observed.networks.push(ObservedNetwork {
                    id,
                    name: name.clone(),
                    owner,
                });
            }
            Action::CreateVolume { name } => {
                if self.observed.volumes.iter().all(|volume| volume.name != *name) {
                    self.observed.volumes.push(ObservedVolume {
                        name: name.clone(),
                        owner,
                    });
                }
            }
            Action::Isolate => {
                assert!(
                    self.observed.networks.iter().any(|network| network.name == NETWORK),
                    "nothing to isolate"
                );
                self.isolated = true;
            }
            Action::CreateContainer { name } => {
                assert!(
                    self.observed.containers.iter().all(|container| container.name != *name),
                    "container twice"
                );
                assert!(
                    self.observed.networks.iter().any(|network| network.name == NETWORK),
                    "no network yet"
                );
                let desired = &desired.expect("wanted").containers[name];
                let id = self.id();
                self.observed.containers.push(ObservedContainer {
                    id,
                    name: name.clone(),
                    owner,
                    specification: Some(desired.specification.clone().expect("creates from nothing")),
                    phase: Phase::Still,
                });
            }
            Action::StartContainer { name } => {
                assert!(self.isolated, "starts before the rules are in force");
                let desired = &desired.expect("wanted").containers[name];
                assert!(desired.may_start, "starts what may not start");
                let container = self
                    .observed
                    .containers
                    .iter_mut()
                    .find(|container| container.name == *name)
                    .expect("starts what exists");
                container.phase = Phase::Running;
            }
            Action::Release => {
                let own = self
                    .observed
                    .containers
                    .iter()
                    .any(|container| container.owner == owner && container.phase != Phase::Leaving);
                assert!(!own, "rules go before the last container");
                self.isolated = false;
            }
        }
    }

    fn container(&mut self, id: &str) -> &mut ObservedContainer {
        self.observed
            .containers
            .iter_mut()
            .find(|container| container.id == id)
            .expect("a container with this id")
    }

    fn id(&mut self) -> String {
        self.next_id += 1;
        format!("new-{}", self.next_id)
    }

    /// What was on its way out is out.
    fn settle(&mut self) {
        self.observed
            .containers
            .retain(|container| container.phase != Phase::Leaving || is_foreign(&container.owner));
    }

    fn foreign(&self) -> Observed {
        Observed {
            containers: self
                .observed
                .containers
                .iter()
                .filter(|object| is_foreign(&object.owner))
                .cloned()
                .collect(),
            networks: self
                .observed
                .networks
                .iter()
                .filter(|object| is_foreign(&object.owner))
                .cloned()
                .collect(),
            volumes: self
                .observed
                .volumes
                .iter()
                .filter(|object| is_foreign(&object.owner))
                .cloned()
                .collect(),
        }
    }
}

fn is_foreign(owner: &Option<Owner>) -> bool {
    owner
        .as_ref()
        .is_none_or(|owner| owner.scope != own_scope() || owner.lease != LEASE)
}

fn owner() -> impl Strategy<Value = Option<Owner>> {
    let with = |scope: Scope, lease| {
        Just(Some(Owner {
            scope,
            lease: LeaseId(lease),
        }))
    };
    prop_oneof![
        6 => with(own_scope(), 7),
        1 => with(own_scope(), 8),
        1 => with(scope(1, None), 7),
        1 => with(scope(1, Some("e")), 7),
        1 => with(scope(2, Some("d")), 7),
        1 => Just(None),
    ]
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![4 => Just(Phase::Still), 4 => Just(Phase::Running), 1 => Just(Phase::Leaving)]
}

/// Names that are wanted, and some that are not. Objects of others have other names: an engine has each name once, and
/// ours carry a digest of the scope.
fn engine() -> impl Strategy<Value = Engine> {
    let containers = prop::collection::btree_map(0..6_u8, (owner(), 0..3_u8, phase()), 0..6);
    let networks = prop::collection::btree_map(0..3_u8, owner(), 0..3);
    let volumes = prop::collection::btree_map(0..4_u8, owner(), 0..4);
    (containers, networks, volumes).prop_map(|(containers, networks, volumes)| {
        let name = |kind: &str, number: u8, owner: &Option<Owner>| match owner {
            Some(owner) if owner.scope == own_scope() && owner.lease == LEASE => format!("{kind}{number}"),
            _ => format!("foreign-{kind}{number}"),
        };
        Engine {
            observed: Observed {
                containers: containers
                    .into_iter()
                    .map(|(number, (owner, specification, phase))| ObservedContainer {
                        id: format!("old-{number}"),
                        name: name("c", number, &owner),
                        owner,
                        specification: (specification > 0).then(|| format!("s{specification}")),
                        phase,
                    })
                    .collect(),
                networks: networks
                    .into_iter()
                    .map(|(number, owner)| ObservedNetwork {
                        id: format!("old-net-{number}"),
                        name: match number {
                            0 if name("n", 0, &owner) == "n0" => NETWORK.to_owned(),
                            _ => name("n", number, &owner),
                        },
                        owner,
                    })
                    .collect(),
                volumes: volumes
                    .into_iter()
                    .map(|(number, owner)| ObservedVolume {
                        name: name("v", number, &owner),
                        owner,
                    })
                    .collect(),
            },
            isolated: false,
            next_id: 0,
        }
    })
}

fn desired() -> impl Strategy<Value = DesiredLease> {
    let containers = prop::collection::btree_map(
        (0..6_u8).prop_map(|number| format!("c{number}")),
        (0..3_u8, any::<bool>()),
        1..5,
    );
    let volumes = prop::collection::btree_set((0..4_u8).prop_map(|number| format!("v{number}")), 0..3);
    (containers, volumes).prop_map(|(containers, volumes)| DesiredLease {
        network: NETWORK.to_owned(),
        volumes,
        containers: containers
            .into_iter()
            .map(|(name, (specification, may_start))| {
                let container = DesiredContainer {
                    specification: (specification > 0).then(|| format!("s{specification}")),
                    may_start,
                };
                (name, container)
            })
            .collect(),
    })
}

#[derive(Debug, Clone)]
enum Wish {
    Run(DesiredLease),
    Stop,
    Remove,
}

impl Wish {
    fn intent(&self) -> Intent<'_> {
        match self {
            Self::Run(desired) => Intent::Run(desired),
            Self::Stop => Intent::Stop,
            Self::Remove => Intent::Remove,
        }
    }

    fn desired(&self) -> Option<&DesiredLease> {
        match self {
            Self::Run(desired) => Some(desired),
            _ => None,
        }
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![4 => desired().prop_map(Wish::Run), 1 => Just(Wish::Stop), 2 => Just(Wish::Remove)]
}

/// Plans and performs until there is nothing to do, each round cut short after as many actions as `cuts` says.
fn converge(engine: &mut Engine, wish: &Wish, cuts: &[usize]) {
    for round in 0..20 {
        let actions = plan(&own_scope(), LEASE, &wish.intent(), &engine.observed);
        let kept = cuts.get(round).copied().unwrap_or(usize::MAX);
        for action in actions.iter().take(kept) {
            engine.perform(action, wish.desired());
        }
        // A crash loses what was on its way: rules are put in force again, or taken away, by the next round.
        engine.settle();
        if plan(&own_scope(), LEASE, &wish.intent(), &engine.observed).is_empty() {
            return;
        }
    }
    panic!("does not converge: {engine:?}");
}

fn check(engine: &Engine, wish: &Wish) {
    let own = |owner: &Option<Owner>| {
        owner
            .as_ref()
            .is_some_and(|owner| owner.scope == own_scope() && owner.lease == LEASE)
    };
    let containers: BTreeMap<&str, &ObservedContainer> = engine
        .observed
        .containers
        .iter()
        .filter(|object| own(&object.owner))
        .map(|object| (object.name.as_str(), object))
        .collect();
    let volumes: BTreeSet<&str> = engine
        .observed
        .volumes
        .iter()
        .filter(|object| own(&object.owner))
        .map(|object| object.name.as_str())
        .collect();
    let networks: Vec<&str> = engine
        .observed
        .networks
        .iter()
        .filter(|object| own(&object.owner))
        .map(|object| object.name.as_str())
        .collect();
    match wish {
        Wish::Run(desired) => {
            assert_eq!(networks, [NETWORK]);
            assert!(desired.volumes.iter().all(|name| volumes.contains(name.as_str())));
            for (name, container) in &containers {
                assert!(
                    desired.containers.contains_key(*name),
                    "{name} is not wanted: {container:?}"
                );
            }
            for (name, wanted) in &desired.containers {
                let Some(container) = containers.get(name.as_str()) else {
                    assert!(wanted.specification.is_none(), "{name} is missing");
                    continue;
                };
                assert!(wanted.specification.is_none() || wanted.specification == container.specification);
                assert!(
                    !wanted.may_start || container.phase == Phase::Running,
                    "{name} does not run"
                );
            }
        }
        Wish::Stop => {
            assert!(containers.values().all(|container| container.phase == Phase::Still));
        }
        Wish::Remove => {
            assert!(containers.is_empty() && volumes.is_empty() && networks.is_empty());
            assert!(!engine.isolated);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_state_comes_to_what_is_wanted(
        mut engine in engine(),
        wish in wish(),
        cuts in prop::collection::vec(0..5_usize, 0..4),
    ) {
        let foreign = engine.foreign();
        converge(&mut engine, &wish, &cuts);
        check(&engine, &wish);
        prop_assert_eq!(engine.foreign(), foreign);
    }

    #[test]
    fn wishes_may_change_on_the_way(
        mut engine in engine(),
        wishes in prop::collection::vec((wish(), 0..6_usize), 1..4),
    ) {
        let foreign = engine.foreign();
        for (wish, steps) in &wishes {
            let actions = plan(&own_scope(), LEASE, &wish.intent(), &engine.observed);
            for action in actions.iter().take(*steps) {
                engine.perform(action, wish.desired());
            }
        }
        let last = &wishes[wishes.len() - 1].0;
        converge(&mut engine, last, &[]);
        check(&engine, last);
        prop_assert_eq!(engine.foreign(), foreign);
    }

    #[test]
    fn stopping_keeps_everything(mut engine in engine()) {
        engine.settle();
        let before = engine.observed.clone();
        converge(&mut engine, &Wish::Stop, &[]);
        prop_assert_eq!(engine.observed.containers.len(), before.containers.len());
        prop_assert_eq!(engine.observed.networks, before.networks);
        prop_assert_eq!(engine.observed.volumes, before.volumes);
    }
}
