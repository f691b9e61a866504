//! A lease's state in the words its owner reads.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::Docker;
use super::memory::{ContainerMemory, ServiceMemory};
use super::observe::{Container, Life, View};
use super::pull::{ImageState, Progress};
use crate::engine::Staged;
use crate::model::LeaseId;
use crate::plan::Phase;
use crate::status::{LeaseStatus, ReplicaState, ReplicaStatus, ServiceStatus};

/// What an owner is told whose container tried to gain privileges.
const PRIVILEGE_NOTE: &str = "containers cannot gain privileges (no-new-privileges), so sudo and setuid programs do not work: let the image start as the user it needs";

impl Docker {
    /// What was applied last and what exists, put together. `images` is how far they are; where a service is missing
    /// in it, what the pulls say is used.
    pub(super) fn report(
        &self,
        lease: LeaseId,
        view: &View,
        lives: &HashMap<String, Life>,
        images: &HashMap<String, ImageState>,
    ) -> LeaseStatus {
        let pulls = self.puller.states(lease);
        let leases = self.leases();
        let memory = leases.get(&lease);
        let mut services: BTreeMap<String, ServiceMemory> =
            memory.map(|memory| memory.services.clone()).unwrap_or_default();
        // After a restart, before the first apply: the labels say what there is.
        for labels in view.of(lease).filter_map(|container| container.labels.as_ref()) {
            let service = services.entry(labels.service.clone()).or_insert_with(|| ServiceMemory {
                image: labels.image.reference.clone(),
                count: 0,
                notes: Vec::new(),
            });
            if memory.is_none_or(|memory| memory.services.is_empty()) {
                service.count = service.count.max(labels.replica + 1);
            }
        }

        let names = self.settings.scope.names(lease);
        let mut status = LeaseStatus::default();
        for (name, service) in services {
            let image = images.get(&name).or_else(|| pulls.get(&name));
            let mut notes = service.notes;
            let mut resolved_image = None;
            let mut replicas = Vec::new();
            for replica in 0..service.count {
                let container_name = names.container(&name, replica);
                let container = view.of(lease).find(|container| container.name == container_name);
                let remembered = memory.and_then(|memory| memory.containers.get(&container_name));
                if let Some(labels) = container.and_then(|container| container.labels.as_ref()) {
                    let image = &labels.image;
                    resolved_image = Some(image.digest.clone().unwrap_or_else(|| image.id.clone()));
                }
                if container.is_some_and(|container| self.followers.complained_about_privileges(&container.id))
                    && !notes.iter().any(|note| note == PRIVILEGE_NOTE)
                {
                    notes.push(PRIVILEGE_NOTE.to_owned());
                }
                let halted = memory.is_some_and(|memory| memory.halted);
                let ended_here = container
                    .is_some_and(|container| memory.is_some_and(|memory| memory.ended_here.contains(&container.id)));
                let life = container.and_then(|container| lives.get(&container.id));
                replicas.push(ReplicaStatus {
                    replica,
                    state: replica_state(container, life, remembered, image, (halted, ended_here)),
                    restarts: remembered.map_or(0, |container| container.restarts),
                    ports: container
                        .and_then(|container| container.labels.as_ref())
                        .map(|labels| labels.ports.clone())
                        .unwrap_or_default(),
                });
            }
            if let Some(ImageState::Ready(image)) = image {
                resolved_image = Some(image.digest.clone().unwrap_or_else(|| image.id.clone()));
            }
            status.services.insert(
                name,
                ServiceStatus {
                    image: service.image,
                    resolved_image,
                    replicas,
                    notes,
                },
            );
        }
        status
    }
}

/// Adds how far the image of one service is that is to take the place of another.
pub(super) fn note_staged(staged: &mut Staged, service: &str, state: ImageState) {
    let service = service.to_owned();
    match state {
        ImageState::Ready(image) => drop(staged.images.insert(service, image)),
        ImageState::Pulling(Progress {
            attempt,
            last_error: Some(error),
            ..
        }) => {
            staged.waiting.push(service.clone());
            let problem = format!("its image is being pulled (attempt {attempt}; before: {error})");
            staged.problem.get_or_insert((service, problem));
        }
        ImageState::Pulling(_) => staged.waiting.push(service),
        ImageState::Failed(reason) => drop(staged.failure.get_or_insert((service, reason))),
    }
}

fn replica_state(
    container: Option<&Container>,
    life: Option<&Life>,
    memory: Option<&ContainerMemory>,
    image: Option<&ImageState>,
    (halted, ended_here): (bool, bool),
) -> ReplicaState {
    if let Some(Life::Running { since }) = life {
        return ReplicaState::Running { since: since.clone() };
    }
    if let Some(reason) = memory.and_then(|memory| memory.stopped.clone()) {
        return ReplicaState::Stopped { reason };
    }
    if halted {
        return ReplicaState::Stopped {
            reason: "the provider stopped it and keeps its disks".to_owned(),
        };
    }
    if let Some(reason) = memory.and_then(|memory| memory.problem.clone()) {
        return ReplicaState::Failed { reason };
    }
    if ended_here && matches!(life, Some(Life::Ended { .. })) {
        return ReplicaState::Waiting {
            reason: "the provider has stopped the container before it".to_owned(),
        };
    }
    if let Some(Life::Ended {
        code,
        out_of_memory,
        finished_at,
        ..
    }) = life
    {
        let pause = memory.map(|memory| memory.pause(Instant::now())).unwrap_or_default();
        return ReplicaState::Exited {
            code: *code,
            out_of_memory: *out_of_memory,
            finished_at: finished_at.clone(),
            restart_in_seconds: pause.as_secs() + u64::from(pause.subsec_nanos() > 0),
        };
    }
    match (container, image) {
        (Some(container), _) if container.phase == Phase::Leaving => ReplicaState::Waiting {
            reason: "the container before it is being removed".to_owned(),
        },
        (Some(_), _) => ReplicaState::Created,
        (None, Some(ImageState::Failed(reason))) => ReplicaState::Failed { reason: reason.clone() },
        (None, Some(ImageState::Pulling(progress))) => ReplicaState::Pulling {
            received_bytes: progress.received_bytes,
            total_bytes: progress.total_bytes,
            attempt: progress.attempt,
            last_error: progress.last_error.clone(),
        },
        (None, Some(ImageState::Ready(_)) | None) => ReplicaState::Waiting {
            reason: "its container is about to be created".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_that_failed_and_is_tried_again_is_told_of_what_is_staged() {
        let pulling = |last_error: Option<&str>| {
            ImageState::Pulling(Progress {
                attempt: 2,
                last_error: last_error.map(str::to_owned),
                ..Progress::default()
            })
        };
        let mut staged = Staged::default();
        note_staged(&mut staged, "api", pulling(None));
        assert_eq!(
            (staged.waiting.as_slice(), &staged.problem),
            (&["api".to_owned()][..], &None)
        );
        note_staged(&mut staged, "web", pulling(Some("no such host")));
        note_staged(&mut staged, "zoo", pulling(Some("another")));
        assert_eq!(staged.waiting, ["api", "web", "zoo"]);
        let (service, problem) = staged.problem.clone().expect("told");
        assert_eq!(service, "web");
        assert!(
            problem.contains("attempt 2") && problem.contains("no such host"),
            "{problem}"
        );
        assert!(!staged.is_ready());
    }
}
