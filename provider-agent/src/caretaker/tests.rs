//! The caretaker over its own store, an engine that does as it is told, and a chain that nobody has to ask.

use std::sync::Mutex;

use ::chain::endpoints::{Endpoints, RpcSettings};
use ::chain::network::Network;
use ::chain::transactions::TransactionSettings;
use ::chain::{AppliedBlock, Batch, BlockReference, Event};
use alloy::rpc::types::Log;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolEvent;
use alloy_primitives::aliases::{U40, U96};
use alloy_primitives::{Address, B256, LogData, U256};
use async_trait::async_trait;
use avs::terms::Terms;
use bindings::{ILeases, IOrderBook, OrderState, OrderTerms};
use manifest::{Manifest, SaltedManifest};
use serde_json::{Map, Value, json};
use workload::logs::LogSettings;
use workload::{
    Applied, Assignment, Capacity, Disk, Error, Isolation, LeaseStatus, LogStore, ReplicaState, ReplicaStatus,
    ServiceStatus, Staged, Usage,
};

use super::*;

const OWN: u32 = 7;
pub(crate) const FIRST: LeaseId = LeaseId(1);
const UPDATED: LeaseId = LeaseId(2);
const OTHER: LeaseId = LeaseId(3);
const DEPTH: u64 = 2;

/// Runs at once whatever it is told to.
#[derive(Debug)]
struct Obedient {
    /// The image of the first service of each manifest that was applied.
    applied: Mutex<Vec<String>>,
    /// How far it says images are.
    staged: Mutex<Staged>,
    logs: LogStore,
}

fn image(manifest: &Manifest) -> String {
    let service = manifest.services.values().next().expect("a service");
    service.image.clone()
}

#[async_trait]
impl Engine for Obedient {
    async fn apply(&self, _lease: LeaseId, manifest: &Manifest, assignment: &Assignment) -> Result<Applied, Error> {
        self.applied.lock().expect("lock").push(image(manifest));
        let running = |service: &manifest::Service| ServiceStatus {
            image: service.image.clone(),
            resolved_image: None,
            replicas: vec![ReplicaStatus {
                replica: 0,
                state: ReplicaState::Running {
                    since: "2026-11-23T03:00:00Z".to_owned(),
                },
                restarts: 0,
                ports: Vec::new(),
            }],
            notes: Vec::new(),
        };
        let services = manifest
            .services
            .iter()
            .map(|(name, service)| (name.clone(), running(service)));
        Ok(Applied {
            assignment: assignment.clone(),
            status: LeaseStatus {
                services: services.collect(),
            },
            changes: 0,
        })
    }

    async fn stage(&self, _lease: LeaseId, _manifest: &Manifest) -> Result<Staged, Error> {
        Ok(self.staged.lock().expect("lock").clone())
    }

    async fn unstage(&self, _lease: LeaseId) {}

    async fn stop(&self, _lease: LeaseId) -> Result<(), Error> {
        Ok(())
    }

    async fn remove(&self, _lease: LeaseId) -> Result<(), Error> {
        Ok(())
    }

