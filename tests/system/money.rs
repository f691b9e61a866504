//! Leases that run low on money, and leases that are updated, as far as their provider has to do with it.

use std::path::PathBuf;

use alloy::eips::BlockNumberOrTag;
use alloy::providers::Provider as _;
use bindings::{ILeases, OrderState};
use bollard::query_parameters::ListVolumesOptionsBuilder;
use devnet::demo::Spheron;
use eyre::{OptionExt as _, ensure};
use serde_json::json;
use system_tests::{Container, Deployed, Network, Sharing, engine, eventually, get, on_devnet};

use crate::accounts::{balanced, expect_in, first_account, refused};

/// Seconds of the leases here: low on funds from 120 before the end, 60 of grace after it, as the devnet's parameters have it. In a
/// shorter lease both are parts of it, and a busy machine would not be done with its steps in the grace.
const DURATION: u64 = 1200;
/// Blocks in which an agent would have stopped what is not to be stopped.
const BLOCKS: u64 = 5;

/// Providers that decide soon whether a new manifest may stay.
fn impatient(options: &mut devnet::Options) {
    for provider in ["provider-1", "provider-2"] {
        // What does not run is given up after half a minute, in which what runs has long been started on a busy machine, too.
        let updates = "\n[updates]\nsteady_for = \"3s\"\ngive_up_after = \"30s\"\n";
        options.extra_config.insert(provider.into(), updates.into());
    }
}

/// A service that writes a word below those that its volume has, and serves them. Without a word it ends at once.
fn file(network: &Network, image: &str, word: &str, cpu: &str) -> eyre::Result<PathBuf> {
    let script =
        "[ -n \"$WORD\" ] || exit 7; echo $WORD >> /data/index.html; exec /bin/busybox httpd -f -p 8080 -h /data";
    let text = format!(
        "version: \"1.0\"\n\
         services:\n  app:\n    image: {image}\n    pull_policy: IfNotPresent\n    command: [/bin/busybox, sh, -c]\n    \
         args: ['{script}']\n    env: [WORD={word}]\n    params: {{storage: {{data: {{mount: /data}}}}}}\n    \
         expose:\n      - port: 8080\n        as: 80\n        to: [{{global: true}}]\n\
         profiles:\n  name: app\n  mode: provider\n  duration: {DURATION}s\n  compute:\n    app:\n      resources:\n        \
         cpu: {{units: {cpu}}}\n        memory: {{size: 32Mi}}\n        storage:\n          - size: 64Mi\n          \
         - {{name: data, size: 64Mi, attributes: {{persistent: true, class: beta2}}}}\n  \
         placement: {{anywhere: {{pricing: {{app: {{token: uSPON, amount: 5}}}}}}}}\n\
         deployment: {{app: {{anywhere: {{profile: app, count: 1}}}}}}\n"
    );
    let name = format!("{}-{word}-{cpu}.icl.yaml", image.replace([':', '/'], "-"));
    let path = network.devnet.options.directory.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

async fn deployed(network: &Network, user: &Spheron) -> eyre::Result<Deployed> {
    let file = file(network, "spheron/hello:1", "first", "0.1")?;
    let deployed = network.deployed(user, &file).await?;
    expect_page(&deployed, "first").await?;
    Ok(deployed)
}

/// What a lease serves, at the URL it has had from the beginning.
async fn expect_page(deployed: &Deployed, words: &str) -> eyre::Result<()> {
    let url = deployed.url()?;
    eventually(&format!("{url} to serve {words:?}"), async || {
        let page = get(url).await?;
        Ok((page.split_whitespace().collect::<Vec<_>>().join(" ") == words).then_some(()))
    })
    .await
}

fn leases(network: &Network) -> ILeases::ILeasesInstance<&alloy::providers::DynProvider> {
    ILeases::new(
        network.devnet.network.contracts.order_book,
        &network.devnet.anvil.provider,
    )
}

/// Unix seconds of a lease's end and of the end of its grace.
async fn ends(network: &Network, lease: u64) -> eyre::Result<(u64, u64)> {
    let ends = leases(network).endOf(lease).call().await?;
    Ok((ends.end.to(), ends.graceEnd.to()))
}

async fn time(network: &Network) -> eyre::Result<u64> {
    let newest = BlockNumberOrTag::Latest;
    let block = network.devnet.anvil.provider.get_block_by_number(newest).await?;
    Ok(block.ok_or_eyre("a chain has a newest block")?.header.timestamp)
}

/// The chain's time jumps to this second, or some after it.
async fn jump(network: &Network, to: u64) -> eyre::Result<()> {
    let now = time(network).await?;
    ensure!(to > now, "the test is slower than the lease: {to} is over at {now}");
    network.devnet.anvil.call("evm_increaseTime", json!([to - now])).await?;
    network.mine(1).await
}

/// For some blocks the same containers run and nothing is closed.
async fn expect_untouched(network: &Network, lease: u64, containers: &[Container]) -> eyre::Result<()> {
    let head = network.block().await?;
    for block in 1..=BLOCKS {
        network.block_hash(head + block).await?;
        let now = network.containers().await?;
        ensure!(now == containers, "the containers were {containers:?} and are {now:?}");
        let state = network.book().order(lease).call().await?.state;
        ensure!(state == OrderState::Leased, "lease {lease} is {state:?}");
    }
    Ok(())
}

/// Waits until this many announcements were made for a lease, and sees that no more come.
async fn expect_announced(network: &Network, lease: u64, count: usize) -> eyre::Result<()> {
    let announced = async || {
        let events = network.events::<ILeases::LeaseLowOnFunds>(Some(lease)).await?;
        Ok::<_, eyre::Report>(events.len())
    };
    eventually(&format!("announcement {count} of low funds"), async || {
        Ok((announced().await? >= count).then_some(()))
    })
    .await?;
    let head = network.block().await?;
    network.block_hash(head + BLOCKS).await?;
    let found = announced().await?;
    ensure!(
        found == count,
        "low funds were announced {found} times instead of {count}"
    );
    Ok(())
}

/// Announced once and once more after an extension; runs on through end and grace, longer when extended in the grace, and is
/// stopped and closed when that is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_workload_outlives_its_end_by_its_grace_and_no_longer() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, impatient, async |network| {
        let user = network.user("user-1").await?;
        let deployed = deployed(network, &user).await?;
        let lease = deployed.order;
        let containers = network.running(1).await?;
        let id = lease.to_string();
        let added = format!("{DURATION}s");

        let (end, _) = ends(network, lease).await?;
        jump(network, end - 60).await?;
        expect_announced(network, lease, 1).await?;
        user.json(&["lease", "extend", &id, "--for", &added]).await?;
        let (extended, _) = ends(network, lease).await?;
        ensure!(
            extended == end + DURATION,
            "the lease ends at {extended} instead of {}",
            end + DURATION
        );

        jump(network, extended + 1).await?;
        expect_announced(network, lease, 2).await?;
        expect_untouched(network, lease, &containers).await?;
        user.json(&["lease", "extend", &id, "--for", &added]).await?;
        // Where it would have been stopped without the extension.
        jump(network, extended + 90).await?;
        expect_untouched(network, lease, &containers).await?;
        expect_page(&deployed, "first").await?;

        let (_, stops_at) = ends(network, lease).await?;
        jump(network, stops_at - 8 * BLOCKS).await?;
        expect_untouched(network, lease, &containers).await?;
        jump(network, stops_at - 1).await?;
        network.in_state(lease, OrderState::ClosedAtEnd).await?;
        let now = time(network).await?;
        ensure!(now >= stops_at, "the lease was closed at {now}, before {stops_at}");
        network.running(0).await?;
        network.devnet.check_processes()
    })
    .await
}

