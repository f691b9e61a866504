//! Leases as containers of a Docker engine on this machine.
//!
//! Everything is labelled with the provider's address, the lease and, on a devnet, the devnet's id; names are made
//! from those, so the engine itself refuses a second container. Containers have CPU, memory and process limits, no
//! swap, fewer capabilities than Docker's default and no way to gain privileges; they reach each other by service name
//! and the internet, and nothing else (`firewall`). The agent starts them, never the engine by itself: after a reboot
//! nothing runs before the isolation rules are in force.
//!
//! The engine's client logs requests at `debug` and `trace`, with tenants' environment: keep `bollard` at `info`.

mod apply;
mod client;
mod container;
mod disk;
mod events;
mod firewall;
mod follow;
mod images;
mod isolation;
mod labels;
mod memory;
mod objects;
mod observe;
mod ports;
mod pull;
mod report;
mod settings;
mod throughput;
mod turns;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use manifest::Manifest;
use tokio::sync::Notify;

use crate::engine::{Applied, Capacity, Disk, Engine, Error, Isolation, ObservedLease, Staged, Usage};
use crate::logs::LogStore;
use crate::model::{Assignment, LeaseId};
use crate::plan::Intent;
use crate::status::LeaseStatus;
use client::Client;
use firewall::Firewall;
use follow::Followers;
use memory::LeaseMemory;
use observe::Life;
use pull::Puller;
pub use settings::{PullSettings, Settings};

