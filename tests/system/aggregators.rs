//! Aggregators that crash, and what anybody can send them.

use bindings::{IMatchingTaskManager, OrderState};
use devnet::agents::bls_key;
use eyre::ensure;
use serde_json::{Value, json};
use system_tests::{Answer, Sharing, eventually, example, on_devnet, post, sign};

/// Longest body an aggregator takes.
const BODY_LIMIT: usize = avs::submission::BODY_LIMIT;

/// Killed with a quorum in hand and nothing sent: it finds its signatures again, from nobody but its own store.
#[tokio::test(flavor = "multi_thread")]
async fn an_aggregator_killed_before_it_responds_responds_after_its_restart() -> eyre::Result<()> {
    let patient = |options: &mut devnet::Options| {
        options.extra_config.insert(
            "aggregator-1".into(),
            "\n[collect]\nstraggler_wait_ms = 10000\ndelay_gas_per_ms = 0\n".into(),
        );
    };
    on_devnet(Sharing::Shared, patient, async |network| {
        // With all four signatures there would be no straggler to wait for.
        for agent in ["aggregator-2", "operator-4"] {
            network.devnet.agent(agent)?.stop().await?;
        }
        let user = network.user("user-1").await?;
        let _deploy = network.deploy(&user, &example("hello.icl.yaml"), &[])?;
        let (order, close) = network.order().await?;
        network.block_hash(close).await?;
        // It waits longer than the response window would be open at the usual pace.
        let slow_blocks = network.slow_blocks().await?;
        eventually("a quorum at aggregator-1", async || {
            Ok((network.task("aggregator-1", close).await?["quorum_reached"] == true).then_some(()))
        })
        .await?;
        network.devnet.agent("aggregator-1")?.kill()?;
        let manager = network.devnet.network.contracts.task_manager;
        let answers = network
            .events_of::<IMatchingTaskManager::TaskResponded>(manager, Some(close))
            .await?;
        ensure!(answers.is_empty(), "the aggregator responded before it was killed");
        for operator in ["operator-1", "operator-2", "operator-3"] {
            network.devnet.agent(operator)?.stop().await?;
        }
        network.devnet.launch("aggregator-1")?;
        network.in_state(order, OrderState::Leased).await?;
        drop(slow_blocks);
        let answers = network
            .awaited_events_of::<IMatchingTaskManager::TaskResponded>(manager, Some(close))
            .await?;
        let window = u64::from(network.book().parameters().call().await?.responseWindow);
        ensure!(
            matches!(answers[..], [(block, _)] if block <= close + window),
            "one response within {window} blocks of {close} was expected, not {answers:?}"
        );
        ensure!(
            answers[0].1.responder == devnet::plan::address("aggregator-1"),
            "{} responded",
            answers[0].1.responder
        );
        Ok(())
    })
    .await
}

/// Whatever is wrong with a submission, the answer is a 4xx that says what.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_with_its_reason() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |options| options.with_providers = false,
        async |network| {
            let head = network.block().await?;
            let hash = network.block_hash(head).await?;
            let signed = |close_block| {
                let answer = Answer::nobody(1 << 32 | 1 << 24 | 1, close_block, hash, 1)?;
                serde_json::to_value(sign(network, &bls_key("operator-1")?, &answer)?).map_err(eyre::Report::new)
            };
            let good = signed(head)?;
            let with = |pointer: &str, value: Value| -> eyre::Result<Vec<u8>> {
                let mut changed = good.clone();
                *changed
                    .pointer_mut(pointer)
                    .ok_or_else(|| eyre::eyre!("no {pointer} in a submission"))? = value;
                Ok(serde_json::to_vec(&changed)?)
            };
            let one = format!("0x{:064x}", 1);
            let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
                ("no JSON", b"{\"operator_id\":".to_vec(), 400, "malformed"),
                ("another shape", b"[]".to_vec(), 400, "malformed"),
                (
                    "a short operator id",
                    with("/operator_id", json!("0x00"))?,
                    400,
                    "malformed",
                ),
                (
                    "a match word of 33 bytes",
                    with("/matches", json!([format!("0x{:066x}", 1)]))?,
                    400,
                    "malformed",
                ),
                ("no matches", with("/matches", json!([]))?, 400, "malformed"),
                (
                    "matches that break off",
                    with("/matches", json!([format!("0x{:064x}", 0x105)]))?,
                    400,
                    "malformed",
                ),
                (
                    "a chunk that cannot be",
                    with("/chunk", json!(65_535))?,
                    400,
                    "malformed",
                ),
                ("another digest", with("/digest", json!(one))?, 400, "wrong_digest"),
                (
                    "a point off the curve",
                    with("/signature", json!({"x": one, "y": one}))?,
                    400,
                    "invalid_signature",
                ),
                (
                    "a block without orders",
                    serde_json::to_vec(&good)?,
                    404,
                    "unknown_block",
                ),
                (
                    "a block to come",
                    serde_json::to_vec(&signed(head + 1_000)?)?,
                    404,
                    "unknown_block",
                ),
                (
                    "a block long past",
                    serde_json::to_vec(&signed(1)?)?,
                    410,
                    "window_over",
                ),
                ("a body that is too long", vec![b' '; BODY_LIMIT + 1], 413, "too_large"),
            ];
            for aggregator in network.devnet.aggregator_urls() {
                for (what, body, status, code) in &cases {
                    let answer = post(&aggregator, body.clone()).await?;
                    ensure!(
                        answer.0 == *status && answer.1["error"] == *code,
                        "{what} was answered {answer:?}, expected {status} {code}"
                    );
                    ensure!(
                        answer.1["message"].as_str().is_some_and(|message| !message.is_empty()),
                        "{what}: no reason"
                    );
                }
            }
            network.devnet.check_processes()
        },
    )
    .await
}
