//! Wrong answers, and quorums that say nothing.

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolCall as _;
use bindings::{
    ICommissionSplit, ILeases, IMatchingDisputes, IMatchingTaskManager, IOrderBook, LeaseResources, OrderState,
};
use devnet::agents::bls_key;
use devnet::traffic::{self, Traffic};
use devnet::{bootstrap, plan};
use eigenlayer::contracts::{IDelegationManager, IStakeRegistry};
use eyre::{OptionExt as _, ensure};
use system_tests::{CUSTOMER, Closed, Market, Network, Sharing, eventually, on_devnet};

/// Three of four hold two thirds of both quorums.
const DISHONEST: [&str; 3] = ["operator-1", "operator-2", "operator-3"];
const SILENT: &str = "operator-4";
/// The devnet's slash fraction and the rest of it, in percent.
const LEFT: u64 = 90;

fn without_providers(options: &mut devnet::Options) {
    options.with_providers = false;
}

/// A dishonest quorum opens a lease with the wrong supplier. A watcher proves it, the lease is undone before anything was paid,
/// who signed is slashed and who did not is not. A right answer of the same quorum stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_of_a_quorum_is_undone_and_its_signers_slashed() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, without_providers, async |network| {
        let market = network.market().await?;
        for agent in DISHONEST.into_iter().chain(["aggregator-1", "aggregator-2", SILENT]) {
            network.devnet.agent(agent)?.stop().await?;
        }
        network.devnet.launch_as(SILENT, "watch")?;
        network.devnet.wait_ready(SILENT).await?;
        let before = Stakes::of_all(network).await?;

        earn_commission(network, &market).await?;

        network.refresh_stakes().await?;
        let closed = network.ordered(&market, 2, 0).await?;
        let room = free_capacity(network, market.suppliers[1]).await?;
        let (unlocked, _) = network.balances(market.account).await?;
        let wrong = network.ranking(&market, closed, &[1]).await?;
        // It can be challenged for four blocks, and its signers slashed for ten more.
        let slow_blocks = network.slow_blocks().await?;
        network.respond(&wrong, &DISHONEST).await?;

        network.in_state(closed.order, OrderState::ClosedUndone).await?;
        let word = network.book().order(closed.order).call().await?;
        ensure!(
            word.supplier == market.suppliers[1],
            "the wrong supplier had the lease, not {}",
            word.supplier
        );
        expect_undone(network, &market, closed, unlocked, room).await?;
        let verdict = expect_slashed(network, closed, &before).await?;
        drop(slow_blocks);

        let disputes = IMatchingDisputes::new(
            network.devnet.network.contracts.disputes,
            &network.devnet.anvil.provider,
        );
        let proven = disputes.verdictOf(verdict).call().await?;
        ensure!(
            proven.challenger == plan::address(SILENT),
            "{} challenged",
            proven.challenger
        );
        let split = ICommissionSplit::new(
            network.devnet.network.contracts.commission_split,
            &network.devnet.anvil.provider,
        );
        let token = Traffic::new(&network.devnet)?.token.id;
        let reward = split.rewardOf(proven.challenger, token).call().await?;
        ensure!(!reward.is_zero(), "the challenger was credited nothing");
        Ok(())
    })
    .await
}

