//! One pass over a lease: look, plan, do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bollard::query_parameters::{CreateContainerOptionsBuilder, StartContainerOptions};
use manifest::{Manifest, Protocol, Service};

use super::client::{is_answer, message, status_code};
use super::labels::{self, ContainerLabels};
use super::observe::{self, Container, Life, View};
use super::pull::ImageState;
use super::{Docker, container, ports, report};
use crate::engine::{Applied, Error, Staged};
use crate::model::{Assignment, LeaseId};
use crate::plan::{Action, DesiredContainer, DesiredLease, Intent, plan};
use crate::specification::{ContainerSpecification, replicas};

/// Looks, plans and does this often within one apply: a port that turned out to be taken needs a second time.
const PASSES: usize = 4;
/// How long a removal is tried before it is an error.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(60);
/// The pause between two tries of a removal.
const REMOVAL_PAUSE: Duration = Duration::from_millis(200);

/// What is wanted, and what its containers are made from.
struct Wanted {
    lease: DesiredLease,
    specifications: BTreeMap<String, ContainerSpecification>,
    assignment: Assignment,
}

/// What came of starting a container.
#[derive(PartialEq, Eq)]
enum Outcome {
    Done,
    /// A host port of this container was taken in the meantime.
    PortTaken,
}

impl Docker {
    pub(super) async fn bring_about(
        &self,
        lease: LeaseId,
        manifest: &Manifest,
        assignment: &Assignment,
    ) -> Result<Applied, Error> {
        self.leases().entry(lease).or_default().remember(manifest);
        let mut view = self.view().await?;
        let mut assignment = assignment.clone();
        for labels in view.of(lease).filter_map(|container| container.labels.as_ref()) {
            labels.complete(&mut assignment);
        }
        if let Some(memory) = self.leases().get_mut(&lease) {
            let is_there = |id: &String| view.of(lease).any(|container| container.id == *id);
            memory.ended_here.retain(is_there);
        }
        let images = self.resolve_images(lease, manifest, &mut assignment).await?;

        let mut changes = 0;
        for _ in 0..PASSES {
            self.assign_ports(lease, manifest, &mut assignment).await?;
            let lives = self.lives(&view, lease).await?;
            self.note_lives(lease, &view, &lives);
            let wanted = self.wanted(lease, manifest, &assignment, &images);
            let observed = view.observed();
            let actions = plan(&self.settings.scope, lease, &Intent::Run(&wanted.lease), &observed);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                changes += 1;
                if self
                    .carry_out(lease, action.clone(), Some(&wanted), &lives, &view)
                    .await?
                    == Outcome::PortTaken
                    && let Action::StartContainer { name } = &action
                {
                    self.give_up_ports(lease, &wanted.specifications[name], &mut assignment);
                }
            }
            view = self.view().await?;
        }

