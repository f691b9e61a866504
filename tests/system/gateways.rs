//! Who a provider's gateway talks to.

use std::time::Duration;

use alloy::network::EthereumWallet;
use alloy::providers::ProviderBuilder;
use bindings::ICertificateRegistry;
use eyre::{OptionExt as _, ensure};
use gateway::client::{ClientError, GatewayClient};
use gateway::wire::{ErrorCode, LeaseId};
use gateway::{Identity, PinnedFingerprints};
use system_tests::{Network, Sharing, eventually, example, on_devnet};
use url::Url;

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_answers_the_owner_of_a_lease_and_nobody_else() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let owner = network.user("user-1").await?;
            let stranger = network.user("user-2").await?;
            let deployed = network.deployed(&owner, &example("hello.icl.yaml")).await?;
            let lease = LeaseId(deployed.order);
            let provider = network.provider_of(deployed.order).await?;
            let (url, pinned) = gateway_of(network, &provider).await?;
            let own = Identity::load(&owner.home.join("identity.pem"))?;
            let client = |identity: &Identity| eyre::Ok(GatewayClient::new(&url, pinned, identity)?);

            client(&own)?.lease(lease).await?;
            expect_stranger(
                "another user",
                client(&Identity::load(&stranger.home.join("identity.pem"))?)?
                    .lease(lease)
                    .await,
            )?;
            expect_stranger(
                "a key that is nowhere on chain",
                client(&Identity::generate()?)?.lease(lease).await,
            )?;
            expect_stranger("another user's question for the manifest", {
                client(&Identity::load(&stranger.home.join("identity.pem"))?)?
                    .manifest(lease)
                    .await
            })?;

            // The same client without and with a certificate: the handshake makes the difference.
            let status = format!("{url}v1/leases/{}", deployed.order);
            let plain = reqwest::Client::builder()
                .tls_danger_accept_invalid_certs(true)
                .timeout(Duration::from_secs(60));
            ensure!(
                plain.build()?.get(&status).send().await.is_err(),
                "a client without a certificate was answered"
            );
            let known = reqwest::Client::builder()
                .tls_danger_accept_invalid_certs(true)
                .timeout(Duration::from_secs(60))
                .identity(reqwest::Identity::from_pem(own.expose_pem().as_bytes())?);
            let answer = known.build()?.get(&status).send().await?;
            ensure!(
                answer.status() == 200,
                "the owner's plain client was answered {}",
                answer.status()
            );

            revoke(network, "user-1").await?;
            eventually("the gateway to refuse the revoked key", async || {
                match client(&own)?.lease(lease).await {
                    Ok(_) => Ok(None),
                    // Asked too often, or the chain is slow to answer.
                    Err(error) if error.is_transient() => Ok(None),
                    refused => expect_stranger("a revoked key", refused).map(Some),
                }
            })
            .await
        },
    )
    .await
}

fn expect_stranger<T>(who: &str, answer: Result<T, ClientError>) -> eyre::Result<()> {
    match answer {
        Err(ClientError::Refused { body, .. }) if body.error == ErrorCode::NotYours => Ok(()),
        Err(ClientError::CertificateRefused { .. }) => Ok(()),
        Err(error) => Err(eyre::Report::new(error).wrap_err(format!("{who} was refused for another reason"))),
        Ok(_) => Err(eyre::eyre!("{who} was let in")),
    }
}

async fn gateway_of(network: &Network, provider: &str) -> eyre::Result<(Url, PinnedFingerprints)> {
    let contracts = &network.devnet.network.contracts;
    let registry = ICertificateRegistry::new(contracts.certificate_registry, &network.devnet.anvil.provider);
    let published = registry.fingerprints(devnet::plan::address(provider)).call().await?;
    let pinned = PinnedFingerprints::from_chain(published.current, published.next);
    let agent = network
        .devnet
        .agents
        .get(provider)
        .and_then(|agent| agent.bound()?.gateway);
    let url = format!("https://{}/", agent.ok_or_eyre("the provider's gateway listens")?);
    Ok((
        url.parse()?,
        pinned.ok_or_eyre("the provider published its certificate")?,
    ))
}

async fn revoke(network: &Network, user: &str) -> eyre::Result<()> {
    let wallet = EthereumWallet::from(devnet::plan::key(user));
    let provider = ProviderBuilder::new()
        .wallet(wallet)
        .connect_http(network.devnet.anvil.url.parse()?);
    let registry = ICertificateRegistry::new(network.devnet.network.contracts.certificate_registry, provider);
    let receipt = registry
        .revoke()
        .send()
        .await?
        .with_timeout(Some(Duration::from_secs(120)))
        .get_receipt()
        .await?;
    ensure!(receipt.status(), "revoking the certificate reverted");
    Ok(())
}