/// A right answer, which the watcher leaves alone, and a lease that pays commission, from which challengers are rewarded.
async fn earn_commission(network: &Network, market: &Market) -> eyre::Result<()> {
    network.refresh_stakes().await?;
    let closed = network.ordered(market, 1, 0).await?;
    let right = network.ranking(market, closed, &[0, 1]).await?;
    network.respond(&right, &DISHONEST).await?;
    let leased = network.in_state(closed.order, OrderState::Leased).await?;
    ensure!(leased.supplier == market.suppliers[0], "the cheap supplier wins");
    let hold = network.book().parameters().call().await?.challengeWindow;
    // The hold passes at once; with it the window in which the answer could have been challenged.
    network
        .devnet
        .anvil
        .call("anvil_mine", serde_json::json!([u64::from(hold) + 1, 1]))
        .await?;
    let terms = traffic::unpacked_terms(1);
    let close = ILeases::closeLeaseCall {
        orderId: closed.order,
        reason: OrderState::ClosedByUser,
        resources: LeaseResources {
            resources: terms.resources,
            restHash: terms.rest_hash(),
        },
    };
    let traffic = Traffic::new(&network.devnet)?;
    let contracts = &network.devnet.network.contracts;
    traffic
        .send(plan::address(CUSTOMER), contracts.order_book, &close)
        .await?;
    network.in_state(closed.order, OrderState::ClosedByUser).await?;
    let collect = ICommissionSplit::collectCall {
        token: traffic.token.id,
    };
    bootstrap::as_deployer(&network.devnet.anvil, contracts.commission_split, collect.abi_encode()).await
}

/// Nothing was billed: all that was locked is unlocked, and the supplier has its room again. The match fee stays with whoever
/// responded.
async fn expect_undone(
    network: &Network,
    market: &Market,
    closed: Closed,
    unlocked_before: U256,
    room_before: u32,
) -> eyre::Result<()> {
    let word = network.book().order(closed.order).call().await?;
    let schedule = network.escrow().feeSchedule(word.feeSchedule).call().await?;
    let lock = network
        .escrow()
        .lockFor(
            alloy::primitives::Uint::from(traffic::MAXIMUM_RATE),
            traffic::DURATION,
            word.feeSchedule,
        )
        .call()
        .await?;
    let (unlocked, locked) = network.balances(market.account).await?;
    let expected = unlocked_before + lock - U256::from(schedule.matchFee);
    ensure!(
        locked.is_zero() && unlocked == expected,
        "{unlocked} units are unlocked and {locked} locked, {expected} and none were expected"
    );
    let room = free_capacity(network, market.suppliers[1]).await?;
    ensure!(
        room == room_before,
        "{room} of {room_before} units of CPU are free again"
    );
    let settled = network.events::<IOrderBook::LeaseSettled>(Some(closed.order)).await?;
    ensure!(settled.is_empty(), "an undone lease was paid: {settled:?}");
    Ok(())
}

