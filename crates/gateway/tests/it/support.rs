//! A running server, and clients that write bytes as they please.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use gateway::wire::{LeaseId, ManifestReceipt, path};
use gateway::{Fingerprint, GatewayClient, Identity, Peer, PinnedFingerprints, Server, tls};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Nothing here takes longer on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const LEASE: LeaseId = LeaseId(u64::MAX - 1);

/// A server on a free port, stopped when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    pub(crate) async fn start(identity: &Identity, server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(listener, stop.clone()));
        Self {
            address,
            fingerprint: identity.fingerprint(),
            stop,
            task,
        }
    }

    pub(crate) async fn with_router(router: Router) -> Self {
        let identity = identity();
        Self::start(&identity, server(&identity, router)).await
    }

    pub(crate) fn url(&self) -> Url {
        format!("https://{}", self.address).parse().expect("a URL")
    }

    pub(crate) fn client(&self, identity: &Identity) -> GatewayClient {
        GatewayClient::new(&self.url(), PinnedFingerprints::only(self.fingerprint), identity).expect("a client")
    }

    /// A TLS connection that speaks no HTTP yet.
    pub(crate) async fn raw(&self, identity: &Identity) -> TlsStream<TcpStream> {
        let config =
            tls::client_config(identity, PinnedFingerprints::only(self.fingerprint)).expect("client configuration");
        connect(self.address, config).await.expect("handshake")
    }
}

pub(crate) fn identity() -> Identity {
    Identity::generate().expect("a new identity")
}

pub(crate) fn server(identity: &Identity, router: Router) -> Server {
    Server::new(identity, router).expect("server configuration")
}

pub(crate) async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(config)
        .connect("localhost".try_into().expect("a name"), stream)
        .await
}

/// Counts the requests that reach a handler, and takes any manifest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counting {
    handled: Arc<AtomicUsize>,
}

impl Counting {
    pub(crate) fn handled(&self) -> usize {
        self.handled.load(Ordering::SeqCst)
    }

    /// `GET /peer` answers the peer's fingerprint; PUT of a manifest answers a receipt.
    pub(crate) fn router(&self) -> Router {
        let (get, put) = (self.handled.clone(), self.handled.clone());
        Router::new()
            .route(
                "/peer",
                axum::routing::get(move |axum::Extension(peer): axum::Extension<Peer>| async move {
                    get.fetch_add(1, Ordering::SeqCst);
                    peer.fingerprint.to_string()
                }),
            )
            .route(
                path::MANIFEST,
                axum::routing::put(move |body: axum::body::Bytes| async move {
                    put.fetch_add(1, Ordering::SeqCst);
                    axum::Json(ManifestReceipt {
                        lease: LEASE,
                        manifest_hash: alloy_primitives::keccak256(body),
                        already_stored: false,
                        for_update: false,
                    })
                }),
            )
    }
}

/// Everything until the server closes; what was received before an error counts.
pub(crate) async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            received.extend_from_slice(&buffer[..length]);
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the server closes the connection");
    String::from_utf8_lossy(&received).into_owned()
}

/// Sends a request and returns the whole answer.
pub(crate) async fn exchange(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("send");
    read_to_end(stream).await
}
