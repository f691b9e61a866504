//! What the command line and the agents both speak: the provider gateway's wire types, its server and its client, and TLS
//! identities pinned on chain.
//!
//! There is no certificate authority and there are no dates. A peer is the SHA-256 of its public key ([`Fingerprint`]),
//! which the certificate registry lists per address: a provider's certificate is accepted if its fingerprint is the one on
//! chain, a client's by what the handlers find for the lease it asks about.
//!
//! - [`Identity`]: a key with its self-signed certificate, in one PEM file.
//! - [`tls`]: TLS 1.3 configurations of both sides.
//! - [`wire`]: paths, bodies and errors.
//! - [`Server`]: serves an axum router to clients of which every one may be hostile.
//! - [`GatewayClient`]: what the command line calls.

pub mod client;
mod fingerprint;
mod identity;
mod rate_limit;
pub mod server;
pub mod tls;
pub mod wire;

pub use client::{ClientError, GatewayClient, LogStream};
pub use fingerprint::{Fingerprint, MalformedCertificate, PinnedFingerprints};
pub use identity::{Identity, IdentityError};
pub use rate_limit::{RateLimited, RateLimiter};
pub use server::{Admission, Limits, Peer, Server, ServerMetrics};
