//! Operators that fail or lie.

use avs::submission::SignatureSubmission;
use bindings::{IMatchingTaskManager, IOrderBook, OrderState};
use devnet::agents::bls_key;
use eyre::ensure;
use serde_json::Value;
use system_tests::{Answer, Network, Sharing, eventually, example, on_devnet, post, sign};

#[tokio::test(flavor = "multi_thread")]
async fn one_operator_down_is_no_obstacle() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            network.devnet.agent("operator-4")?.stop().await?;
            let user = network.user("user-1").await?;
            let deployed = network.deployed(&user, &example("hello.icl.yaml")).await?;
            let (_, close) = network.order().await?;
            let leases = network.events::<IOrderBook::LeaseCreated>(Some(deployed.order)).await?;
            let window = u64::from(network.book().parameters().call().await?.responseWindow);
            ensure!(
                matches!(leases[..], [(block, _)] if block <= close + window),
                "one lease within {window} blocks of {close} was expected, not {leases:?}"
            );
            Ok(())
        },
    )
    .await
}

/// Nobody runs the rule on chain for an order that no quorum answered.
fn nobody_matches(options: &mut devnet::Options) {
    for operator in &options.plan.operators {
        options
            .extra_config
            .insert(operator.name.clone(), "\n[watch]\nmatch_unanswered = false\n".into());
    }
}

/// Without a quorum nobody answers, and nobody runs the rule on chain either; the order expires and the money is unlocked to the
/// unit.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_operators_down_gives_the_money_back() -> eyre::Result<()> {
    on_devnet(Sharing::Shared, nobody_matches, async |network| {
        for operator in ["operator-3", "operator-4"] {
            network.devnet.agent(operator)?.stop().await?;
        }
        expect_expiry(network, 2).await
    })
    .await
}

/// Three operators hold enough of the first quorum's stake and too little of the second's: both thresholds are required.
#[tokio::test(flavor = "multi_thread")]
async fn both_quorums_are_required() -> eyre::Result<()> {
    let stake_spon = |options: &mut devnet::Options| {
        nobody_matches(options);
        for (operator, spon) in options
            .plan
            .operators
            .iter_mut()
            .zip([100_000, 100_000, 100_000, 700_000])
        {
            operator.restake.spon = spon;
        }
    };
    on_devnet(Sharing::Shared, stake_spon, async |network| {
        network.devnet.agent("operator-4")?.stop().await?;
        expect_expiry(network, 3).await
    })
    .await
}

/// An order gets this many signatures, which are not enough, and expires.
async fn expect_expiry(network: &Network, signatures: u64) -> eyre::Result<()> {
    let user = network.user("user-1").await?;
    let deploy = network.deploy(&user, &example("hello.icl.yaml"), &[])?;
    let (order, close) = network.order().await?;
    let task = eventually(&format!("{signatures} signatures at aggregator-1"), async || {
        let task = network.task("aggregator-1", close).await?;
        Ok((task["signatures"].as_u64() == Some(signatures)).then_some(task))
    })
    .await?;
    ensure!(
        task["quorum_reached"] == false,
        "{signatures} of four signatures reached the quorums: {task}"
    );
    network.in_state(order, OrderState::Expired).await?;
    let manager = network.devnet.network.contracts.task_manager;
    let answers = network
        .events_of::<IMatchingTaskManager::TaskResponded>(manager, Some(close))
        .await?;
    ensure!(answers.is_empty(), "a response was taken below the threshold");
    network.expect_money_back(order).await?;
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), deploy.wait_with_output()).await??;
    ensure!(
        matches!(output.status.code(), Some(1 | 3)) && !output.stderr.is_empty(),
        "`spheron deploy` of an order that expired ended with {} and said {:?}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// An aggregator's answer to a submission, asked again as operators do while it has not seen the close block.
async fn posted(aggregator: &str, submission: &SignatureSubmission) -> eyre::Result<(u16, Value)> {
    let body = serde_json::to_vec(submission)?;
    eventually("an aggregator to have seen the close block", async || {
        let answer = post(aggregator, body.clone()).await?;
        Ok((answer.1["error"] != "unknown_block").then_some(answer))
    })
    .await
}

/// A wrong answer, validly signed, is outvoted, and its signer named. Sending first gives it no advantage.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_signs_a_wrong_answer_is_outvoted_and_named() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            // Without the third there is no quorum, so that the wrong answer is there before the right one wins.
            for operator in ["operator-3", "operator-4"] {
                network.devnet.agent(operator)?.stop().await?;
            }
            let user = network.user("user-1").await?;
            let deploy = network.deploy(&user, &example("hello.icl.yaml"), &[])?;
            let (order, close) = network.order().await?;
            let hash = network.block_hash(close).await?;
            let version = network.book().parameters().call().await?.paramsVersion;
            let wrong = sign(
                network,
                &bls_key("operator-4")?,
                &Answer::nobody(order, close, hash, version)?,
            )?;
            let stranger = sign(
                network,
                &bls_key("somebody")?,
                &Answer::nobody(order, close, hash, version)?,
            )?;
            let mut forged = wrong.clone();
            forged.signature = stranger.signature;
            // The response window is not to pass while a process starts.
            let slow_blocks = network.slow_blocks().await?;
            for aggregator in network.devnet.aggregator_urls() {
                let refused = posted(&aggregator, &stranger).await?;
                ensure!(
                    refused.0 == 403 && refused.1["error"] == "unknown_operator",
                    "a stranger was answered {refused:?}"
                );
                let refused = posted(&aggregator, &forged).await?;
                ensure!(
                    refused.0 == 400 && refused.1["error"] == "invalid_signature",
                    "a forgery was answered {refused:?}"
                );
                let taken = posted(&aggregator, &wrong).await?;
                ensure!(taken.0 == 200, "a member's signature was answered {taken:?}");
                let again = posted(&aggregator, &wrong).await?;
                ensure!(
                    again.1["status"] == "duplicate",
                    "the same signature again was answered {again:?}"
                );
            }
            network.devnet.launch("operator-3")?;

            let leased = network.in_state(order, OrderState::Leased).await?;
            drop(slow_blocks);
            network.resume_blocks().await?;
            ensure!(leased.supplier != 0, "the lease names its supplier");
            let liar = devnet::plan::address("operator-4").to_string();
            eventually(
                "an aggregator to name the operator that signed another answer",
                async || {
                    for aggregator in ["aggregator-1", "aggregator-2"] {
                        let counted = network.metrics(aggregator).await?;
                        let counted = counted.lines().any(|line| {
                            line.contains("minority_signatures_total") && line.contains(&liar) && line.ends_with(" 1")
                        });
                        let log = network.log(aggregator)?;
                        let logged = log
                            .lines()
                            .any(|line| line.contains("signed another answer") && line.contains(&liar));
                        if counted && logged {
                            return Ok(Some(()));
                        }
                    }
                    Ok(None)
                },
            )
            .await?;
            system_tests::expect_success("`spheron deploy`", deploy).await?;
            Ok(())
        },
    )
    .await
}