/// The engine's option for the name of a network's bridge.
const BRIDGE_NAME_OPTION: &str = "com.docker.network.bridge.name";
/// The longest that [`Engine::changed`] waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A Docker engine, seen by one provider.
#[derive(Debug)]
pub struct Docker {
    settings: Settings,
    client: Arc<Client>,
    firewall: Firewall,
    /// One at a time lists the networks and writes their rules.
    isolation_turn: tokio::sync::Mutex<()>,
    /// One at a time chooses host ports.
    ports_turn: tokio::sync::Mutex<()>,
    /// One at a time works on a lease.
    lease_turns: Mutex<HashMap<LeaseId, Arc<tokio::sync::Mutex<()>>>>,
    leases: Mutex<BTreeMap<LeaseId, LeaseMemory>>,
    puller: Arc<Puller>,
    followers: Followers,
    logs: LogStore,
    wake: Arc<Notify>,
    /// Whether a network was seen to be isolated since the engine last started.
    probed: Arc<AtomicBool>,
    watcher: tokio::task::AbortHandle,
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Docker {
    /// The engine of these settings; it need not run yet. Must be called inside a Tokio runtime. The first wrong
    /// setting is the error; [`Settings::problems`] names all.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        if let Some(problem) = settings.problems().into_iter().next() {
            return Err(problem);
        }
        let client = Arc::new(Client::new(settings.engine_address()));
        let wake = Arc::new(Notify::new());
        let probed = Arc::new(AtomicBool::new(false));
        let watcher = tokio::spawn(events::watch(
            Arc::clone(&client),
            settings.scope.clone(),
            Arc::clone(&wake),
            Arc::clone(&probed),
        ));
        Ok(Self {
            firewall: Firewall::new(
                &settings.scope.tag(),
                settings.name_servers.clone(),
                settings.denied_networks.clone(),
            ),
            isolation_turn: tokio::sync::Mutex::default(),
            ports_turn: tokio::sync::Mutex::default(),
            lease_turns: Mutex::default(),
            leases: Mutex::default(),
            puller: Arc::new(Puller::new(
                settings.pull,
                settings.state_directory.join("private-images"),
                Arc::clone(&wake),
            )),
            followers: Followers::default(),
            logs: LogStore::new(settings.state_directory.join("logs"), settings.logs),
            watcher: watcher.abort_handle(),
            settings,
            client,
            wake,
            probed,
        })
    }

    fn probed(&self) -> bool {
        self.probed.load(Ordering::Acquire)
    }

    fn set_probed(&self, probed: bool) {
        self.probed.store(probed, Ordering::Release);
    }

    fn leases(&self) -> MutexGuard<'_, BTreeMap<LeaseId, LeaseMemory>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, lease: LeaseId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.lease_turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Turns that nobody holds or waits for are forgotten.
        turns.retain(|of, turn| *of == lease || Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(lease).or_default())
    }

    async fn root_directory(&self) -> Result<String, Error> {
        let information = self
            .client
            .engine()
            .await?
            .info()
            .await
            .map_err(|error| self.client.error("describe itself", error))?;
        Ok(information
            .docker_root_dir
            .unwrap_or_else(|| "/var/lib/docker".to_owned()))
    }

    /// What an existing container and its volumes use, and whether that is more than its manifest asked for.
    async fn measure_container(&self, container: &observe::Container) -> Option<Usage> {
        let labels = container.labels.as_ref()?;
        let folders: Vec<PathBuf> = container.mounts.iter().map(PathBuf::from).collect();
        let volumes =
            tokio::task::spawn_blocking(move || folders.iter().map(|folder| disk::used_bytes(folder)).sum::<u64>())
                .await
                .unwrap_or_default();
        Some(Usage {
            lease: container.owner.lease,
            service: labels.service.clone(),
            replica: labels.replica,
            used_bytes: container.size_bytes.saturating_add(volumes),
            limit_bytes: labels.storage_bytes,
        })
    }

    /// Stops a container that uses more of the disk than it may; it stays so until the manifest is sent again.
    async fn enforce_storage(&self, container: &observe::Container, usage: &Usage) -> Result<(), Error> {
        let lease = container.owner.lease;
        let over = usage.used_bytes > usage.limit_bytes;
        {
            let mut leases = self.leases();
            let memory = leases.entry(lease).or_default().container(&container.name);
            memory.stopped = over.then(|| {
                format!(
                    "it uses {} bytes of disk and asked for {}; it stays stopped until its manifest is sent again",
                    usage.used_bytes, usage.limit_bytes
                )
            });
        }
        if !over || container.phase != crate::plan::Phase::Running {
            return Ok(());
        }
        tracing::warn!(%lease, container = container.name, used_bytes = usage.used_bytes, limit_bytes = usage.limit_bytes, "stopping a container above its disk limit");
        let turn = self.turn(lease);
        let _turn = turn.lock().await;
        self.stop_container(&container.id).await?;
        self.note_stop(lease, container).await
    }

    /// Remembers that a container's end was our doing.
    async fn note_stop(&self, lease: LeaseId, container: &observe::Container) -> Result<(), Error> {
        if let Some(Life::Ended { finished_at, .. }) = observe::life(&self.client, &container.id).await? {
            self.leases()
                .entry(lease)
                .or_default()
                .container(&container.name)
                .was_stopped(&finished_at);
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for Docker {
    async fn apply(&self, lease: LeaseId, manifest: &Manifest, assignment: &Assignment) -> Result<Applied, Error> {
        let turn = self.turn(lease);
        let _turn = turn.lock().await;
        self.bring_about(lease, manifest, assignment).await
    }

    async fn stage(&self, lease: LeaseId, manifest: &Manifest) -> Result<Staged, Error> {
        self.stage_images(lease, manifest).await
    }

    async fn unstage(&self, lease: LeaseId) {
        self.puller.forget(lease);
    }

    async fn stop(&self, lease: LeaseId) -> Result<(), Error> {
        let turn = self.turn(lease);
        let _turn = turn.lock().await;
        let view = observe::view(&self.client, &self.settings.scope, false).await?;
        self.carry_out_all(lease, &Intent::Stop, &view).await?;
        for container in view.of(lease) {
            self.note_stop(lease, container).await?;
        }
        self.leases().entry(lease).or_default().halted = true;
        Ok(())
    }

    async fn remove(&self, lease: LeaseId) -> Result<(), Error> {
        let turn = self.turn(lease);
        let _turn = turn.lock().await;
        self.remove_lease(lease).await
    }

    async fn remove_all(&self) -> Result<(), Error> {
        for lease in self.observe().await? {
            self.remove(lease.lease).await?;
        }
        self.remove_probe().await?;
        self.enforce_isolation().await
    }

    async fn observe(&self) -> Result<Vec<ObservedLease>, Error> {
        Ok(observe::view(&self.client, &self.settings.scope, false).await?.leases())
    }

    async fn status(&self, lease: LeaseId) -> Result<Option<LeaseStatus>, Error> {
        let view = observe::view(&self.client, &self.settings.scope, false).await?;
        let lives = self.lives(&view, lease).await?;
        let status = self.report(lease, &view, &lives, &HashMap::new());
        Ok((!status.services.is_empty()).then_some(status))
    }

    async fn forget_failures(&self, lease: LeaseId) {
        self.puller.forget_failures(lease);
        if let Some(memory) = self.leases().get_mut(&lease) {
            memory.containers.clear();
            memory.unusable_ports.clear();
        }
        self.wake.notify_one();
    }

    async fn isolation(&self) -> Isolation {
        self.check_isolation().await
    }

    async fn capacity(&self) -> Result<Capacity, Error> {
        let engine = self.client.engine().await?;
        let information = engine
            .info()
            .await
            .map_err(|error| self.client.error("describe itself", error))?;
        let unsigned = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
        let disk = self.disk().await?;
        Ok(Capacity {
            milli_cpu: unsigned(information.ncpu).saturating_mul(1_000),
            memory_bytes: unsigned(information.mem_total),
            storage_bytes: disk.total_bytes,
            architecture: images::engine_architecture(engine).await?,
        })
    }

    async fn disk(&self) -> Result<Disk, Error> {
        disk::file_system(&self.root_directory().await?, self.settings.minimum_free_bytes)
    }

    async fn measure(&self) -> Result<Vec<Usage>, Error> {
        let view = observe::view(&self.client, &self.settings.scope, true).await?;
        let mut usages = Vec::new();
        for container in &view.containers {
            if let Some(usage) = self.measure_container(container).await {
                self.enforce_storage(container, &usage).await?;
                usages.push(usage);
            }
        }
        Ok(usages)
    }

    async fn changed(&self) {
        let latest = Instant::now() + LONGEST_WAIT;
        let next_start = self.leases().values().filter_map(LeaseMemory::next_start).min();
        let until = next_start.map_or(latest, |start| start.min(latest));
        tokio::select! {
            () = self.wake.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }

    fn logs(&self) -> &LogStore {
        &self.logs
    }
}
