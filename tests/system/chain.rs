//! A chain that goes away, and one that takes back what it said.

use std::net::Ipv4Addr;

use bindings::{IOrderBook, OrderState};
use eyre::{OptionExt as _, ensure};
use serde_json::json;
use system_tests::{Proxy, Sharing, eventually, example, get, on_devnet};

/// The RPC endpoint is gone for a minute of blocks: nothing is deleted, `/healthz` says so, and afterwards the agent does
/// what the chain said meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_chain_nothing_is_deleted() -> eyre::Result<()> {
    let proxy = Proxy::start(Ipv4Addr::LOCALHOST).await?;
    on_devnet(
        Sharing::Shared,
        |options| {
            for provider in ["provider-1", "provider-2"] {
                proxy.stand_before(provider, options);
            }
        },
        async |network| {
            let user = network.user("user-1").await?;
            let deployed = network.deployed(&user, &example("hello.icl.yaml")).await?;
            let provider = network.provider_of(deployed.order).await?;
            let containers = network.running(1).await?;
            let head = network.block().await?;
            proxy.close();
            eventually("/healthz to report the endpoint", async || {
                let health = network.health(&provider).await?;
                let components = health["components"]
                    .as_array()
                    .ok_or_eyre("/healthz lists components")?;
                let told = components.iter().any(|component| {
                    component["state"] == "degraded" && matches!(component["name"].as_str(), Some("rpc" | "chain"))
                });
                Ok((told && health["status"] == "degraded").then_some(()))
            })
            .await?;
            // Meanwhile the lease ends, which an agent that cannot see the chain does not know.
            user.json(&["lease", "close", &deployed.order.to_string()]).await?;
            network.in_state(deployed.order, OrderState::ClosedByUser).await?;
            for blocks in [15, 30, 45, 60] {
                network.block_hash(head + blocks).await?;
                ensure!(
                    network.running(1).await? == containers,
                    "the container was touched without sight of the chain"
                );
                get(deployed.url()?).await?;
            }
            proxy.open();
            network.running(0).await?;
            eventually("/healthz to be well again", async || {
                Ok((network.health(&provider).await?["status"] == "ok").then_some(()))
            })
            .await
        },
    )
    .await
}

/// A reorganisation takes the lease's blocks away: the workload stops, and its container is kept for a while, in case the
/// lease comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_that_removes_a_lease_stops_its_workload() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let user = network.user("user-1").await?;
            let deployed = network.deployed(&user, &example("hello.icl.yaml")).await?;
            let containers = network.running(1).await?;
            let created = network.events::<IOrderBook::OrderCreated>(Some(deployed.order)).await?;
            let (block, _) = created.first().ok_or_eyre("the order was created")?;
            // A block that came between the two calls would leave the order's own block in place.
            network.hold_blocks().await?;
            let depth = network.block().await? - block + 1;
            network.devnet.anvil.call("anvil_reorg", json!([depth, []])).await?;
            network.resume_blocks().await?;
            let state = network.book().order(deployed.order).call().await?.state;
            ensure!(
                state == OrderState::None,
                "after the reorganisation the order is still {state:?}"
            );
            eventually("the workload to stop", async || {
                Ok((!network.containers().await?.iter().any(|container| container.running)).then_some(()))
            })
            .await?;
            let kept = network.containers().await?;
            ensure!(
                kept.iter()
                    .map(|container| &container.id)
                    .eq(containers.iter().map(|container| &container.id)),
                "the container was removed at once: {kept:?}"
            );
            network.devnet.check_processes()
        },
    )
    .await
}
