//! Networks of another make: one quorum in place of two, and one matchmaker in place of quorums.

use alloy::signers::SignerSync as _;
use bindings::{IBlsQuorumVerifier, IMatchingTaskManager, ISingleMatchmaker, OrderState};
use devnet::{bootstrap, plan};
use eyre::ensure;
use system_tests::{Answer, Closed, Market, Network, Sharing, example, get, on_devnet};

#[tokio::test(flavor = "multi_thread")]
async fn a_network_with_one_quorum_serves_an_order() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |options| options.plan.quorums = Some(1),
        async |network| {
            ensure!(
                network.devnet.network.eigenlayer.quorums.len() == 1,
                "the network has {} quorums",
                network.devnet.network.eigenlayer.quorums.len()
            );
            // What one quorum's threshold takes: three of four.
            network.devnet.agent("operator-4")?.stop().await?;
            let user = network.user("user-1").await?;
            let deployed = network.deployed(&user, &example("hello.icl.yaml")).await?;
            get(deployed.url()?).await?;
            network.in_state(deployed.order, OrderState::Leased).await.map(drop)
        },
    )
    .await
}

/// Operator that governance names; the others go on watching.
const MATCHMAKER: &str = "operator-1";
/// Blocks before the change from which the chain runs at its own pace: room for a refresh and an order.
const LAST_BLOCKS: u64 = 30;

/// Governance names one matchmaker. Orders of close blocks before the change are the quorums', all others the matchmaker's,
/// none is lost; a wrong answer costs the bond.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_matchmaker_takes_over_from_the_quorums() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |options| options.with_providers = false,
        async |network| {
            let market = network.market().await?;
            let (contract, from) = name_matchmaker(network).await?;
            network.mine(from - LAST_BLOCKS - network.block().await?).await?;
            // So many blocks at once made the stakes old.
            let slow_blocks = network.slow_blocks().await?;
            young_stakes(network, from - LAST_BLOCKS).await?;
            drop(slow_blocks);
            // Both are open at the same time, while a block comes with every transaction; the change comes between their close blocks.
            let before = network.ordered_at_once(&market, 1, 7).await?;
            let after = network
                .ordered_at_once(&market, 2, u16::try_from(from - network.block().await?)?)
                .await?;
            network.resume_blocks().await?;
            ensure!(
                before.close < from && from <= after.close,
                "close blocks {} and {} on both sides of {from}",
                before.close,
                after.close
            );
            let aggregators = ["aggregator-1", "aggregator-2"].map(plan::address);
            expect_answer(network, &market, before, &aggregators).await?;
            expect_answer(network, &market, after, &[plan::address(MATCHMAKER)]).await?;

            network.devnet.agent(MATCHMAKER)?.stop().await?;
            expect_bond_slashed(network, &market, contract).await
        },
    )
    .await
}

/// Waits until every quorum was refreshed after a block.
async fn young_stakes(network: &Network, after: u64) -> eyre::Result<()> {
    let contract = network.devnet.network.contracts.quorum_verifier;
    let verifier = IBlsQuorumVerifier::new(contract, &network.devnet.anvil.provider);
    system_tests::eventually("an aggregator to refresh the stakes", async || {
        let head = u32::try_from(network.block().await?)?;
        for quorum in &network.devnet.network.eigenlayer.quorums {
            if u64::from(verifier.refreshedAt(quorum.number, head).call().await?) <= after {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}

/// The matchmaker's contract with its bond, and the block from which it decides.
async fn name_matchmaker(network: &Network) -> eyre::Result<(alloy::primitives::Address, u64)> {
    let devnet = &network.devnet;
    devnet.anvil.mine_at_once().await?;
    let contract = bootstrap::deploy_matchmaker(&devnet.anvil, &devnet.network, &devnet.options, MATCHMAKER).await?;
    let windows = network.book().parameters().call().await?;
    let round = windows.maximumBidWindow + windows.responseWindow + windows.matchWindow;
    // Two rounds, and room for blocks of transactions that others send meanwhile.
    let from = network.block().await? + 2 * u64::from(round) + 12;
    let change = IMatchingTaskManager::setQuorumVerifierCall {
        verifier: contract,
        fromBlock: from.try_into()?,
    };
    network.govern(devnet.network.contracts.task_manager, &change).await?;
    Ok((contract, from))
}

/// An order is leased to the supplier that the rule ranks first, by an answer of one of these.
async fn expect_answer(
    network: &Network,
    market: &Market,
    closed: Closed,
    responders: &[alloy::primitives::Address],
) -> eyre::Result<()> {
    let leased = network.in_state(closed.order, OrderState::Leased).await?;
    ensure!(
        leased.supplier == market.suppliers[0],
        "order {} went to supplier {}",
        closed.order,
        leased.supplier
    );
    let answers = network
        .awaited_events_of::<IMatchingTaskManager::TaskResponded>(
            network.devnet.network.contracts.task_manager,
            Some(closed.close),
        )
        .await?;
    ensure!(
        matches!(&answers[..], [(_, answer)] if responders.contains(&answer.responder)),
        "close block {} was answered with {answers:?}, by one of {responders:?} was expected",
        closed.close
    );
    Ok(())
}

/// Somebody with the matchmaker's key answers wrongly: the other operators' watchers prove it.
async fn expect_bond_slashed(
    network: &Network,
    market: &Market,
    contract: alloy::primitives::Address,
) -> eyre::Result<()> {
    let bond = ISingleMatchmaker::new(contract, &network.devnet.anvil.provider);
    let (counting, slash) = (bond.bond().call().await?.counting, bond.slashAmount().call().await?);
    let closed = network.ordered(market, 3, 0).await?;
    let wrong = network.ranking(market, closed, &[1]).await?;
    // It can be challenged for four blocks.
    let _slow_blocks = network.slow_blocks().await?;
    network.respond_with(&wrong, matchmaker_proof(network, &wrong)?).await?;
    network.in_state(closed.order, OrderState::ClosedUndone).await?;
    system_tests::eventually("the bond to be slashed", async || {
        let now = bond.bond().call().await?.counting;
        Ok((now == counting - slash).then_some(()))
    })
    .await
}

/// The key's signature of the digest, as the contract takes it: r, s, v.
fn matchmaker_proof(network: &Network, answer: &Answer) -> eyre::Result<Vec<u8>> {
    let signature = plan::key(MATCHMAKER).sign_hash_sync(&network.digest(answer)?)?;
    Ok(signature.as_bytes().to_vec())
}
