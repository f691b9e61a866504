//! What is remembered of containers between two applies: how often they ended, when they may start again, what is
//! wrong with them. Losing it (a restart of the agent) costs a pause that begins anew, nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use manifest::{Manifest, Protocol, Service};

use crate::image::ImageReference;
use crate::model::AssignedPort;

/// The pause before the first new start; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Who ran for so long begins with the first pause again.
const STEADY_SECONDS: u64 = 600;

/// What is remembered of a lease.
#[derive(Debug, Default)]
pub(super) struct LeaseMemory {
    /// What was applied last, by service.
    pub(super) services: BTreeMap<String, ServiceMemory>,
    /// Whether the lease was stopped and not applied since.
    pub(super) halted: bool,
    /// Host ports that are decided and perhaps not on any container yet.
    pub(super) ports: Vec<AssignedPort>,
    /// Host ports that the engine could not bind.
    pub(super) unusable_ports: BTreeSet<(Protocol, u16)>,
    /// Containers, by name.
    pub(super) containers: HashMap<String, ContainerMemory>,
    /// Containers, by the engine's id, that the provider ends or has ended, and did not start since.
    pub(super) ended_here: BTreeSet<String>,
}

impl LeaseMemory {
    pub(super) fn remember(&mut self, manifest: &Manifest) {
        self.services = manifest
            .services
            .iter()
            .map(|(name, service)| (name.clone(), ServiceMemory::new(service)))
            .collect();
        self.halted = false;
    }

    pub(super) fn container(&mut self, name: &str) -> &mut ContainerMemory {
        self.containers.entry(name.to_owned()).or_default()
    }

    /// When the next container that waits may start. What stays stopped waits for nothing.
    pub(super) fn next_start(&self) -> Option<Instant> {
        let waiting = self.containers.values().filter(|container| container.stopped.is_none());
        waiting
            .filter_map(|container| container.not_before)
            .min()
            .filter(|_| !self.halted)
    }
}

/// What is remembered of a service.
#[derive(Debug, Clone)]
pub(super) struct ServiceMemory {
    /// Its image as the manifest has it.
    pub(super) image: String,
    pub(super) count: u32,
    /// What its owner should know.
    pub(super) notes: Vec<String>,
}

impl ServiceMemory {
    fn new(service: &Service) -> Self {
        Self {
            image: service.image.clone(),
            count: service.count,
            notes: misdirected_login(service).into_iter().collect(),
        }
    }
}

/// Why a service's login is not used, where it is not.
fn misdirected_login(service: &Service) -> Option<String> {
    let credentials = service.credentials.as_ref()?;
    let reference: ImageReference = service.image.parse().ok()?;
    (!reference.accepts_login_for(&credentials.registry)).then(|| {
        format!(
            "the credentials are for `{}` and the image is at `{}`: they are not sent",
            credentials.registry, reference.registry
        )
    })
}

/// What is remembered of a container.
#[derive(Debug, Default)]
pub(super) struct ContainerMemory {
    /// How often it ended by itself.
    pub(super) restarts: u32,
    /// How often since it last ran steadily.
    streak: u32,
    /// The end that was counted last.
    counted_end: Option<String>,
    /// Not to be started before.
    not_before: Option<Instant>,
    /// Why the engine would not create or start it.
    pub(super) problem: Option<String>,
    /// Why it was stopped and stays so.
    pub(super) stopped: Option<String>,
}

impl ContainerMemory {
    /// Counts an end, once, and puts off the next start.
    pub(super) fn ended(&mut self, finished_at: &str, ran_seconds: u64, now: Instant) {
        if self.counted_end.as_deref() == Some(finished_at) {
            return;
        }
        self.counted_end = Some(finished_at.to_owned());
        self.restarts += 1;
        if ran_seconds >= STEADY_SECONDS {
            self.streak = 0;
        }
        self.put_off(now);
    }

    /// An end that we brought about.
    pub(super) fn was_stopped(&mut self, finished_at: &str) {
        self.counted_end = Some(finished_at.to_owned());
    }

    /// The engine would not create or start it: tried again later.
    pub(super) fn refused(&mut self, reason: String, now: Instant) {
        self.problem = Some(reason);
        self.put_off(now);
    }

    /// It was started.
    pub(super) fn started(&mut self) {
        self.problem = None;
        self.not_before = None;
    }

    pub(super) fn may_start(&self, now: Instant) -> bool {
        self.stopped.is_none() && self.pause(now).is_zero()
    }

    /// What is left of the pause.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.not_before
            .map_or(Duration::ZERO, |time| time.saturating_duration_since(now))
    }

    fn put_off(&mut self, now: Instant) {
        let pause = FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(self.streak.min(16)))
            .min(LONGEST_PAUSE);
        self.streak = self.streak.saturating_add(1);
        self.not_before = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_counts_once_and_pauses_grow_to_a_limit() {
        let now = Instant::now();
        let mut container = ContainerMemory::default();
        assert!(container.may_start(now));
        container.ended("a", 1, now);
        container.ended("a", 1, now);
        assert_eq!(container.restarts, 1);
        assert_eq!(container.pause(now), FIRST_PAUSE);
        for end in 0..20 {
            container.ended(&end.to_string(), 1, now);
        }
        assert_eq!(container.pause(now), LONGEST_PAUSE);
        container.ended("z", STEADY_SECONDS, now);
        assert_eq!(container.pause(now), FIRST_PAUSE);
        assert!(container.may_start(now + FIRST_PAUSE));
    }

    #[test]
    fn what_stays_stopped_waits_for_no_start() {
        let now = Instant::now();
        let mut lease = LeaseMemory::default();
        lease.container("web").ended("a", 1, now);
        assert_eq!(lease.next_start(), Some(now + FIRST_PAUSE));
        lease.container("web").stopped = Some("over its disk".into());
        assert_eq!(lease.next_start(), None);
        lease.container("web").stopped = None;
        lease.halted = true;
        assert_eq!(lease.next_start(), None);
    }

    #[test]
    fn what_was_stopped_stays_so() {
        let now = Instant::now();
        let mut container = ContainerMemory {
            stopped: Some("over its disk".into()),
            ..ContainerMemory::default()
        };
        assert!(!container.may_start(now));
        container.stopped = None;
        container.was_stopped("a");
        container.ended("a", 1, now);
        assert_eq!(container.restarts, 0);
    }
}
