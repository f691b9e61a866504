//! What the command line calls: one provider's gateway, recognised by the fingerprint that the chain names.
//!
//! Every request has its own connection: there are few, and each proves anew who is at the other end.

mod connection;
mod error;
mod logs;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use self::connection::Endpoint;
pub use self::error::ClientError;
pub use self::logs::LogStream;
use crate::wire::{
    self, LARGEST_MANIFEST_BYTES, LeaseId, LeaseStatus, LogQuery, ManifestReceipt, ProviderStatus, path,
};
use crate::{Identity, PinnedFingerprints, tls};

/// Answers are smaller: the largest is a manifest that is given back.
const LARGEST_ANSWER_BYTES: usize = 4 * LARGEST_MANIFEST_BYTES;

/// How long to wait for what.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For the TCP connection and the TLS handshake.
    pub connect: Duration,
    /// For the whole of an answer, and for the header of a stream.
    pub answer: Duration,
    /// For the next line of a log stream that is followed; a provider sends a heartbeat every 15 seconds.
    pub silence: Duration,
    /// For how long a broken log stream is connected again before the error is reported.
    pub reconnect: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            silence: Duration::from_secs(45),
            reconnect: Duration::from_secs(120),
        }
    }
}

/// One provider's gateway. Clones share the configuration.
#[derive(Debug, Clone)]
pub struct GatewayClient {
    endpoint: Endpoint,
    tls: Arc<ClientConfig>,
    holder: Option<Address>,
    timeouts: Timeouts,
}

impl GatewayClient {
    /// For the gateway at `url` (`https://host:port`), which must hold a key that is `pinned`, asked as `identity`.
    /// Connects at the first request.
    ///
    /// # Errors
    /// [`ClientError::Url`], or [`ClientError::Tls`] where the identity's key cannot be used.
    pub fn new(url: &Url, pinned: PinnedFingerprints, identity: &Identity) -> Result<Self, ClientError> {
        Ok(Self {
            endpoint: Endpoint::from_url(url)?,
            tls: tls::client_config(identity, pinned).map_err(ClientError::Tls)?,
            holder: None,
            timeouts: Timeouts::default(),
        })
    }

    /// Says whose key the identity's is: the address that published it. A gateway lets in whoever has a right to spend of a
    /// lease's account only with this; the account's owner also without.
    pub fn with_holder(mut self, holder: Address) -> Self {
        self.holder = Some(holder);
        self
    }

    /// Other timeouts.
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// What the provider says about itself.
    pub async fn provider(&self) -> Result<ProviderStatus, ClientError> {
        self.call(Method::GET, path::STATUS, Bytes::new()).await
    }

    /// Sends the manifest of a lease, as `manifest::SaltedManifest::encode` gives it. Sending the same again changes
    /// nothing.
    pub async fn put_manifest(
        &self,
        lease: LeaseId,
        encoded: impl Into<Bytes>,
    ) -> Result<ManifestReceipt, ClientError> {
        let body = encoded.into();
        if body.len() > LARGEST_MANIFEST_BYTES {
            return Err(ClientError::ManifestTooLarge {
                size: body.len(),
                largest: LARGEST_MANIFEST_BYTES,
            });
        }
        self.call(Method::PUT, &path::manifest(lease), body).await
    }

    /// The manifest that the provider holds for a lease, for `manifest::SaltedManifest::decode`.
    pub async fn manifest(&self, lease: LeaseId) -> Result<Bytes, ClientError> {
        self.whole(Method::GET, &path::manifest(lease), Bytes::new()).await
    }

    /// How a lease is doing.
    pub async fn lease(&self, lease: LeaseId) -> Result<LeaseStatus, ClientError> {
        self.call(Method::GET, &path::lease(lease), Bytes::new()).await
    }

    /// A lease's logs. Connects at the first [`LogStream::next`], and again from the last line seen when the connection
    /// breaks.
    pub fn logs(&self, lease: LeaseId, query: LogQuery) -> LogStream {
        LogStream::new(self.clone(), lease, query)
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let answer = self.whole(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|error| {
            self.endpoint
                .nonsense(format!("an answer that is not understood ({error})"))
        })
    }

    async fn whole(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let limit = self.timeouts.connect + self.timeouts.answer;
        let answer = async {
            let response = self.send(method, path, body).await?;
            self.endpoint.read_whole(response, LARGEST_ANSWER_BYTES).await
        };
        timeout(limit, answer)
            .await
            .unwrap_or_else(|_| Err(self.endpoint.timed_out("an answer", limit)))
    }

    /// Connects, asks, and turns answers that are not 2xx into [`ClientError::Refused`].
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<http::Response<hyper::body::Incoming>, ClientError> {
        let mut sender = self.endpoint.connect(self.tls.clone(), self.timeouts.connect).await?;
        let mut request = Request::builder().method(method).uri(path);
        if let Some(holder) = self.holder {
            request = request.header(wire::HOLDER, format!("{holder:#x}"));
        }
        let request = request
            .header(header::HOST, self.endpoint.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("spheron/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| {
                self.endpoint
                    .nonsense(format!("a request that cannot be made: {error}"))
            })?;
        let response = timeout(self.timeouts.answer, sender.send_request(request))
            .await
            .map_err(|_| self.endpoint.timed_out("an answer", self.timeouts.answer))?
            .map_err(|error| self.endpoint.broken(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.endpoint.refusal(response).await)
    }
}
