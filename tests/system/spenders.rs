//! Who may spend of an account: with which certificate, how far, and until when.

use std::os::unix::fs::PermissionsExt as _;

use alloy::primitives::Address;
use alloy::providers::Provider as _;
use devnet::demo::Spheron;
use eyre::{OptionExt as _, ensure};
use serde_json::Value;
use system_tests::{Network, Sharing, eventually, example, on_devnet};

use crate::accounts::{UNITS, address, balanced, entries, expect_in, first_account, refused};

/// Both what a provider holds of a lease and what the lease writes can be read.
async fn reads(user: &Spheron, lease: &str) -> eyre::Result<()> {
    for arguments in [["lease", "manifest", lease], ["lease", "logs", lease]] {
        let read = user.command(&arguments).output().await?;
        ensure!(
            read.status.success(),
            "`spheron {}`: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&read.stderr)
        );
    }
    Ok(())
}

/// The provider refuses both, once what it has read from the chain is too old.
async fn reads_no_more(user: &Spheron, lease: &str, reason: &str) -> eyre::Result<()> {
    eventually("the provider to refuse", async || {
        let read = user.command(&["lease", "manifest", lease]).output().await?;
        Ok((!read.status.success()).then_some(()))
    })
    .await?;
    for arguments in [["lease", "manifest", lease], ["lease", "logs", lease]] {
        expect_in(&refused(user, &arguments).await?, reason)?;
    }
    Ok(())
}

/// The owner of an account gives a spender a right to so many uSPON.
async fn granted(owner: &Spheron, account: &str, spender: &str, limit: &str, more: &[&str]) -> eyre::Result<Value> {
    let right = [
        "account",
        "operator",
        "add",
        spender,
        "--account",
        account,
        "--limit",
        limit,
    ];
    owner.json(&[&right[..], more].concat()).await
}

/// A user whom the devnet's plan does not have: a key with some ether, and no tokens.
async fn newcomer(network: &Network, name: &str) -> eyre::Result<Spheron> {
    let anvil = &network.devnet.anvil;
    anvil.set_balance(devnet::plan::address(name), 1).await?;
    let key = network.devnet.options.directory.join(format!("{name}.key"));
    std::fs::write(&key, devnet::plan::key(name).to_bytes().to_string())?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    let user = Spheron::user(&network.devnet, name);
    user.json(&["init", "--key", &key.display().to_string()]).await?;
    Ok(user)
}

/// A second home with the same key puts the first one out only if that is what its user says; what cannot be deposited is told
/// before anything is sent.
async fn init_replaces_no_certificate_by_itself(network: &Network, first: &Spheron) -> eyre::Result<()> {
    let address: Address = address(first).await?.parse()?;
    let provider = &network.devnet.anvil.provider;
    let sent = async || eyre::Ok(provider.get_transaction_count(address).await?);
    let initialised = async |user: &Spheron, arguments: &[&str]| {
        let shown = user.json(&[&["init"], arguments].concat()).await?;
        let own = shown["certificate"].as_str();
        eyre::Ok(own.ok_or_eyre("a home has a certificate")?.to_owned())
    };
    let published = initialised(first, &[]).await?;
    let (before, key) = (sent().await?, first.home.join("key").display().to_string());

    let second = Spheron {
        home: first.home.with_file_name("second-home"),
        ..first.clone()
    };
    let said = refused(&second, &["init", "--key", &key]).await?;
    expect_in(&said, &published)?;
    expect_in(&said, "--replace-certificate")?;
    // Nor is anything sent where the deposit cannot be.
    let poor = ["init", "--replace-certificate", "--deposit", "5000"];
    expect_in(&refused(&second, &poor).await?, "are needed")?;
    let capped = ["init", "--replace-certificate", "--deposit", "99999999999"];
    expect_in(&refused(&second, &capped).await?, "deposit at most")?;
    ensure!(sent().await? == before, "something was sent");

    let replaced = initialised(&second, &["--replace-certificate"]).await?;
    ensure!(replaced != published, "{replaced} is not the second home's");
    ensure!(sent().await? > before, "nothing was published");
    expect_in(&refused(first, &["init"]).await?, &replaced)
}

