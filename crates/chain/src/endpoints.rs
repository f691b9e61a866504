//! Several RPC endpoints behind one provider.
//!
//! A call goes to the endpoint that answered last; where the connection, the time limit or the HTTP status fails, it goes
//! to the next one, each at most once. A JSON-RPC *error response* is an answer and is returned: another node would say
//! the same. Only what hosted endpoints say of themselves (quota used up, key not valid) is none ([`refusals`]). An endpoint
//! is used only after it named the right chain id.

mod metrics;
mod refusals;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task;
use std::time::{Duration, Instant};

use alloy::providers::RootProvider;
use alloy::rpc::client::RpcClient;
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use alloy_json_rpc::{RequestPacket, ResponsePacket};
use daemon::causes::root_cause;
use daemon::config::{Problems, Validate};
use daemon::health::Component;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use url::Url;

use metrics::RpcMetrics;

/// Longest client version that becomes a label: endpoints say what they like.
const LONGEST_CLIENT_VERSION: usize = 64;
/// The largest answer read from an endpoint: a range of logs may be large, an endless body must not fill the memory.
const LARGEST_RESPONSE_BYTES: usize = 64 << 20;

daemon::section! {
    /// Where and how the chain is read.
    #[derive(PartialEq)]
    pub struct RpcSettings {
        /// JSON-RPC endpoints (http or https), best first. Give two or more: reads fall over from one to the next.
        pub urls: Vec<Url>,
        /// The chain id every endpoint must have. Without it, the first endpoint that answers decides.
        pub chain_id: Option<u64>,
        /// How long one call to one endpoint may take.
        pub timeout: Duration = Duration::from_secs(5),
        /// How often to look for a new block while blocks come irregularly. Once their rhythm is known, the next look is
        /// timed by it.
        pub poll_interval: Duration = Duration::from_millis(100),
        /// With no new block for this long, another endpoint is tried: this one may be stuck.
        pub stale_after: Duration = Duration::from_secs(60),
    }
}

impl RpcSettings {
    /// The defaults, for these endpoints.
    pub fn new(urls: Vec<Url>) -> Self {
        Self {
            urls,
            chain_id: None,
            timeout: Duration::from_secs(5),
            poll_interval: Duration::from_millis(100),
            stale_after: Duration::from_secs(60),
        }
    }
}

impl Validate for RpcSettings {
    fn problems(&self, problems: &mut Problems) {
        if self.urls.is_empty() {
            problems.invalid("urls", "needs at least one endpoint");
        }
        if let Some(url) = self.urls.iter().find(|url| !matches!(url.scheme(), "http" | "https")) {
            problems.invalid("urls", format!("only http and https are spoken, not {}", url.scheme()));
        }
        if self.timeout.is_zero() {
            problems.invalid("timeout", "must be longer than zero");
        }
        if self.poll_interval < Duration::from_millis(10) {
            problems.invalid("poll_interval", "must be at least 10ms");
        }
    }
}

/// Why the endpoints cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointsError {
    /// The list is empty.
    #[error("no RPC endpoint is configured; set `rpc`, or endpoints in the network file")]
    None,
    /// No endpoint answered.
    #[error(
        "no RPC endpoint can be reached ({0}); check `rpc`, or the network file's endpoints, and that the node runs"
    )]
    Unreachable(String),
    /// An endpoint serves another chain.
    #[error(
        "the RPC endpoint {endpoint} serves chain {found}, expected chain {expected}; correct `rpc`, or the network file's endpoints and chain id"
    )]
    WrongChain {
        /// Its host and port.
        endpoint: String,
        /// What it said.
        found: u64,
        /// What the configuration or the other endpoints said.
        expected: u64,
    },
    /// The HTTP client cannot be made.
    #[error("cannot make the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Whether the chain can be read, and since when it cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachability {
    /// When the last call succeeded; none before the first.
    pub last_success: Option<Instant>,
    /// Set while no endpoint answers.
    pub unreachable_since: Option<Instant>,
}

