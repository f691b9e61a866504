//! What works and what does not, for people and for supervisors.
//!
//! Liveness says "restarting me would not help"; readiness says "send me work". A component that is degraded (such as an
//! RPC endpoint that cannot be reached) shows in `/healthz` with the time since when, and takes the process out of
//! readiness only where it was declared [`Gate::Ready`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Whether a component's state decides readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Not ready until, and unless, this component is ok.
    Ready,
    /// Shown, nothing more.
    None,
}

/// The state of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub enum State {
    /// Not yet known to work.
    Starting,
    /// Works.
    Ok,
    /// Does not work, or not fully, and why.
    Degraded(String),
}

/// One line of `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentReport {
    /// As registered.
    pub name: String,
    /// Its state, with the reason where degraded.
    #[serde(flatten)]
    pub state: State,
    /// Unix seconds at which this state (not its reason) began.
    pub since: u64,
    /// Whether readiness waits for it.
    pub gates_readiness: bool,
}

/// The body of `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// `ok`, `starting` or `degraded`: the worst of the components.
    pub status: &'static str,
    /// In the order of their names.
    pub components: Vec<ComponentReport>,
}

#[derive(Debug)]
struct Entry {
    state: State,
    since: u64,
    gate: Gate,
}

#[derive(Debug, Default)]
struct Entries {
    components: BTreeMap<String, Entry>,
    draining: bool,
}

/// The health of a process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    entries: Arc<Mutex<Entries>>,
}

impl Health {
    /// No components yet: alive and ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a component in state [`State::Starting`].
    pub fn component(&self, name: &str, gate: Gate) -> Component {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .components
            .insert(
                name.to_owned(),
                Entry {
                    state: State::Starting,
                    since: unix_seconds(),
                    gate,
                },
            );
        Component {
            name: name.to_owned(),
            entries: self.entries.clone(),
        }
    }

    /// Not ready from now on, because the process stops.
    pub fn drain(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).draining = true;
    }

    /// All components.
    pub fn report(&self) -> HealthReport {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let components: Vec<_> = entries
            .components
            .iter()
            .map(|(name, entry)| ComponentReport {
                name: name.clone(),
                state: entry.state.clone(),
                since: entry.since,
                gates_readiness: entry.gate == Gate::Ready,
            })
            .collect();
        let any = |wanted: fn(&State) -> bool| components.iter().any(|component| wanted(&component.state));
        let status = if any(|state| matches!(state, State::Degraded(_))) {
            "degraded"
        } else if any(|state| matches!(state, State::Starting)) {
            "starting"
        } else {
            "ok"
        };
        HealthReport { status, components }
    }

    /// Why the process wants no work now; empty when it is ready.
    pub fn not_ready_because(&self) -> Vec<String> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let draining = entries.draining.then(|| "shutting down".to_owned());
        let gates = entries.components.iter().filter(|(_, entry)| entry.gate == Gate::Ready);
        draining
            .into_iter()
            .chain(gates.filter_map(|(name, entry)| match &entry.state {
                State::Ok => None,
                State::Starting => Some(format!("{name}: starting")),
                State::Degraded(reason) => Some(format!("{name}: {reason}")),
            }))
            .collect()
    }
}

/// The handle with which a subsystem reports its own state. Clones report for the same component.
#[derive(Debug, Clone)]
pub struct Component {
    name: String,
    entries: Arc<Mutex<Entries>>,
}

impl Component {
    /// It works.
    pub fn ok(&self) {
        self.set(State::Ok);
    }

    /// It does not (fully) work. The reason is shown to whoever asks `/healthz`: no secrets in it.
    pub fn degraded(&self, reason: impl Into<String>) {
        self.set(State::Degraded(reason.into()));
    }

    fn set(&self, state: State) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.components.get_mut(&self.name) else {
            return;
        };
        if entry.state == state {
            return;
        }
        // A new reason for the same trouble does not restart the clock: "unreachable since" must not move with every try.
        if std::mem::discriminant(&entry.state) != std::mem::discriminant(&state) {
            entry.since = unix_seconds();
            match &state {
                State::Degraded(reason) => {
                    tracing::warn!(component = self.name, "degraded: {reason}")
                }
                State::Ok => tracing::info!(component = self.name, "ok"),
                State::Starting => {}
            }
        }
        entry.state = state;
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_only_for_the_components_that_gate_it() {
        let health = Health::new();
        let rpc = health.component("rpc", Gate::None);
        let registration = health.component("registration", Gate::Ready);
        rpc.degraded("unreachable");
        assert_eq!(health.not_ready_because(), ["registration: starting"]);
        registration.ok();
        assert!(health.not_ready_because().is_empty());
        assert_eq!(health.report().status, "degraded");
        rpc.ok();
        assert_eq!(health.report().status, "ok");
        health.drain();
        assert_eq!(health.not_ready_because(), ["shutting down"]);
    }

    #[test]
    fn the_report_carries_state_and_reason() {
        let health = Health::new();
        health.component("rpc", Gate::None).degraded("connection refused");
        let json = serde_json::to_value(health.report()).expect("serialise");
        assert_eq!(json["components"][0]["state"], "degraded");
        assert_eq!(json["components"][0]["reason"], "connection refused");
        assert!(json["components"][0]["since"].as_u64().expect("since") > 0);
    }
}