/// A spender deploys from somebody else's account, with its own certificate, within its limit and not beyond; the owner ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_spender_deploys_and_extends_within_its_limit() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let (owner, spender) = (network.user("user-1").await?, network.user("user-2").await?);
            let (account, spends) = (first_account(&owner).await?, address(&spender).await?);
            let hello = example("hello.icl.yaml").display().to_string();
            let deploy = ["deploy", hello.as_str(), "--account", account.as_str()];
            expect_in(&refused(&spender, &deploy).await?, "nor has a spending right")?;

            let grant = async |limit: &str| granted(&owner, &account, &spends, limit, &["--expires", "1h"]).await;
            grant("0.001").await?;
            expect_in(&refused(&spender, &deploy).await?, "are needed")?;
            grant("50").await?;
            let price = spender.json(&[&deploy[..], &["--dry-run"]].concat()).await?;
            let lock: u64 = price["cost"]["lock_units"].as_str().ok_or_eyre("a price")?.parse()?;
            let deployed = spender.json(&deploy).await?;
            let lease = deployed["lease"].as_str().ok_or_eyre("a lease")?.to_owned();
            reads(&spender, &lease).await?;
            reads(&owner, &lease).await?;
            let rights = owner
                .json(&["account", "operator", "list", "--account", &account])
                .await?;
            let left: u64 = rights["spending_rights"][0]["left_units"]
                .as_str()
                .unwrap_or("0")
                .parse()?;
            ensure!(
                left == 50 * UNITS - lock,
                "{lock} were locked, {left} are left: {rights}"
            );

            let extended = spender.json(&["lease", "extend", &lease, "--for", "1h"]).await?;
            let cost: u64 = extended["cost_units"].as_str().ok_or_eyre("a cost")?.parse()?;
            let rights = owner
                .json(&["account", "operator", "list", "--account", &account])
                .await?;
            let after: u64 = rights["spending_rights"][0]["left_units"]
                .as_str()
                .unwrap_or("0")
                .parse()?;
            ensure!(after == left - cost, "{cost} were locked of {left}: {rights}");

            // It may spend, not close; what it never may is withdraw.
            expect_in(&refused(&spender, &["lease", "close", &lease]).await?, "may close")?;
            expect_in(
                &refused(&spender, &["account", "withdraw", "1", "--account", &account]).await?,
                "belongs to",
            )?;
            owner
                .json(&["account", "operator", "remove", &spends, "--account", &account])
                .await?;
            expect_in(
                &refused(&spender, &["lease", "extend", &lease, "--for", "1h"]).await?,
                "nor has a spending right",
            )?;
            reads_no_more(&spender, &lease, "has no right to spend").await?;
            expect_in(
                &refused(&spender, &["deploy", "--resume", &lease]).await?,
                "providers talk to its owner and to who may spend of it",
            )?;
            owner.json(&["lease", "close", &lease]).await?;
            // What accrued under the payout hold may still be locked: that is accounted for, too.
            let history = balanced(&owner, &account).await?;
            ensure!(entries(&history, "spent") == 2, "{history}");
            ensure!(entries(&history, "extension") == 1, "{history}");
            network.running(0).await.map(drop)
        },
    )
    .await
}

/// What the owner grants ends with the hand-over, and so does what a provider shows because of it; and the seller is a stranger.
#[tokio::test(flavor = "multi_thread")]
async fn a_spenders_access_ends_with_the_hand_over() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let (owner, spender) = (network.user("user-1").await?, network.user("user-2").await?);
            let (account, spends) = (first_account(&owner).await?, address(&spender).await?);
            let deployed = network.deployed(&owner, &example("hello.icl.yaml")).await?;
            let lease = deployed.order.to_string();
            reads_no_more(&spender, &lease, "has no right to spend").await?;
            granted(&owner, &account, &spends, "1", &[]).await?;
            // What the provider said about the spender before is soon forgotten.
            eventually("the provider to know of the right", async || {
                let read = spender.command(&["lease", "manifest", &lease]).output().await?;
                Ok(read.status.success().then_some(()))
            })
            .await?;
            reads(&spender, &lease).await?;

            let buyer = newcomer(network, "buyer").await?;
            let to = address(&buyer).await?;
            owner
                .json(&["account", "transfer", &to, "--account", &account, "--yes"])
                .await?;
            reads_no_more(&spender, &lease, "has no right to spend").await?;
            reads_no_more(&owner, &lease, "has no right to spend").await?;
            // It neither waits for a provider that knows it no more, nor tries to close what is not its own.
            expect_in(
                &refused(&owner, &["deploy", "--resume", &lease]).await?,
                "providers talk to its owner and to who may spend of it",
            )?;
            reads(&buyer, &lease).await?;
            buyer.json(&["lease", "close", &lease]).await?;
            init_replaces_no_certificate_by_itself(network, &buyer).await?;
            network.running(0).await.map(drop)
        },
    )
    .await
}

/// What a spender proposed under a right that its owner has set anew since binds nobody, and the spender is told so.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_falls_with_the_right_that_it_was_proposed_under() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let (owner, spender) = (network.user("user-1").await?, network.user("user-2").await?);
            let (account, spends) = (first_account(&owner).await?, address(&spender).await?);
            let grant = async |limit: &str| granted(&owner, &account, &spends, limit, &["--may-close"]).await;
            let deployed = network.deployed(&owner, &example("hello.icl.yaml")).await?;
            let lease = deployed.order.to_string();
            grant("50").await?;
            // The proposal stands as long as nobody is there to answer it.
            let provider = network.provider_of(deployed.order).await?;
            network.devnet.agent(&provider)?.stop().await?;
            let longer = std::fs::read_to_string(example("hello.icl.yaml"))?.replace("duration: 1h", "duration: 2h");
            let file = network.devnet.options.directory.join("longer.icl.yaml");
            std::fs::write(&file, longer)?;
            let file = file.display().to_string();
            refused(&spender, &["lease", "update", &lease, &file, "--timeout", "1s"]).await?;
            let shown = owner.json(&["lease", "show", &lease]).await?;
            ensure!(
                !shown["update_proposed_until"].is_null(),
                "nothing was proposed: {shown}"
            );

            let anew = grant("0").await?;
            ensure!(anew["replaced"]["may_close"] == true, "{anew}");
            let said = refused(&spender, &["lease", "update", &lease, "--resume"]).await?;
            expect_in(&said, "was set anew")?;
            let shown = owner.json(&["lease", "show", &lease]).await?;
            ensure!(shown["update_proposed_until"].is_null(), "it stands: {shown}");

            network.devnet.launch(&provider)?;
            network.devnet.wait_ready(&provider).await?;
            // A right to closing alone.
            spender.json(&["lease", "close", &lease]).await?;
            network.running(0).await?;
            balanced(&owner, &account).await.map(drop)
        },
    )
    .await
}