async fn expect_slashed(network: &Network, closed: Closed, before: &[(&'static str, Stakes)]) -> eyre::Result<B256> {
    let disputes = IMatchingDisputes::new(
        network.devnet.network.contracts.disputes,
        &network.devnet.anvil.provider,
    );
    let proofs = network
        .awaited_events_of::<IMatchingDisputes::AnswerProvenWrong>(network.devnet.network.contracts.disputes, None)
        .await?;
    let [(_, proof)] = &proofs[..] else {
        eyre::bail!("one answer is wrong, {} were proven to be", proofs.len());
    };
    ensure!(
        proof.orderId == closed.order && proof.undone,
        "{proof:?} is about another order"
    );
    for name in DISHONEST {
        let operator = plan::address(name);
        eventually(&format!("{name} to be slashed"), async || {
            Ok(disputes.isSlashed(proof.verdict, operator).call().await?.then_some(()))
        })
        .await?;
    }
    ensure!(
        !disputes.isSlashed(proof.verdict, plan::address(SILENT)).call().await?,
        "who did not sign was slashed"
    );
    for (name, before) in before {
        let now = Stakes::of(network, name).await?;
        let expected = if *name == SILENT {
            before.clone()
        } else {
            before.percent(LEFT)
        };
        ensure!(now == expected, "{name} has {now:?} at stake instead of {expected:?}");
    }
    Ok(proof.verdict)
}

/// What an operator has at stake, by quorum: its shares, and the weight the registry counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stakes(Vec<(U256, U256)>);

impl Stakes {
    async fn of(network: &Network, name: &str) -> eyre::Result<Self> {
        let (eigenlayer, provider) = (&network.devnet.network.eigenlayer, &network.devnet.anvil.provider);
        let delegations = IDelegationManager::new(eigenlayer.delegation_manager, provider);
        let registry = IStakeRegistry::new(eigenlayer.stake_registry, provider);
        let operator: Address = plan::address(name);
        let id = bls_key(name)?.public_key().operator_id();
        let mut stakes = Vec::new();
        for quorum in &eigenlayer.quorums {
            let shares = delegations
                .getOperatorShares(operator, vec![quorum.strategy])
                .call()
                .await?;
            let weight = registry.getCurrentStake(id, quorum.number).call().await?;
            let shares = shares.first().copied().ok_or_eyre("shares of one strategy")?;
            stakes.push((shares, U256::from(weight)));
        }
        Ok(Self(stakes))
    }

    async fn of_all(network: &Network) -> eyre::Result<Vec<(&'static str, Self)>> {
        let mut all = Vec::new();
        for name in DISHONEST.into_iter().chain([SILENT]) {
            all.push((name, Self::of(network, name).await?));
        }
        Ok(all)
    }

    fn percent(&self, percent: u64) -> Self {
        let part = |amount: &U256| *amount * U256::from(percent) / U256::from(100);
        Self(
            self.0
                .iter()
                .map(|(shares, weight)| (part(shares), part(weight)))
                .collect(),
        )
    }
}

/// Free units of CPU.
async fn free_capacity(network: &Network, supplier: u32) -> eyre::Result<u32> {
    let word = network.book().capacityOf(supplier).call().await?.capacity;
    Ok(avs::words::Capacity::unpack(word)?.cpu_free)
}

/// With no aggregator alive no answer comes. Operators' watchers run the rule on chain; where none does, anybody's command line
/// can.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_nobody_answers_are_matched_on_chain() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, without_providers, async |network| {
        let market = network.market().await?;
        for agent in ["aggregator-1", "aggregator-2"] {
            network.devnet.agent(agent)?.stop().await?;
        }
        let first = network.ordered(&market, 1, 0).await?;
        pass_response_window(network, first).await?;
        expect_matched_by_rule(network, &market, first).await?;

        for operator in DISHONEST.into_iter().chain([SILENT]) {
            network.devnet.agent(operator)?.stop().await?;
        }
        // Somebody with no part in the order.
        let user = network.user("user-1").await?;
        let second = network.ordered(&market, 2, 0).await?;
        network.block_hash(second.close).await?;
        let order = second.order.to_string();
        let early = user.command(&["order", "match", &order]).output().await?;
        ensure!(
            early.status.code() == Some(2),
            "`order match` in the response window ended with {}: {}",
            early.status,
            String::from_utf8_lossy(&early.stderr)
        );
        pass_response_window(network, second).await?;
        let shown = user.json(&["order", "show", &order]).await?;
        ensure!(
            shown["stage"] == "match",
            "`order show` says that the order is at {}",
            shown["stage"]
        );
        let matched = user.json(&["order", "match", &order]).await?;
        ensure!(
            matched["state"] == "leased" && matched["matched_by_rule"] == true,
            "`order match` said {matched}"
        );
        expect_matched_by_rule(network, &market, second).await
    })
    .await
}

/// Mines until the rule may be run on chain.
async fn pass_response_window(network: &Network, closed: Closed) -> eyre::Result<()> {
    network.block_hash(closed.close).await?;
    let window = u64::from(network.book().parameters().call().await?.responseWindow);
    let head = network.block().await?;
    network.mine((closed.close + window).saturating_sub(head)).await
}

async fn expect_matched_by_rule(network: &Network, market: &Market, closed: Closed) -> eyre::Result<()> {
    let leased = network.in_state(closed.order, OrderState::Leased).await?;
    ensure!(
        leased.supplier == market.suppliers[0],
        "the rule ranks the cheap supplier first, not {}",
        leased.supplier
    );
    let manager = IMatchingTaskManager::new(
        network.devnet.network.contracts.task_manager,
        &network.devnet.anvil.provider,
    );
    ensure!(
        manager.matchedByRule(closed.order).call().await?,
        "the lease was not opened by the rule"
    );
    Ok(())
}

