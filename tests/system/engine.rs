//! A container engine that restarts.

use eyre::ensure;
use system_tests::{Sharing, eventually, example, get, on_devnet, restart_engine};

/// Same container, same URL, and a lease that can still be closed.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_restart_keeps_container_and_url() -> eyre::Result<()> {
    on_devnet(
        Sharing::Alone,
        |_| {},
        async |network| {
            let user = network.user("user-1").await?;
            let deployed = network.deployed(&user, &example("hello.icl.yaml")).await?;
            let containers = network.running(1).await?;
            restart_engine().await?;
            ensure!(
                network.running(1).await? == containers,
                "the engine's restart made another container"
            );
            let page = get(deployed.url()?).await?;
            ensure!(page.contains("Hello from a lease"), "the URL answers with {page:?}");
            let id = deployed.order.to_string();
            eventually("the same URL in `spheron lease show`", async || {
                let shown = user.json(&["lease", "show", &id]).await?;
                Ok((shown["services"][0]["urls"][0] == deployed.url()?).then_some(()))
            })
            .await?;
            user.json(&["lease", "close", &id]).await?;
            network.running(0).await.map(drop)
        },
    )
    .await
}
