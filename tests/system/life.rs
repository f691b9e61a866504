//! Orders that go as they should.

use bindings::OrderState;
use devnet::demo;
use eyre::ensure;
use system_tests::{Sharing, example, get, on_devnet};

/// What the demo reports, in this order.
const STAGES: [&str; 11] = [
    "order",
    "bid",
    "close",
    "signed",
    "responded",
    "leased",
    "manifest",
    "running",
    "http",
    "closed",
    "paid",
];

/// The demo, with the checks it makes on chain and over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_lives_from_creation_to_payment() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let outcome = demo::run(&network.devnet, &example("hello.icl.yaml"), "user-1").await;
            let names: Vec<&str> = outcome.stages.iter().map(|stage| stage.name).collect();
            ensure!(
                outcome.passed,
                "the demo failed after {names:?}: {}",
                outcome.error.as_deref().unwrap_or_default()
            );
            ensure!(names == STAGES, "the demo's stages are {names:?}");
            network.running(0).await.map(drop)
        },
    )
    .await
}

/// Two services of one lease find each other by name, and both go with it.
#[tokio::test(flavor = "multi_thread")]
async fn services_of_a_lease_reach_each_other_by_name() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let user = network.user("user-1").await?;
            let deployed = network.deployed(&user, &example("two-services.icl.yaml")).await?;
            network.running(2).await?;
            ensure!(
                deployed.urls.len() == 1,
                "only the website is published, not {:?}",
                deployed.urls
            );
            let page = get(deployed.url()?).await?;
            ensure!(
                page.contains("The website") && page.contains("Hello from a lease"),
                "the website does not pass on what the backend says: {page:?}"
            );
            user.json(&["lease", "close", &deployed.order.to_string()]).await?;
            network.in_state(deployed.order, OrderState::ClosedByUser).await?;
            network.running(0).await.map(drop)
        },
    )
    .await
}