    async fn remove_all(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn observe(&self) -> Result<Vec<ObservedLease>, Error> {
        Ok(Vec::new())
    }

    async fn status(&self, _lease: LeaseId) -> Result<Option<LeaseStatus>, Error> {
        Ok(None)
    }

    async fn forget_failures(&self, _lease: LeaseId) {}

    async fn isolation(&self) -> Isolation {
        Isolation {
            isolated: true,
            problems: Vec::new(),
        }
    }

    async fn capacity(&self) -> Result<Capacity, Error> {
        Ok(Capacity {
            milli_cpu: 1_000,
            memory_bytes: 1 << 30,
            storage_bytes: 1 << 30,
            architecture: "amd64".to_owned(),
        })
    }

    async fn disk(&self) -> Result<Disk, Error> {
        Ok(Disk {
            total_bytes: 1 << 30,
            free_bytes: 1 << 30,
            below_watermark: false,
        })
    }

    async fn measure(&self) -> Result<Vec<Usage>, Error> {
        Ok(Vec::new())
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    fn logs(&self) -> &LogStore {
        &self.logs
    }
}

/// A network whose chain is nowhere.
fn nowhere() -> Network {
    let zeroes = |names: &str| -> Map<String, Value> {
        let zero = json!(Address::ZERO);
        names
            .split_whitespace()
            .map(|name| (name.to_owned(), zero.clone()))
            .collect()
    };
    let mut eigenlayer = zeroes(
        "delegation_manager strategy_manager allocation_manager registry_coordinator stake_registry bls_apk_registry \
         index_registry socket_registry operator_state_retriever rewards_coordinator",
    );
    eigenlayer.insert("quorums".to_owned(), json!([]));
    let network = json!({
        "name": "nowhere",
        "chain_id": 1,
        "rpc": ["http://127.0.0.1:9"],
        "deployed_at": 0,
        "contracts": zeroes(
            "access_manager escrow order_book payment_tokens provider_registry certificate_registry stake_manager task_manager \
             quorum_verifier matching_rule disputes slasher commission_split service_manager spon",
        ),
        "roles": zeroes("governor token_lister verifier guardian"),
        "eigenlayer": eigenlayer,
        "tokens": [
            { "id": 1, "symbol": "SPON", "address": Address::ZERO, "decimals": 18 },
            { "id": 2, "symbol": "uSPON", "address": Address::ZERO, "decimals": 6 },
        ],
    });
    serde_json::from_value(network).expect("a network")
}

/// The example with this image in its first service.
fn manifest_of(image: &str) -> SaltedManifest {
    let file = include_bytes!("../../../examples/two-services.icl.yaml");
    let deployment = manifest::parse("two-services.icl.yaml", file).expect("a valid example");
    let mut manifest = deployment.manifest;
    let service = manifest.services.values_mut().next().expect("a service");
    service.image = image.to_owned();
    SaltedManifest {
        salt: B256::repeat_byte(9),
        manifest,
    }
}

/// Terms that ask for nothing.
pub(crate) fn any_terms() -> Terms {
    Terms {
        resources: U256::ZERO,
        requirements: U256::ZERO,
        regions: U256::MAX,
        manifest_hash: B256::repeat_byte(1),
        maximum_rate: 1,
        duration: 60,
        wanted_suppliers: Vec::new(),
        excluded_suppliers: Vec::new(),
    }
}

fn terms(manifest: &SaltedManifest) -> OrderTerms {
    OrderTerms {
        resources: U256::ZERO,
        requirements: U256::ZERO,
        regions: U256::MAX,
        manifestHash: manifest.hash(),
        maximumRate: U96::from(1_000),
        duration: 100_000,
        wantedSuppliers: Vec::new(),
        excludedSuppliers: Vec::new(),
    }
}

fn leased(lease: LeaseId, start: u32) -> LogData {
    IOrderBook::LeaseCreated {
        orderId: lease.0,
        supplier: OWN,
        rate: U96::from(10),
        start,
        gpuEntry: 0,
    }
    .encode_log_data()
}

/// A caretaker, and what a test plays the rest of the agent with.
pub(crate) struct Bench {
    pub(crate) caretaker: Caretaker,
    engine: Arc<Obedient>,
    seen: watch::Sender<Seen>,
    memory: Memory,
    tasks: JoinSet<Done>,
    _directory: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("store");
        let endpoint = "http://127.0.0.1:9".parse().expect("a URL");
        let endpoints = Endpoints::new(&RpcSettings::new(vec![endpoint])).expect("endpoints");
        let signer = PrivateKeySigner::random();
        let market = Market::new(endpoints.provider(), Arc::new(nowhere()), signer.address());
        let settings = TransactionSettings::default();
        let (transactions, _actor) = Transactions::new(&endpoints, signer, store.database().clone(), settings, None);
        let engine = Arc::new(Obedient {
            applied: Mutex::default(),
            staged: Mutex::default(),
            logs: LogStore::new(directory.path(), LogSettings::default()),
        });
        let ground = Ground {
            answers: true,
            measured: true,
            problems: Vec::new(),
        };
        let reachable = Reachability {
            last_success: Some(std::time::Instant::now()),
            unreachable_since: None,
        };
        let seen = watch::Sender::new(Seen::default());
        let caretaker = Caretaker {
            market,
            store,
            manifests: Manifests::open(directory.path()).expect("manifests"),
            engine: engine.clone(),
            transactions,
            own: OWN,
            patience: Patience {
                manifest_seconds: 1_000,
                start_seconds: 1_000,
                confirmation_depth: DEPTH,
                removal_depth: 100,
                undone_depth: 100,
            },
            trial: Trial {
                steady_seconds: 0,
                limit_seconds: 60,
            },
            windows: Windows::default(),
            seen: seen.subscribe(),
            ground: watch::Sender::new(ground).subscribe(),
            reachability: watch::Sender::new(reachable).subscribe(),
            failures: Vec::new(),
            metrics: ProviderMetrics::default(),
        };
        Self {
            caretaker,
            engine,
            seen,
            memory: Memory::default(),
            tasks: JoinSet::new(),
            _directory: directory,
        }
    }

    async fn stored(&self, workload: LeaseId, manifest: &SaltedManifest, keep: &[B256]) {
        let manifests = &self.caretaker.manifests;
        manifests.put(workload, manifest, keep).await.expect("stored");
    }

    /// A block of these events is seen, and looked at.
    async fn block(&mut self, number: u64, logs: Vec<LogData>) {
        let log = |data| Log {
            inner: alloy_primitives::Log {
                address: Address::ZERO,
                data,
            },
            ..Log::default()
        };
        let block = AppliedBlock {
            number,
            hash: B256::from(U256::from(number)),
            parent: B256::ZERO,
            timestamp: number,
            logs: logs.into_iter().map(log).collect(),
        };
        let batch = Batch {
            events: vec![Event::Applied(block)],
            head: BlockReference {
                number,
                hash: B256::ZERO,
            },
            caught_up: true,
        };
        self.caretaker.store.apply(OWN, &batch).await.expect("apply");
        self.seen.send_replace(Seen {
            head: number,
            time: number,
            caught_up: true,
        });
        self.look(Trigger::Block).await;
    }

    async fn look(&mut self, trigger: Trigger) {
        let Self {
            caretaker,
            memory,
            tasks,
            ..
        } = self;
        caretaker.round(trigger, memory, tasks).await.expect("a round");
    }

    /// What came of the work that was begun; nothing where none was.
    async fn done(&mut self) -> Option<Result<Done, tokio::task::JoinError>> {
        self.tasks.join_next().await
    }

    fn note(&mut self, done: Result<Done, tokio::task::JoinError>) -> Option<LeaseId> {
        self.caretaker.note(done, &mut self.memory)
    }

    fn applied(&self) -> Vec<String> {
        self.engine.applied.lock().expect("lock").clone()
    }

    /// A lease runs.
    pub(crate) async fn with_a_lease(&mut self) {
        self.begin(FIRST, 2, &manifest_of("old:1")).await;
    }

    /// A lease runs, an update of it is proposed, and the manifests of both are here.
    pub(crate) async fn with_a_proposal(&mut self) {
        let (old, new) = (manifest_of("old:1"), manifest_of("new:1"));
        self.begin(FIRST, 2, &old).await;
        self.stored(FIRST, &new, &[old.hash(), new.hash()]).await;
        self.block(3, vec![proposed(&new)]).await;
    }

    /// Its user proposes something else.
    pub(crate) async fn with_a_later_proposal(&mut self, number: u64) {
        self.block(number, vec![proposed(&manifest_of("newer:1"))]).await;
    }

    /// So far images are from now on.
    pub(crate) fn stages(&self, staged: Staged) {
        *self.engine.staged.lock().expect("lock") = staged;
    }

    /// A lease begins.
    async fn begin(&mut self, lease: LeaseId, number: u64, manifest: &SaltedManifest) {
        let created = IOrderBook::OrderCreated {
            orderId: lease.0,
            closeBlock: 2,
            feeSchedule: 1,
            terms: terms(manifest),
        };
        let start = u32::try_from(number).expect("a small number");
        self.stored(lease, manifest, &[manifest.hash()]).await;
        self.block(number, vec![created.encode_log_data(), leased(lease, start)])
            .await;
    }
}

fn proposed(new: &SaltedManifest) -> LogData {
    ILeases::UpdateProposed {
        orderId: FIRST.0,
        by: Address::ZERO,
        expiry: U40::from(1_000),
        terms: terms(new),
    }
    .encode_log_data()
}

fn update(new: &SaltedManifest, start: u32) -> Vec<LogData> {
    let closed = ILeases::LeaseClosed {
        orderId: FIRST.0,
        reason: OrderState::ClosedUpdated,
        billed: 1,
    };
    let updated = ILeases::LeaseUpdated {
        orderId: FIRST.0,
        updatedId: UPDATED.0,
        workload: FIRST.0,
    };
    vec![
        proposed(new),
        closed.encode_log_data(),
        leased(UPDATED, start),
        updated.encode_log_data(),
    ]
}

#[tokio::test]
async fn an_update_is_switched_although_work_for_the_lease_before_it_ended_later() {
    let (old, new) = (manifest_of("old:1"), manifest_of("new:1"));
    let mut bench = Bench::new();
    bench.begin(FIRST, 2, &old).await;
    assert_eq!(bench.tasks.len(), 0, "the lease is not confirmed yet");
    bench.block(2 + DEPTH, Vec::new()).await;
    let work_for_the_old_one = bench.done().await.expect("the lease is confirmed");
    assert_eq!(bench.applied(), ["old:1"]);

    // The update is a lease before anybody heard what came of that.
    bench.stored(FIRST, &new, &[old.hash(), new.hash()]).await;
    bench.block(5, update(&new, 5)).await;
    assert_eq!(bench.note(work_for_the_old_one), Some(FIRST), "it is looked at again");
    bench.block(5 + DEPTH, Vec::new()).await;
    let work = bench
        .done()
        .await
        .expect("the update is confirmed, and nothing was done");
    assert_eq!(bench.applied(), ["old:1", "new:1"]);

    // And then blocks alone change nothing.
    assert_eq!(bench.note(work), None);
    bench.block(6 + DEPTH, Vec::new()).await;
    assert_eq!(bench.tasks.len(), 0);
}

#[tokio::test]
async fn workloads_that_are_busy_do_not_call_for_looks_at_each_other() {
    let manifest = manifest_of("one:1");
    let mut bench = Bench::new();
    bench.begin(FIRST, 2, &manifest).await;
    bench.begin(OTHER, 3, &manifest).await;
    bench.block(3 + DEPTH, Vec::new()).await;
    let begun = [bench.done().await, bench.done().await];
    // Something happens while both are being worked on: of each it is known once.
    bench.look(Trigger::Everything).await;
    assert_eq!(bench.tasks.len(), 0);
    let mut again = Vec::new();
    for done in begun {
        let workload = bench
            .note(done.expect("both are confirmed"))
            .expect("it is looked at again");
        bench.look(Trigger::Again(workload)).await;
        again.push(workload);
    }
    again.sort();
    assert_eq!(again, [FIRST, OTHER]);
    assert_eq!(bench.tasks.len(), 2);
    while let Some(done) = bench.done().await {
        assert_eq!(bench.note(done), None);
    }
}
