//! Who is let in, and who is believed.

use std::sync::Arc;

use gateway::{ClientError, GatewayClient, Identity, PinnedFingerprints, tls};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::support::{Counting, LEASE, PATIENCE, Running, connect, exchange, identity, read_to_end};

const GET_PEER: &str = "GET /peer HTTP/1.1\r\nHost: x\r\n\r\n";

/// A certificate with a key that is not its own: what a thief of certificates (which are public) has.
fn stolen_certificate(of: &Identity) -> Arc<SingleCertAndKey> {
    let certificate = CertificateDer::from_pem_slice(of.expose_pem().as_bytes()).expect("certificate");
    let key = PrivateKeyDer::from_pem_slice(identity().expose_pem().as_bytes()).expect("key");
    let key = ring::default_provider()
        .key_provider
        .load_private_key(key)
        .expect("key");
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)))
}

fn expired() -> Identity {
    let key = rcgen::KeyPair::generate().expect("key");
    let mut parameters = rcgen::CertificateParams::default();
    parameters.not_before = rcgen::date_time_ymd(1990, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(1991, 1, 1);
    let certificate = parameters.self_signed(&key).expect("certificate");
    Identity::from_pem(&format!("{}{}", certificate.pem(), key.serialize_pem())).expect("identity")
}

#[tokio::test]
async fn handlers_learn_the_fingerprint_of_the_key_that_the_client_holds() {
    let counting = Counting::default();
    let running = Running::with_router(counting.router()).await;
    let client = identity();
    let answer = exchange(&mut running.raw(&client).await, GET_PEER).await;
    assert!(answer.ends_with(&client.fingerprint().to_string()), "{answer}");
}

#[tokio::test]
async fn a_client_without_a_certificate_reaches_no_handler() {
    let counting = Counting::default();
    let running = Running::with_router(counting.router()).await;
    let with = tls::client_config(&identity(), PinnedFingerprints::only(running.fingerprint)).expect("configuration");
    let mut without = (*with).clone();
    without.client_auth_cert_resolver = Arc::new(NoCertificate);
    // In TLS 1.3 the client's side of the handshake is over before the server looks at its certificate.
    if let Ok(mut stream) = connect(running.address, Arc::new(without)).await {
        let sent = stream.write_all(GET_PEER.as_bytes()).await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty(), "sent {sent:?}, answered {answer}");
    }
    assert_eq!(counting.handled(), 0);
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_client_with_anothers_certificate_reaches_no_handler() {
    let counting = Counting::default();
    let running = Running::with_router(counting.router()).await;
    let owner = identity();
    let config = tls::client_config(&owner, PinnedFingerprints::only(running.fingerprint)).expect("configuration");
    let mut thief = (*config).clone();
    thief.client_auth_cert_resolver = stolen_certificate(&owner);
    if let Ok(mut stream) = connect(running.address, Arc::new(thief)).await {
        let sent = stream.write_all(GET_PEER.as_bytes()).await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty(), "sent {sent:?}, answered {answer}");
    }
    assert_eq!(counting.handled(), 0);
    // The owner itself gets through the very same configuration.
    let answer = exchange(
        &mut connect(running.address, config).await.expect("handshake"),
        GET_PEER,
    )
    .await;
    assert!(answer.ends_with(&owner.fingerprint().to_string()), "{answer}");
}

#[tokio::test]
async fn a_server_with_the_pinned_certificate_but_another_key_is_refused() {
    let provider = identity();
    let config = tls::server_config(&provider).expect("configuration");
    let mut thief = (*config).clone();
    thief.cert_resolver = stolen_certificate(&provider);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let accepting = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accept");
        TlsAcceptor::from(Arc::new(thief)).accept(stream).await.is_ok()
    });
    let client = GatewayClient::new(
        &format!("https://{address}").parse().expect("a URL"),
        PinnedFingerprints::only(provider.fingerprint()),
        &identity(),
    )
    .expect("a client");
    let error = timeout(PATIENCE, client.provider())
        .await
        .expect("an answer")
        .expect_err("not the holder of the key");
    assert!(matches!(error, ClientError::Broken { .. }), "{error:?}");
    assert!(!accepting.await.expect("accepting"), "the handshake went through");
}

#[tokio::test]
async fn a_provider_with_another_key_is_refused_and_both_are_shown() {
    let counting = Counting::default();
    let running = Running::with_router(counting.router()).await;
    let expected = identity().fingerprint();
    let client = GatewayClient::new(&running.url(), PinnedFingerprints::only(expected), &identity()).expect("a client");
    let error = client.put_manifest(LEASE, "{}").await.expect_err("another provider");
    assert!(matches!(error, ClientError::WrongFingerprint { .. }), "{error:?}");
    let message = error.to_string();
    assert!(
        message.contains(&expected.to_string()) && message.contains(&running.fingerprint.to_string()),
        "{message}"
    );
    assert!(!error.is_transient());
    assert_eq!(counting.handled(), 0);
}

#[tokio::test]
async fn the_next_key_is_accepted_too() {
    let counting = Counting::default();
    let running = Running::with_router(counting.router()).await;
    let pinned = PinnedFingerprints::from_chain(identity().fingerprint().into(), running.fingerprint.into());
    let client = GatewayClient::new(&running.url(), pinned.expect("published"), &identity()).expect("a client");
    client.put_manifest(LEASE, "{}").await.expect("accepted");
    assert_eq!(counting.handled(), 1);
}

#[tokio::test]
async fn dates_mean_nothing() {
    let counting = Counting::default();
    let provider = expired();
    let running = Running::start(&provider, crate::support::server(&provider, counting.router())).await;
    running
        .client(&expired())
        .put_manifest(LEASE, "{}")
        .await
        .expect("accepted");
    assert_eq!(counting.handled(), 1);
}

#[tokio::test]
async fn older_tls_is_refused() {
    let running = Running::with_router(Counting::default().router()).await;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let error = connect(running.address, Arc::new(config)).await.expect_err("TLS 1.2");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[tokio::test]
async fn a_huge_certificate_is_refused() {
    let counting = Counting::default();
    let running = Running::with_router(counting.router()).await;
    let key = rcgen::KeyPair::generate().expect("key");
    let mut parameters = rcgen::CertificateParams::default();
    parameters
        .custom_extensions
        .push(rcgen::CustomExtension::from_oid_content(
            &[1, 3, 6, 1, 4, 1, 99999],
            vec![0; 9000],
        ));
    let certificate = parameters.self_signed(&key).expect("certificate");
    let huge = Identity::from_pem(&format!("{}{}", certificate.pem(), key.serialize_pem())).expect("identity");
    let error = running.client(&huge).provider().await.expect_err("refused");
    assert!(
        matches!(
            error,
            ClientError::CertificateRefused { .. } | ClientError::Broken { .. }
        ),
        "{error:?}"
    );
    assert_eq!(counting.handled(), 0);
}

#[tokio::test]
async fn nobody_there_is_a_sentence() {
    // Bound, so that nobody else gets it, and not listening.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let address = socket.local_addr().expect("bound");
    let client = GatewayClient::new(
        &format!("https://{address}").parse().expect("a URL"),
        PinnedFingerprints::only(identity().fingerprint()),
        &identity(),
    )
    .expect("a client");
    let error = timeout(PATIENCE, client.provider())
        .await
        .expect("an answer")
        .expect_err("nobody");
    assert!(
        error.is_transient() && error.to_string().contains(&address.to_string()),
        "{error}"
    );
}