/// Stakes that were not refreshed lately do not count: who signed may be gone by now. A refresh makes them count again, for
/// close blocks after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_with_stale_stakes_is_refused_until_it_is_refreshed() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, without_providers, async |network| {
        let market = network.market().await?;
        for agent in DISHONEST.into_iter().chain(["aggregator-1", "aggregator-2", SILENT]) {
            network.devnet.agent(agent)?.stop().await?;
        }
        let age = u64::from(devnet_stake_age());
        network.devnet.anvil.mine_at_once().await?;
        network.mine(age).await?;
        let stale = network.ordered_at_once(&market, 1, 3).await?;
        network.mine(1).await?;
        let answer = network.ranking(&market, stale, &[0, 1]).await?;
        let refused = network.refusal(&answer, &DISHONEST).await?.unwrap_or_default();
        ensure!(
            refused.contains("stake too old"),
            "an answer with stakes older than {age} blocks was refused with {refused:?}"
        );

        network.refresh_stakes().await?;
        let refused = network.refusal(&answer, &DISHONEST).await?.unwrap_or_default();
        ensure!(
            refused.contains("stake too old"),
            "a refresh after the close block changed its stakes: {refused:?}"
        );
        let young = network.ordered_at_once(&market, 2, 3).await?;
        network.mine(1).await?;
        let answer = network.ranking(&market, young, &[0, 1]).await?;
        network.respond(&answer, &DISHONEST).await?;
        network.in_state(young.order, OrderState::Leased).await.map(drop)
    })
    .await
}

fn devnet_stake_age() -> u32 {
    devnet::plan::Plan::built_in().parameters().quorums.maximum_stake_age
}

/// Killed after it signed and before anybody had the signature: after its restart it says the same again.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_between_signing_and_sending_says_the_same_again() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, without_providers, async |network| {
        let market = network.market().await?;
        // Without it there is no quorum without operator-1.
        for agent in ["aggregator-1", "aggregator-2", SILENT] {
            network.devnet.agent(agent)?.stop().await?;
        }
        // Nobody else does, with no aggregator there.
        network.refresh_stakes().await?;
        let closed = network.ordered(&market, 1, 0).await?;
        network.block_hash(closed.close).await?;
        // The response window is not to pass while processes start.
        let slow_blocks = network.slow_blocks().await?;
        eventually("operator-1 to sign", async || {
            Ok((signed_digests(network, "operator-1", closed.close)?.len() == 1).then_some(()))
        })
        .await?;
        network.devnet.agent("operator-1")?.kill()?;
        network.devnet.launch("operator-1")?;
        network.devnet.wait_ready("operator-1").await?;
        network.devnet.launch("aggregator-1")?;
        let leased = network.in_state(closed.order, OrderState::Leased).await?;
        drop(slow_blocks);
        ensure!(
            leased.supplier == market.suppliers[0],
            "the quorum's answer is the rule's"
        );
        let mut digests = signed_digests(network, "operator-1", closed.close)?;
        digests.dedup();
        ensure!(digests.len() == 1, "operator-1 signed {digests:?} for one task");
        let equivocations = network.metrics("aggregator-1").await?;
        ensure!(
            !equivocations.lines().any(|line| line.contains("equivocations_total{")),
            "an aggregator saw two answers of one operator"
        );
        Ok(())
    })
    .await
}

/// Digests that an operator logged as signed for a close block.
fn signed_digests(network: &Network, operator: &str, close: u64) -> eyre::Result<Vec<String>> {
    let task = format!("close_block={close} ");
    let log = network.log(operator)?;
    let lines = log
        .lines()
        .filter(|line| line.contains("signed") && line.contains(&task));
    let digests = lines.filter_map(|line| Some(line.split("digest=").nth(1)?.split(' ').next()?.to_owned()));
    Ok(digests.collect())
}