        let lives = self.lives(&view, lease).await?;
        self.follow_output(lease, &view, &lives).await?;
        Ok(Applied {
            status: self.report(lease, &view, &lives, &images),
            assignment,
            changes,
        })
    }

    pub(super) async fn remove_lease(&self, lease: LeaseId) -> Result<(), Error> {
        self.puller.forget(lease);
        let begun = Instant::now();
        loop {
            let view = self.view().await?;
            let left = view.leases().into_iter().find(|other| other.lease == lease);
            if left.is_none() {
                break;
            }
            if begun.elapsed() > REMOVAL_DEADLINE {
                return Err(Error::Refused {
                    action: format!("remove everything of lease {lease}"),
                    source: format!("{left:?} is still there").into(),
                });
            }
            if self.carry_out_all(lease, &Intent::Remove, &view).await? == 0 {
                tokio::time::sleep(REMOVAL_PAUSE).await;
            }
        }
        self.leases().remove(&lease);
        self.logs.close(lease)?;
        self.release().await
    }

    /// Does what is needed for an intent that makes nothing new. Returns how many steps that were.
    pub(super) async fn carry_out_all(&self, lease: LeaseId, intent: &Intent<'_>, view: &View) -> Result<usize, Error> {
        let actions = plan(&self.settings.scope, lease, intent, &view.observed());
        let count = actions.len();
        // All at once: each may take its whole grace to end.
        let stops = actions.iter().filter_map(|action| match action {
            Action::StopContainer { id } | Action::RemoveContainer { id } => {
                self.note_end(lease, id);
                Some(self.stop_container(id))
            }
            _ => None,
        });
        futures::future::try_join_all(stops).await?;
        for action in actions {
            self.carry_out(lease, action, None, &HashMap::new(), view).await?;
        }
        Ok(count)
    }

    /// How the containers of a lease stand, by the engine's id.
    pub(super) async fn lives(&self, view: &View, lease: LeaseId) -> Result<HashMap<String, Life>, Error> {
        let mut lives = HashMap::new();
        for container in view.of(lease) {
            if let Some(life) = observe::life(&self.client, &container.id).await? {
                lives.insert(container.id.clone(), life);
            }
        }
        Ok(lives)
    }

    async fn view(&self) -> Result<View, Error> {
        observe::view(&self.client, &self.settings.scope, false).await
    }

    /// How far every service's image is; what is here goes into the assignment.
    async fn resolve_images(
        &self,
        lease: LeaseId,
        manifest: &Manifest,
        assignment: &mut Assignment,
    ) -> Result<HashMap<String, ImageState>, Error> {
        let engine = self.client.engine().await?;
        let mut images = HashMap::new();
        assignment.images.retain(|name, _| manifest.services.contains_key(name));
        for (name, service) in &manifest.services {
            let known = assignment.images.get(name);
            let state = match unsupported(service) {
                Some(reason) => ImageState::Failed(reason),
                None => self.puller.resolve(engine, lease, name, service, known).await?,
            };
            if let ImageState::Ready(image) = &state {
                assignment.images.insert(name.clone(), image.clone());
            }
            images.insert(name.clone(), state);
        }
        Ok(images)
    }

    /// Beside what runs: under names that no service has, so that no pull takes the place of a running service's.
    pub(super) async fn stage_images(&self, lease: LeaseId, manifest: &Manifest) -> Result<Staged, Error> {
        let engine = self.client.engine().await?;
        let mut staged = Staged::default();
        for (name, service) in &manifest.services {
            let state = match unsupported(service) {
                Some(reason) => ImageState::Failed(reason),
                None => {
                    let apart = format!("staged/{name}");
                    self.puller.resolve(engine, lease, &apart, service, None).await?
                }
            };
            report::note_staged(&mut staged, name, state);
        }
        Ok(staged)
    }

    /// Gives every published port a port of the host.
    async fn assign_ports(
        &self,
        lease: LeaseId,
        manifest: &Manifest,
        assignment: &mut Assignment,
    ) -> Result<(), Error> {
        let _turn = self.ports_turn.lock().await;
        let mut taken: BTreeSet<(Protocol, u16)> = observe::published_ports(&self.client).await?;
        for (other, memory) in self.leases().iter() {
            if *other == lease {
                taken.extend(&memory.unusable_ports);
            } else {
                taken.extend(memory.ports.iter().map(|port| (port.protocol, port.host_port)));
            }
        }
        // Neighbours begin at different places, so that two providers on one machine seldom choose the same port.
        let start = lease
            .0
            .wrapping_mul(101)
            .wrapping_add(u64::from_str_radix(&self.settings.scope.tag()[..8], 16).unwrap_or_default());
        let address = self.settings.publish_address;
        assignment.ports = ports::assign(
            manifest,
            &assignment.ports,
            self.settings.host_ports.clone(),
            start,
            &taken,
            |protocol, port| ports::is_free(address, protocol, port),
        )?;
        self.leases()
            .entry(lease)
            .or_default()
            .ports
            .clone_from(&assignment.ports);
        Ok(())
    }

    /// The ports of a container that could not bind one of them: it gets others.
    fn give_up_ports(&self, lease: LeaseId, specification: &ContainerSpecification, assignment: &mut Assignment) {
        let mut leases = self.leases();
        let memory = leases.entry(lease).or_default();
        memory
            .unusable_ports
            .extend(specification.ports.iter().map(|port| (port.protocol, port.host_port)));
        assignment
            .ports
            .retain(|port| port.service != specification.service || port.replica != specification.replica);
    }

    /// Counts what ended since the last look.
    fn note_lives(&self, lease: LeaseId, view: &View, lives: &HashMap<String, Life>) {
        let mut leases = self.leases();
        let memory = leases.entry(lease).or_default();
        for container in view.of(lease) {
            let ended_here = memory.ended_here.contains(&container.id);
            let memory = memory.container(&container.name);
            match lives.get(&container.id) {
                Some(Life::Ended { finished_at, .. }) if ended_here => memory.was_stopped(finished_at),
                Some(Life::Ended {
                    finished_at,
                    ran_seconds,
                    ..
                }) => {
                    memory.ended(finished_at, *ran_seconds, Instant::now());
                }
                Some(Life::Running { .. }) => memory.started(),
                Some(Life::Fresh) | None => {}
            }
        }
    }

    fn wanted(
        &self,
        lease: LeaseId,
        manifest: &Manifest,
        assignment: &Assignment,
        images: &HashMap<String, ImageState>,
    ) -> Wanted {
        let names = self.settings.scope.names(lease);
        let now = Instant::now();
        let mut wanted = Wanted {
            lease: DesiredLease {
                network: names.network(),
                volumes: BTreeSet::new(),
                containers: BTreeMap::new(),
            },
            specifications: BTreeMap::new(),
            assignment: assignment.clone(),
        };
        let mut leases = self.leases();
        let memory = leases.entry(lease).or_default();
        for (service_name, service, replica) in replicas(manifest) {
            let name = names.container(service_name, replica);
            let memory = memory.container(&name);
            let specification = match images.get(service_name) {
                // What the engine refused is tried again after its pause.
                Some(ImageState::Ready(image)) if memory.problem.is_none() || memory.pause(now).is_zero() => {
                    let ports = assignment
                        .ports
                        .iter()
                        .filter(|port| port.service == service_name && port.replica == replica)
                        .cloned()
                        .collect();
                    Some(ContainerSpecification::new(
                        &names,
                        service_name,
                        service,
                        replica,
                        &image.id,
                        ports,
                        self.settings.process_limit,
                    ))
                }
                _ => None,
            };
            wanted.lease.containers.insert(
                name.clone(),
                DesiredContainer {
                    specification: specification.as_ref().map(ContainerSpecification::digest),
                    may_start: memory.may_start(now),
                },
            );
            if let Some(specification) = specification {
                wanted
                    .lease
                    .volumes
                    .extend(specification.volumes.iter().map(|volume| volume.name.clone()));
                wanted.specifications.insert(name, specification);
            }
        }
        wanted
    }

    async fn carry_out(
        &self,
        lease: LeaseId,
        action: Action,
        wanted: Option<&Wanted>,
        lives: &HashMap<String, Life>,
        view: &View,
    ) -> Result<Outcome, Error> {
        tracing::debug!(%lease, ?action, "workload");
        match action {
            Action::StopContainer { id } => {
                self.note_end(lease, &id);
                self.stop_container(&id).await?;
            }
            Action::RemoveContainer { id } => {
                self.note_end(lease, &id);
                self.remove_container(&id).await?;
            }
            Action::RemoveNetwork { id } => self.remove_network(&id).await?,
            Action::RemoveVolume { name } => self.remove_volume(&name).await?,
            Action::CreateNetwork { name } => {
                let bridge = self.settings.scope.names(lease).bridge();
                self.create_network(lease, &name, &bridge).await?;
            }
            Action::CreateVolume { name } => self.create_volume(lease, &name).await?,
            Action::Isolate => self.isolate(lease).await?,
            Action::CreateContainer { name } => {
                if let Some(wanted) = wanted {
                    self.create_container(lease, &name, wanted).await?;
                }
            }
            Action::StartContainer { name } => {
                let before = view.of(lease).find(|container| container.name == name);
                let ran = before.is_some_and(|container| matches!(lives.get(&container.id), Some(Life::Ended { .. })));
                let outcome = self.start_container(lease, &name, ran).await?;
                if let (Some(container), Some(memory)) = (before, self.leases().get_mut(&lease)) {
                    memory.ended_here.remove(&container.id);
                }
                return Ok(outcome);
            }
            Action::Release => self.release().await?,
        }
        Ok(Outcome::Done)
    }

    /// Remembers that a container's end is our doing, before it ends: whoever asks meanwhile is told so.
    fn note_end(&self, lease: LeaseId, id: &str) {
        self.leases().entry(lease).or_default().ended_here.insert(id.to_owned());
    }

    async fn create_container(&self, lease: LeaseId, name: &str, wanted: &Wanted) -> Result<(), Error> {
        let Some(specification) = wanted.specifications.get(name) else {
            return Ok(());
        };
        let Some(image) = wanted.assignment.images.get(&specification.service) else {
            return Ok(());
        };
        let mut labels = labels::of_lease(&self.settings.scope, lease);
        ContainerLabels {
            service: specification.service.clone(),
            replica: specification.replica,
            specification: specification.digest(),
            storage_bytes: specification.storage_bytes,
            image: image.clone(),
            ports: specification.ports.clone(),
        }
        .add_to(&mut labels);
        let body = container::body(specification, &wanted.lease.network, labels, &self.settings);
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let engine = self.client.engine().await?;
        let Err(error) = engine.create_container(Some(options), body).await else {
            return Ok(());
        };
        if !is_answer(&error) {
            return Err(self.client.error(format!("create container {name}"), error));
        }
        if status_code(&error) == Some(404) {
            // The image went away between the look and this; the next apply resolves it again.
            self.puller.forget(lease);
        }
        let reason = format!("the engine would not create it: {}", message(&error));
        self.note_refusal(lease, name, reason);
        Ok(())
    }

    /// `ran` is whether this container ran before: then its ports are its URLs, and stay.
    async fn start_container(&self, lease: LeaseId, name: &str, ran: bool) -> Result<Outcome, Error> {
        let refused_before = self
            .leases()
            .get(&lease)
            .and_then(|memory| memory.containers.get(name))
            .is_some_and(|container| container.problem.is_some() && !container.may_start(Instant::now()));
        // Its creation was refused a moment ago.
        if refused_before {
            return Ok(Outcome::Done);
        }
        let engine = self.client.engine().await?;
        let Err(error) = engine.start_container(name, None::<StartContainerOptions>).await else {
            self.leases().entry(lease).or_default().container(name).started();
            return Ok(Outcome::Done);
        };
        if !is_answer(&error) {
            return Err(self.client.error(format!("start container {name}"), error));
        }
        let said = message(&error);
        let port_taken = ["port is already allocated", "address already in use"]
            .iter()
            .any(|text| said.contains(text));
        if port_taken && !ran {
            return Ok(Outcome::PortTaken);
        }
        // An engine that was killed while it started this container still has the old start on its books and refuses this
        // container for good. It never ran as far as anybody was told: the next look makes a new one.
        if !ran && said.starts_with("task ") && said.contains("already exists") {
            tracing::warn!(%lease, container = name, said, "the engine has remains of an earlier start; making the container again");
            self.remove_container(name).await?;
            return Ok(Outcome::Done);
        }
        self.note_refusal(lease, name, format!("the engine would not start it: {said}"));
        Ok(Outcome::Done)
    }

    fn note_refusal(&self, lease: LeaseId, name: &str, reason: String) {
        tracing::warn!(%lease, container = name, %reason, "container refused");
        self.leases()
            .entry(lease)
            .or_default()
            .container(name)
            .refused(reason, Instant::now());
    }

    /// Takes away the rules of networks that are gone.
    async fn release(&self) -> Result<(), Error> {
        match self.enforce_isolation().await {
            Err(error) if self.settings.allow_unisolated => {
                tracing::debug!(%error, "no isolation rules to take away");
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn follow_output(&self, lease: LeaseId, view: &View, lives: &HashMap<String, Life>) -> Result<(), Error> {
        let engine = self.client.engine().await?;
        for container in view.of(lease) {
            let Container {
                id,
                labels: Some(labels),
                ..
            } = container
            else {
                continue;
            };
            let (run, is_running) = match lives.get(id) {
                Some(Life::Running { since }) => (since, true),
                Some(Life::Ended { since, .. }) => (since, false),
                Some(Life::Fresh) | None => continue,
            };
            let ring = self.logs.writer(lease, &labels.service)?;
            self.followers
                .ensure(engine, &ring, id, labels.replica, run, is_running);
        }
        Ok(())
    }
}

/// Why this engine cannot run a service at all.
fn unsupported(service: &Service) -> Option<String> {
    let gpu = service.resources.gpu.as_ref()?;
    let has_nvidia = gpu.accept.is_empty() || gpu.accept.iter().any(|kind| kind.vendor == "nvidia");
    (!has_nvidia).then(|| "this engine has GPUs of vendor nvidia only".to_owned())
}
