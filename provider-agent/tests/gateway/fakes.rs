//! A chain and an engine that do as the test says, and a gateway between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use gateway::wire::{self, ProviderStatus, ResourceAmounts, VERSION};
use gateway::{GatewayClient, Identity, PinnedFingerprints, ServerMetrics};
use manifest::{Catalog, Manifest, SaltedManifest, Token};
use provider_agent::api::access::{
    ChainUnavailable, LeaseAccess, OnChainHolder, OnChainLease, Proposed, SpendingRight,
};
use provider_agent::api::status::Workloads;
use provider_agent::api::{Gateway, Settings};
use provider_agent::manifests::Manifests;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use workload::{LeaseId, LeaseStatus, LogItem, LogLine, Stream};

pub(crate) const LEASE: LeaseId = LeaseId(((ACCOUNT as u64) << 32) | ((TOKEN as u64) << 24) | 1);
/// The account of [`LEASE`] and its token.
pub(crate) const ACCOUNT: u32 = 7;
pub(crate) const TOKEN: u8 = 1;
/// Unix seconds on the chain.
pub(crate) const NOW: u64 = 1_700_000_100;
pub(crate) const PARAMETERS_VERSION: u16 = 1;

pub(crate) fn on_wire(lease: LeaseId) -> wire::LeaseId {
    lease.0.into()
}

pub(crate) fn catalog() -> Catalog {
    let tokens = BTreeMap::from([("uSPON".to_owned(), Token { id: 1, decimals: 6 })]);
    Catalog {
        tokens,
        ..Catalog::default()
    }
}

pub(crate) fn salted() -> SaltedManifest {
    let file = include_bytes!("../../../examples/two-services.icl.yaml");
    let deployment = manifest::parse("two-services.icl.yaml", file).expect("a valid example");
    SaltedManifest {
        salt: B256::repeat_byte(9),
        manifest: deployment.manifest,
    }
}

/// The lease of [`salted`], owned by whoever holds `owner`.
pub(crate) fn lease_of(owner: &Identity) -> OnChainLease {
    OnChainLease {
        order: manifest::derive(&salted(), &catalog(), PARAMETERS_VERSION).expect("an order"),
        owner: Address::repeat_byte(0xaa),
        owner_keys: Some(PinnedFingerprints::only(owner.fingerprint())),
        workload: LEASE,
        replaced_by: None,
        ends: Some((1_800_000_000, 1_800_000_060)),
        low_on_funds: false,
        setback: None,
        started_at: 1_700_000_000,
        closed: None,
    }
}

/// What the chain says.
#[derive(Debug, Default)]
pub(crate) struct FakeChain {
    pub(crate) leases: Mutex<HashMap<LeaseId, OnChainLease>>,
    /// Published keys by address.
    pub(crate) keys: Mutex<HashMap<Address, PinnedFingerprints>>,
    /// Rights by account, token and spender.
    pub(crate) rights: Mutex<HashMap<(u32, u8, Address), SpendingRight>>,
    pub(crate) asked_about_holders: AtomicUsize,
    pub(crate) proposed: Mutex<Option<Proposed>>,
    pub(crate) said: Mutex<Option<wire::UpdateStatus>>,
    pub(crate) away: Mutex<bool>,
}

impl FakeChain {
    pub(crate) fn change(&self, change: impl FnOnce(&mut OnChainLease)) {
        change(self.leases.lock().expect("lock").get_mut(&LEASE).expect("the lease"));
    }

