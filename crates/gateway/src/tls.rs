//! TLS 1.3 with certificates that nobody issued: a peer proves that it holds a key, and the key's fingerprint is looked up
//! on chain.
//!
//! Certificate dates, names and issuers mean nothing here (clocks need not agree, renewal needs no transaction). What is
//! verified is the handshake signature, by the same code that rustls uses for ordinary certificates. Sessions are not
//! resumed: every connection proves possession anew.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, PeerMisbehaved, ServerConfig,
    SignatureScheme,
};

use crate::{Fingerprint, Identity, PinnedFingerprints};

/// HTTP/1.1 only: one request per connection is what every bound of the server counts on.
const PROTOCOL: &[u8] = b"http/1.1";

/// A connection keeps its peer's certificates for as long as it lives, so that their size is somebody's memory. One with an
/// RSA key of 4096 bits takes about 1300 bytes.
const LARGEST_CERTIFICATES_BYTES: usize = 8 * 1024;

/// Why a server was refused: it is not who the chain says it should be.
#[derive(Debug, Clone, thiserror::Error)]
#[error("it presented the key {presented}, but on chain is {pinned}")]
pub struct WrongFingerprint {
    /// What the server presented.
    pub presented: Fingerprint,
    /// What was read from the chain.
    pub pinned: PinnedFingerprints,
}

/// Presents `identity` and requires a certificate of every client. Any well-formed one will do: who it is, the handlers
/// learn from [`crate::Peer`].
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(AnyClient { provider }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// Presents `identity` and accepts exactly the servers whose fingerprint is pinned.
pub fn client_config(identity: &Identity, pinned: PinnedFingerprints) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedServer { provider, pinned }))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyClient {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let size: usize = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|one| one.len())
            .sum();
        if size > LARGEST_CERTIFICATES_BYTES {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Fingerprint::of_certificate(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls12_is_off())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct PinnedServer {
    provider: Arc<CryptoProvider>,
    pinned: PinnedFingerprints,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Fingerprint::of_certificate(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if self.pinned.contains(&presented) {
            return Ok(ServerCertVerified::assertion());
        }
        let refusal = WrongFingerprint {
            presented,
            pinned: self.pinned,
        };
        Err(CertificateError::Other(OtherError(Arc::new(refusal))).into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls12_is_off())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Never reached: neither side offers TLS 1.2. Refusing keeps that true if somebody ever changes the versions.
fn tls12_is_off() -> rustls::Error {
    PeerMisbehaved::SelectedTls12UsingTls13VersionExtension.into()
}