impl Reachability {
    /// Whether the last call got an answer. While this is false nothing may be destroyed: what cannot be read cannot be
    /// known to be over.
    pub fn is_reachable(&self) -> bool {
        self.unreachable_since.is_none() && self.last_success.is_some()
    }
}

#[derive(Debug)]
struct Endpoint {
    url: Url,
    /// Host and port: paths and user names of hosted endpoints are credentials.
    name: String,
    /// Whether it named the right chain id.
    verified: AtomicBool,
    /// What it says it is.
    client_version: OnceLock<String>,
}

#[derive(Debug)]
struct Inner {
    endpoints: Vec<Endpoint>,
    current: AtomicUsize,
    client: reqwest::Client,
    timeout: Duration,
    chain_id: OnceLock<u64>,
    metrics: RpcMetrics,
    reachability: watch::Sender<Reachability>,
    component: Mutex<Option<Component>>,
}

/// The endpoints of one chain. Clones share their state.
#[derive(Debug, Clone)]
pub struct Endpoints {
    inner: Arc<Inner>,
}

impl Endpoints {
    /// Prepares the endpoints without a call, so that an agent can start while its RPC is away. Installs the TLS provider.
    pub fn new(settings: &RpcSettings) -> Result<Self, EndpointsError> {
        daemon::tls::install_provider();
        if settings.urls.is_empty() {
            return Err(EndpointsError::None);
        }
        let endpoints = settings.urls.iter().map(|url| Endpoint {
            name: format!(
                "{}:{}",
                url.host_str().unwrap_or("?"),
                url.port_or_known_default().unwrap_or(0)
            ),
            url: url.clone(),
            verified: AtomicBool::new(false),
            client_version: OnceLock::new(),
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .build()
            .map_err(EndpointsError::Client)?;
        let inner = Inner {
            endpoints: endpoints.collect(),
            current: AtomicUsize::new(0),
            client,
            timeout: settings.timeout,
            chain_id: settings.chain_id.map_or_else(OnceLock::new, OnceLock::from),
            metrics: RpcMetrics::default(),
            reachability: watch::Sender::new(Reachability {
                last_success: None,
                unreachable_since: None,
            }),
            component: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Shows reachability as this health component from now on.
    pub fn report_health(&self, component: Component) {
        *self.inner.component.lock().unwrap_or_else(PoisonError::into_inner) = Some(component);
    }

    /// Registers how often and how long the endpoints are asked: `eigen_rpc_request_total` and
    /// `eigen_rpc_request_duration_seconds`, names that EigenLayer's node specification prescribes. Give it a registry without a
    /// prefix.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.inner.metrics.register(registry);
    }

    /// Asks every endpoint for its chain id and returns it. Unreachable endpoints are only warned about (they are asked
    /// again before their first use), unless none answers.
    pub async fn verify(&self) -> Result<u64, EndpointsError> {
        let mut failures = Vec::new();
        for endpoint in &self.inner.endpoints {
            match self.inner.verify(endpoint).await {
                Ok(()) => {}
                Err(Refusal::WrongChain { found, expected }) => {
                    return Err(EndpointsError::WrongChain {
                        endpoint: endpoint.name.clone(),
                        found,
                        expected,
                    });
                }
                Err(Refusal::Failed(reason)) => {
                    tracing::warn!(endpoint = endpoint.name, "RPC endpoint not reachable: {reason}");
                    failures.push(format!("{}: {reason}", endpoint.name));
                }
            }
        }
        if failures.len() == self.inner.endpoints.len() {
            self.inner.all_failed(&failures);
            return Err(EndpointsError::Unreachable(failures.join("; ")));
        }
        self.inner.succeeded();
        self.inner
            .chain_id
            .get()
            .copied()
            .ok_or_else(|| EndpointsError::Unreachable(failures.join("; ")))
    }

    /// The chain id, once an endpoint named it or the configuration did.
    pub fn chain_id(&self) -> Option<u64> {
        self.inner.chain_id.get().copied()
    }

    /// An alloy provider on these endpoints. Cheap; clones share connections.
    pub fn provider(&self) -> RootProvider {
        RootProvider::new(RpcClient::new(
            Failover {
                inner: self.inner.clone(),
            },
            true,
        ))
    }

    /// Whether the chain can be read, as of the last call.
    pub fn reachability(&self) -> watch::Receiver<Reachability> {
        self.inner.reachability.subscribe()
    }

    /// Uses the next endpoint first from now on, because the current one answers but does not move.
    pub fn prefer_next(&self) {
        let current = self.inner.current.load(Ordering::Relaxed);
        self.inner
            .current
            .store((current + 1) % self.inner.endpoints.len(), Ordering::Relaxed);
    }

    /// Host and port of the endpoint in use.
    pub fn current(&self) -> &str {
        &self.inner.endpoints[self.inner.current.load(Ordering::Relaxed)].name
    }

    /// How many endpoints there are.
    pub fn count(&self) -> usize {
        self.inner.endpoints.len()
    }
}

/// Why an endpoint did not serve a call.
enum Refusal {
    Failed(String),
    WrongChain { found: u64, expected: u64 },
}

impl Inner {
    async fn call(&self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let body = serde_json::to_vec(&request).map_err(TransportError::SerError)?;
        let first = self.current.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for offset in 0..self.endpoints.len() {
            let index = (first + offset) % self.endpoints.len();
            let endpoint = &self.endpoints[index];
            match self.measured(endpoint, &request, body.clone()).await {
                Ok(response) => {
                    if offset > 0 {
                        tracing::warn!(endpoint = endpoint.name, "using this RPC endpoint from now on");
                        self.current.store(index, Ordering::Relaxed);
                    }
                    self.succeeded();
                    return Ok(response);
                }
                Err(Refusal::Failed(reason)) => failures.push(format!("{}: {reason}", endpoint.name)),
                Err(Refusal::WrongChain { found, expected }) => {
                    let reason = format!("serves chain {found}, expected chain {expected}");
                    tracing::error!(endpoint = endpoint.name, "not using this RPC endpoint: it {reason}");
                    failures.push(format!("{}: {reason}", endpoint.name));
                }
            }
        }
        self.all_failed(&failures);
        Err(TransportErrorKind::custom_str(&failures.join("; ")))
    }

    /// One call to one endpoint, counted under each of its methods.
    async fn measured(
        &self,
        endpoint: &Endpoint,
        request: &RequestPacket,
        body: Vec<u8>,
    ) -> Result<ResponsePacket, Refusal> {
        let began = Instant::now();
        let outcome = self.try_endpoint(endpoint, body).await;
        let version = endpoint.client_version.get().map_or("unknown", String::as_str);
        for method in request.method_names() {
            self.metrics.count(method, version, began.elapsed());
        }
        outcome
    }

    async fn try_endpoint(&self, endpoint: &Endpoint, body: Vec<u8>) -> Result<ResponsePacket, Refusal> {
        if !endpoint.verified.load(Ordering::Relaxed) {
            self.verify(endpoint).await?;
        }
        let response = self.post(endpoint, body).await.map_err(Refusal::Failed)?;
        match refusals::refusal(&response) {
            // Without its words, which may repeat the key.
            Some(code) => Err(Refusal::Failed(format!(
                "it refuses to serve (JSON-RPC error {code}); its quota may be used up, or its key not be valid"
            ))),
            None => Ok(response),
        }
    }

    async fn verify(&self, endpoint: &Endpoint) -> Result<(), Refusal> {
        let request = br#"{"jsonrpc":"2.0","id":0,"method":"eth_chainId","params":[]}"#.to_vec();
        let response = self.post(endpoint, request).await.map_err(Refusal::Failed)?;
        let found = response
            .first_payload()
            .and_then(|payload| payload.as_success())
            .and_then(|value| serde_json::from_str::<alloy::primitives::U64>(value.get()).ok())
            .ok_or_else(|| Refusal::Failed("it does not answer eth_chainId".to_owned()))?
            .to::<u64>();
        let expected = *self.chain_id.get_or_init(|| found);
        if found != expected {
            return Err(Refusal::WrongChain { found, expected });
        }
        endpoint.verified.store(true, Ordering::Relaxed);
        self.ask_what_it_is(endpoint).await;
        Ok(())
    }

    /// A label of the metrics and nothing else: an endpoint that does not say is used all the same.
    async fn ask_what_it_is(&self, endpoint: &Endpoint) {
        if endpoint.client_version.get().is_some() {
            return;
        }
        let request = br#"{"jsonrpc":"2.0","id":0,"method":"web3_clientVersion","params":[]}"#.to_vec();
        let answer = self.post(endpoint, request).await.ok();
        let version = answer.and_then(|answer| {
            let value = answer.first_payload()?.as_success()?;
            serde_json::from_str::<String>(value.get()).ok()
        });
        if let Some(version) = version {
            let version = version.chars().take(LONGEST_CLIENT_VERSION).collect();
            // Another call may have been faster with the same.
            let _ = endpoint.client_version.set(version);
        }
    }

    async fn post(&self, endpoint: &Endpoint, body: Vec<u8>) -> Result<ResponsePacket, String> {
        tokio::time::timeout(self.timeout, self.post_unbounded(endpoint, body))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)))
    }

