//! A provider agent that is killed or stopped at the wrong moment.

use bindings::OrderState;
use eyre::ensure;
use system_tests::{Network, Sharing, eventually, example, expect_success, get, on_devnet};

/// Killed after its lease began and before anybody sent a manifest.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_between_lease_and_manifest_makes_one_container() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let user = network.user("user-1").await?;
            let deploy = network.deploy(&user, &example("hello.icl.yaml"), &["--confirmations", "2"])?;
            let (order, _) = network.order().await?;
            network.hold_at_lease(order).await?;
            let provider = network.provider_of(order).await?;
            network.devnet.agent(&provider)?.kill()?;
            network.resume_blocks().await?;
            network.devnet.launch(&provider)?;
            network.devnet.wait_ready(&provider).await?;
            expect_success("`spheron deploy`", deploy).await?;
            expect_one_container(network, &provider).await
        },
    )
    .await
}

/// Killed once it holds the manifest and has started nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_between_manifest_and_running_makes_one_container() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let user = network.user("user-1").await?;
            let deploy = network.deploy(&user, &example("hello.icl.yaml"), &["--confirmations", "0"])?;
            let (order, _) = network.order().await?;
            // The provider starts nothing before the lease has a block on top.
            network.hold_at_lease(order).await?;
            let provider = network.provider_of(order).await?;
            let id = order.to_string();
            eventually("the provider to hold the manifest", async || {
                Ok((user.json(&["lease", "show", &id]).await?["manifest"] == "stored").then_some(()))
            })
            .await?;
            ensure!(
                network.containers().await?.is_empty(),
                "a container was made before the lease was confirmed"
            );
            network.devnet.agent(&provider)?.kill()?;
            network.resume_blocks().await?;
            network.devnet.launch(&provider)?;
            network.devnet.wait_ready(&provider).await?;
            expect_success("`spheron deploy`", deploy).await?;
            expect_one_container(network, &provider).await
        },
    )
    .await
}

/// Killed when its container has just been made, and once more when all runs.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_it_starts_a_container_makes_no_second_one() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let user = network.user("user-1").await?;
            let deploy = network.deploy(&user, &example("hello.icl.yaml"), &[])?;
            let (order, _) = network.order().await?;
            network.in_state(order, OrderState::Leased).await?;
            let provider = network.provider_of(order).await?;
            eventually("a container", async || {
                Ok((!network.containers().await?.is_empty()).then_some(()))
            })
            .await?;
            network.crash(&provider).await?;
            expect_success("`spheron deploy`", deploy).await?;
            expect_one_container(network, &provider).await
        },
    )
    .await
}

/// One container runs, no other was ever made, and another crash changes nothing.
async fn expect_one_container(network: &mut Network, provider: &str) -> eyre::Result<()> {
    let containers = network.running(1).await?;
    network.crash(provider).await?;
    let head = network.block().await?;
    network.block_hash(head + 3).await?;
    ensure!(
        network.running(1).await? == containers,
        "a restart made another container"
    );
    let made = network.happened("create").await?;
    ensure!(made == 1, "{made} containers were made for one service");
    Ok(())
}

/// The lease is closed while the agent is down: its container outlives the agent, and goes once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_closed_while_the_agent_was_down_is_cleaned_up_once() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let user = network.user("user-1").await?;
            let deployed = network.deployed(&user, &example("hello.icl.yaml")).await?;
            let provider = network.provider_of(deployed.order).await?;
            let containers = network.running(1).await?;
            network.devnet.agent(&provider)?.stop().await?;
            ensure!(
                network.running(1).await? == containers,
                "an agent that stops leaves its containers alone"
            );
            get(deployed.url()?).await?;
            user.json(&["lease", "close", &deployed.order.to_string()]).await?;
            network.in_state(deployed.order, OrderState::ClosedByUser).await?;
            ensure!(
                network.happened("destroy").await? == 0,
                "a container went although nobody was there to remove it"
            );
            network.devnet.launch(&provider)?;
            network.devnet.wait_ready(&provider).await?;
            network.running(0).await?;
            network.devnet.restart(&provider).await?;
            let head = network.block().await?;
            network.block_hash(head + 3).await?;
            let (made, removed) = (network.happened("create").await?, network.happened("destroy").await?);
            ensure!(
                (made, removed) == (1, 1),
                "{made} containers were made and {removed} removed for one service"
            );
            network.running(0).await.map(drop)
        },
    )
    .await
}