    fn check(&self) -> Result<(), ChainUnavailable> {
        if *self.away.lock().expect("lock") {
            Err(ChainUnavailable("connection refused".into()))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl LeaseAccess for FakeChain {
    async fn lease(&self, lease: LeaseId) -> Result<Option<OnChainLease>, ChainUnavailable> {
        self.check()?;
        Ok(self.leases.lock().expect("lock").get(&lease).cloned())
    }

    async fn holder(&self, holder: Address, account: u32, token: u8) -> Result<OnChainHolder, ChainUnavailable> {
        self.asked_about_holders.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        let right = self
            .rights
            .lock()
            .expect("lock")
            .get(&(account, token, holder))
            .copied();
        Ok(OnChainHolder {
            keys: self.keys.lock().expect("lock").get(&holder).copied(),
            right: right.unwrap_or_default(),
            now: NOW,
        })
    }

    async fn proposal(&self, _lease: LeaseId) -> Result<Proposed, ChainUnavailable> {
        self.check()?;
        Ok(self.proposed.lock().expect("lock").clone().unwrap_or(Proposed::Nothing))
    }

    async fn said_of_update(&self, _lease: LeaseId) -> Result<Option<wire::UpdateStatus>, ChainUnavailable> {
        self.check()?;
        Ok(self.said.lock().expect("lock").clone())
    }

    async fn catalog(&self, _manifest: &Manifest) -> Result<Catalog, ChainUnavailable> {
        self.check()?;
        Ok(catalog())
    }
}

/// What runs, and what it wrote.
#[derive(Debug, Default)]
pub(crate) struct FakeEngine {
    pub(crate) status: Mutex<Option<LeaseStatus>>,
    pub(crate) sent: Mutex<Vec<LeaseId>>,
    output: Mutex<BTreeMap<String, watch::Sender<Output>>>,
}

#[derive(Debug, Clone, Default)]
struct Output {
    items: Vec<LogItem>,
    ended: bool,
}

impl FakeEngine {
    fn output(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<Output>>> {
        self.output.lock().expect("lock")
    }

    pub(crate) fn write(&self, service: &str, texts: &[&str]) {
        let mut output = self.output();
        output.entry(service.to_owned()).or_default().send_modify(|output| {
            for text in texts {
                let sequence = output.items.last().map_or(0, LogItem::next_cursor);
                output.items.push(LogItem::Line(LogLine {
                    sequence,
                    service: service.to_owned(),
                    replica: 0,
                    timestamp: "2026-11-22T17:30:00Z".to_owned(),
                    stream: Stream::Stdout,
                    text: (*text).to_owned(),
                }));
            }
        });
    }

    /// The ring has moved on: everything before `next_sequence` is gone.
    pub(crate) fn lose_until(&self, service: &str, next_sequence: u64) {
        let gap = LogItem::Gap {
            next_sequence,
            reason: "overwritten".to_owned(),
        };
        self.output()
            .entry(service.to_owned())
            .or_default()
            .send_modify(|output| output.items = vec![gap]);
    }

    pub(crate) fn end_output(&self) {
        for output in self.output().values() {
            output.send_modify(|output| output.ended = true);
        }
    }
}

#[async_trait]
impl Workloads for FakeEngine {
    async fn status(&self, _lease: LeaseId) -> Result<Option<LeaseStatus>, workload::Error> {
        Ok(self.status.lock().expect("lock").clone())
    }

    async fn manifest_sent(&self, lease: LeaseId, _workload: LeaseId) {
        self.sent.lock().expect("lock").push(lease);
    }

    fn log_services(&self, _lease: LeaseId) -> Vec<String> {
        self.output().keys().cloned().collect()
    }

    fn log_tail(&self, _lease: LeaseId, service: &str, lines: u64) -> Result<u64, workload::Error> {
        let output = self.output();
        let next = output
            .get(service)
            .and_then(|output| output.borrow().items.last().map(LogItem::next_cursor));
        Ok(next.unwrap_or(0).saturating_sub(lines))
    }

    fn read_log(
        &self,
        _lease: LeaseId,
        service: &str,
        cursor: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, workload::Error>>, workload::Error> {
        let Some(receiver) = self.output().get(service).map(watch::Sender::subscribe) else {
            return Ok(stream::empty().boxed());
        };
        let lines = stream::unfold((receiver, cursor), move |(mut receiver, cursor)| async move {
            loop {
                let output = receiver.borrow_and_update().clone();
                if let Some(item) = output.items.into_iter().find(|item| item.next_cursor() > cursor) {
                    let next = item.next_cursor();
                    return Some((Ok(item), (receiver, next)));
                }
                if !follow || output.ended || receiver.changed().await.is_err() {
                    return None;
                }
            }
        });
        Ok(lines.boxed())
    }
}

/// A gateway on a free port, stopped when dropped.
pub(crate) struct Running {
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) manifests: Manifests,
    pub(crate) owner: Identity,
    pub(crate) stop: CancellationToken,
    identity: Identity,
    url: url::Url,
    _directory: tempfile::TempDir,
    _about: watch::Sender<ProviderStatus>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What changes on chain counts at once.
pub(crate) fn settings() -> Settings {
    Settings {
        access_lifetime: Duration::ZERO,
        access_period: Duration::from_millis(20),
        ..Settings::default()
    }
}

pub(crate) async fn running() -> Running {
    running_with(settings()).await
}

/// With one lease, [`LEASE`], that belongs to `owner`.
pub(crate) async fn running_with(settings: Settings) -> Running {
    let (identity, owner) = (
        Identity::generate().expect("identity"),
        Identity::generate().expect("identity"),
    );
    let directory = tempfile::tempdir().expect("temporary directory");
    let manifests = Manifests::open(directory.path()).expect("manifest store");
    let chain = Arc::new(FakeChain::default());
    chain.leases.lock().expect("lock").insert(LEASE, lease_of(&owner));
    let engine = Arc::new(FakeEngine::default());
    let (about_sender, about) = watch::channel(about());
    let stop = CancellationToken::new();
    let gateway = Gateway::new(
        chain.clone(),
        engine.clone(),
        manifests.clone(),
        about,
        settings,
        stop.clone(),
    );
    let server = gateway.server(&identity, ServerMetrics::default()).expect("server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("bound"))
        .parse()
        .expect("a URL");
    tokio::spawn(server.serve(listener, stop.clone()));
    Running {
        chain,
        engine,
        manifests,
        owner,
        stop,
        identity,
        url,
        _directory: directory,
        _about: about_sender,
    }
}

pub(crate) fn about() -> ProviderStatus {
    ProviderStatus {
        version: VERSION,
        software: "test".to_owned(),
        chain_id: 31337,
        provider: 3,
        bidding: true,
        leases: 1,
        total: ResourceAmounts::default(),
        free: ResourceAmounts::default(),
    }
}

impl Running {
    pub(crate) fn client(&self, identity: &Identity) -> GatewayClient {
        GatewayClient::new(
            &self.url,
            PinnedFingerprints::only(self.identity.fingerprint()),
            identity,
        )
        .expect("client")
    }

    pub(crate) fn as_owner(&self) -> GatewayClient {
        self.client(&self.owner)
    }

    /// A request that the client would never make, and its whole answer.
    pub(crate) async fn raw(&self, identity: &Identity, method: &str, path: &str) -> String {
        let pinned = PinnedFingerprints::only(self.identity.fingerprint());
        let config = gateway::tls::client_config(identity, pinned).expect("configuration");
        let address = self.url.socket_addrs(|| None).expect("an address")[0];
        let stream = TcpStream::connect(address).await.expect("connect");
        let name = "localhost".try_into().expect("a name");
        let mut stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .expect("handshake");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = String::new();
        let reading = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(60), reading)
            .await
            .expect("the whole answer")
            .expect("read");
        answer
    }

    pub(crate) async fn stored_leases(&self) -> BTreeSet<LeaseId> {
        self.manifests.workloads().await.expect("read").into_iter().collect()
    }
}

pub(crate) fn code_of<T: std::fmt::Debug>(outcome: Result<T, gateway::ClientError>) -> wire::ErrorBody {
    match outcome.expect_err("a refusal") {
        gateway::ClientError::Refused { body, .. } => body,
        other => panic!("{other:?}"),
    }
}