/// Volumes of this devnet's leases: when each was made.
async fn volumes(network: &Network) -> eyre::Result<Vec<(String, Option<String>)>> {
    let label = format!("spheron.devnet={}", network.devnet.id);
    let filters = std::collections::HashMap::from([("label", vec![label.as_str()])]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let found = engine()
        .await?
        .list_volumes(Some(options))
        .await?
        .volumes
        .unwrap_or_default();
    let mut volumes: Vec<_> = found
        .into_iter()
        .map(|volume| (volume.name, volume.created_at.map(|made| made.to_string())))
        .collect();
    volumes.sort();
    Ok(volumes)
}

/// Another image, another environment, more CPU: the workload keeps its volume and its URL. Then one that does not run: what
/// ran before runs again, and its user is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_updated_workload_keeps_volume_and_url_and_a_bad_update_is_taken_back() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, impatient, async |network| {
        let user = network.user("user-1").await?;
        let deployed = deployed(network, &user).await?;
        let before = volumes(network).await?;
        ensure!(before.len() == 1, "one volume was made, not {before:?}");

        let second = file(network, "spheron/relay:1", "second", "0.2")?.display().to_string();
        let updated = user
            .json(&["lease", "update", &deployed.order.to_string(), &second])
            .await?;
        let lease: u64 = updated["lease"]
            .as_str()
            .ok_or_eyre("`lease update` names the new lease")?
            .parse()?;
        network.in_state(deployed.order, OrderState::ClosedUpdated).await?;
        network.in_state(lease, OrderState::Leased).await?;
        let workload = leases(network).workloadOf(lease).call().await?;
        ensure!(workload == deployed.order, "lease {lease} runs workload {workload}");
        expect_page(&deployed, "first second").await?;
        ensure!(volumes(network).await? == before, "the volume is another one");

        let bad = file(network, "spheron/hello:1", "", "0.2")?.display().to_string();
        let output = user
            .command(&["lease", "update", &lease.to_string(), &bad])
            .output()
            .await?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            !output.status.success() && complaint.contains("exit status 7"),
            "`lease update` ended with {} and said {complaint}",
            output.status
        );
        network.in_state(lease, OrderState::ClosedUpdated).await?;
        // The manifest that ran last was started once more.
        expect_page(&deployed, "first second second").await?;
        network.running(1).await?;
        ensure!(volumes(network).await? == before, "the volume is another one");
        network.devnet.check_processes()
    })
    .await
}