    async fn post_unbounded(&self, endpoint: &Endpoint, body: Vec<u8>) -> Result<ResponsePacket, String> {
        // Without the URL, whose path may be a credential.
        let plain = |error: reqwest::Error| root_cause(&error.without_url());
        let mut response = self
            .client
            .post(endpoint.url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(plain)?;
        let status = response.status();
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(plain)? {
            if text.len() + chunk.len() > LARGEST_RESPONSE_BYTES {
                return Err(format!("the answer is longer than {LARGEST_RESPONSE_BYTES} bytes"));
            }
            text.extend_from_slice(&chunk);
        }
        // A rate limit, a key that is refused or a gateway's failure is no answer, whatever its body says; other statuses may
        // carry one.
        let is_refused = [
            reqwest::StatusCode::UNAUTHORIZED,
            reqwest::StatusCode::PAYMENT_REQUIRED,
            reqwest::StatusCode::FORBIDDEN,
            reqwest::StatusCode::TOO_MANY_REQUESTS,
        ]
        .contains(&status);
        if status.is_server_error() || is_refused {
            return Err(format!("HTTP status {status}"));
        }
        serde_json::from_slice(&text).map_err(|_| {
            if status.is_success() {
                "the answer is not JSON-RPC".to_owned()
            } else {
                format!("HTTP status {status}")
            }
        })
    }

    fn succeeded(&self) {
        let now = Instant::now();
        self.reachability.send_if_modified(|reachability| {
            let changed = !reachability.is_reachable();
            *reachability = Reachability {
                last_success: Some(now),
                unreachable_since: None,
            };
            changed
        });
        if let Some(component) = &*self.component.lock().unwrap_or_else(PoisonError::into_inner) {
            component.ok();
        }
    }

    fn all_failed(&self, failures: &[String]) {
        self.reachability.send_if_modified(|reachability| {
            let changed = reachability.unreachable_since.is_none();
            reachability.unreachable_since.get_or_insert_with(Instant::now);
            changed
        });
        if let Some(component) = &*self.component.lock().unwrap_or_else(PoisonError::into_inner) {
            component.degraded(format!("rpc unreachable: {}", failures.join("; ")));
        }
    }
}

/// The transport behind [`Endpoints::provider`].
#[derive(Debug, Clone)]
struct Failover {
    inner: Arc<Inner>,
}

impl tower::Service<RequestPacket> for Failover {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _context: &mut task::Context<'_>) -> task::Poll<Result<(), Self::Error>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move { inner.call(request).await })
    }
}
