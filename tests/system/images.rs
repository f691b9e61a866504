//! Images that are not on the provider's machine.

use eyre::ensure;
use system_tests::{Registry, Sharing, deployment, get, on_devnet};

/// The login travels with the manifest to the provider, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_from_a_registry_with_a_password() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let mut registry = Registry::start().await?;
            ensure!(!registry.is_open().await?, "the registry lets strangers in");
            let page = format!("only behind the password at {}", registry.host);
            let image = registry.push_page(&page).await?;

            let user = network.user("user-1").await?;
            let file = network.devnet.options.directory.join("private.icl.yaml");
            let service = format!(
                "image: {image}\npull_policy: Always\ncredentials:\n  registry: {}\n  username: {}\n  password: {}",
                registry.host,
                Registry::USER,
                Registry::PASSWORD
            );
            std::fs::write(&file, deployment(&service))?;
            let deployed = network.deployed(&user, &file).await?;
            let served = get(deployed.url()?).await?;
            ensure!(served.trim() == page, "the lease serves {served:?}");

            for agent in network.devnet.agents.keys() {
                ensure!(
                    !network.log(agent)?.contains(Registry::PASSWORD),
                    "the password is in the log of {agent}"
                );
            }
            user.json(&["lease", "close", &deployed.order.to_string()]).await?;
            network.running(0).await?;
            registry.stop().await
        },
    )
    .await
}