/// More than the provider has: refused with the reason, and nothing has changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_update_leaves_everything_as_it_was() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, impatient, async |network| {
        let user = network.user("user-1").await?;
        let deployed = deployed(network, &user).await?;
        let containers = network.running(1).await?;
        let large = file(network, "spheron/hello:1", "large", "100")?.display().to_string();
        let output = user
            .command(&["lease", "update", &deployed.order.to_string(), &large])
            .output()
            .await?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            !output.status.success() && complaint.contains("too little CPU is free"),
            "`lease update` ended with {} and said {complaint}",
            output.status
        );
        let rejected = network.events::<ILeases::UpdateRejected>(Some(deployed.order)).await?;
        ensure!(
            rejected.len() == 1,
            "the update was refused {} times on chain",
            rejected.len()
        );
        expect_untouched(network, deployed.order, &containers).await?;
        expect_page(&deployed, "first").await
    })
    .await
}

/// Killed as soon as the update is taken: after its restart the agent goes on with the switch, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_in_an_update_finishes_it() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, impatient, async |network| {
        let user = network.user("user-1").await?;
        let deployed = deployed(network, &user).await?;
        let provider = network.provider_of(deployed.order).await?;
        let second = file(network, "spheron/relay:1", "second", "0.1")?.display().to_string();
        let mut command = user.command(&["lease", "update", &deployed.order.to_string(), &second]);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let update = command.spawn()?;
        network.in_state(deployed.order, OrderState::ClosedUpdated).await?;
        network.crash(&provider).await?;
        system_tests::expect_success("`spheron lease update`", update).await?;
        expect_page(&deployed, "first second").await?;
        network.running(1).await.map(drop)
    })
    .await
}

/// By hand and beside the agent, whose key it is: what has run is billed, the workload is stopped, its user is told why, and the agent
/// goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_closes_a_lease_for_abnormal_service() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, impatient, async |network| {
        let user = network.user("user-1").await?;
        let deployed = deployed(network, &user).await?;
        let (lease, id) = (deployed.order, deployed.order.to_string());
        let containers = network.running(1).await?;
        let serves = network.provider_of(lease).await?;
        let other = if serves == "provider-1" {
            "provider-2"
        } else {
            "provider-1"
        };
        let provider = Spheron::user(&network.devnet, &serves);
        let key = |name: &str| {
            let key = network.devnet.options.directory.join(name).join("ecdsa.key");
            key.display().to_string()
        };
        let (own, others) = (key(&serves), key(other));
        let close = ["provider", "close", &id, "--reason", "abnormal-service", "--key"];

        let said = refused(&provider, &[&close[..], &[&others]].concat()).await?;
        expect_in(&said, &format!("({serves})"))?;
        let dry = provider.json(&[&close[..], &[&own, "--dry-run"]].concat()).await?;
        ensure!(dry["sent"] == false, "{dry}");
        expect_untouched(network, lease, &containers).await?;

        let closed = provider.json(&[&close[..], &[&own]].concat()).await?;
        let reason = "the provider says that its services do not run, or restart abnormally";
        ensure!(closed["sent"] == true && closed["reason"] == reason, "{closed}");
        let word = network.in_state(lease, OrderState::ClosedAbnormalService).await?;
        let (billed, before) = (closed["billed_seconds"].as_u64(), dry["billed_seconds"].as_u64());
        ensure!(
            billed == Some(word.duration.into()) && billed >= before,
            "{} s are billed on chain: {closed}",
            word.duration
        );
        network.running(0).await?;
        let shown = user.json(&["lease", "show", &id]).await?;
        ensure!(shown["reason"] == reason, "{shown}");
        let history = balanced(&user, &first_account(&user).await?).await?;
        let mut told = history["entries"].as_array().into_iter().flatten();
        ensure!(told.any(|entry| entry["reason"] == reason), "{history}");
        expect_in(&refused(&provider, &[&close[..], &[&own]].concat()).await?, reason)?;

        // The provider's transactions go on after the one that its agent knows nothing of. It is the only one that bids.
        network.devnet.agent(other)?.stop().await?;
        let again = file(network, "spheron/hello:1", "again", "0.1")?;
        let again = network.deployed(&user, &again).await?;
        expect_page(&again, "again").await?;
        network.devnet.check_processes()
    })
    .await
}
