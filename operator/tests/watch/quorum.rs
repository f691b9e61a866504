//! A quorum that lies, through a contract wallet: only those who signed are slashed, through EigenLayer.

use std::path::Path;

use avs::bn254::{Aggregate, G1Point, G2Point, SecretKey, SignedBy, sum_g1};
use bindings::{IBlsQuorumVerifier, encode_bls_proof};
use devnet::agents::{self, Agent, Role, Surroundings, bls_key};
use eigenlayer::registration::Addresses;
use eigenlayer::registry::Registry;
use operator::membership::{self, Deposit};

use super::*;

/// Signs nothing.
const HONEST: &str = "operator-4";

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_that_lies_is_slashed_and_who_did_not_sign_is_not() -> eyre::Result<()> {
    daemon::tls::install_provider();
    let mut market = Box::pin(Market::start(|_| {})).await?;
    let shutdown = Shutdown::new();
    let ran = tokio::time::timeout(TEST_DEADLINE, Box::pin(lie_and_pay(&market, &shutdown))).await;
    shutdown.request();
    market.anvil.process.stop().await?;
    ran.map_err(|_| eyre!("the test did not end within {} s", TEST_DEADLINE.as_secs()))?
}

async fn lie_and_pay(market: &Market, shutdown: &Shutdown) -> eyre::Result<()> {
    let operators = join(market).await?;
    let watcher = market.config(WATCHER, "[keys]\necdsa = \"ecdsa.key\"\n")?;
    operator::run::start_watching(watcher, shutdown.clone()).await?;
    // Nobody else does, and starting took its time.
    bootstrap::refresh_stakes(&market.anvil, &market.network, &market.options.plan).await?;
    let (order_id, close_block) = market.order(1).await?;
    let (task, matches, digest) = market.lie(order_id, close_block).await?;
    let (proof, honest) = sign(market, close_block, digest).await?;
    let call = IMatchingTaskManager::respondCall { task, matches, proof };
    // It can be challenged for a few blocks only, and its signers slashed for some more.
    let _slow_blocks = market.anvil.mine_slowly().await?;
    // The call is not the transaction's own: it has to be found in a trace.
    let (anvil, network) = (&market.anvil, &market.network);
    bootstrap::govern(anvil, network, network.contracts.task_manager, &call).await?;

    let signatories = dispute::quorum_signatories(close_block, &[honest]);
    let verdict = dispute::verdict(digest, close_block, signatories);
    let liars: Vec<Address> = market
        .options
        .plan
        .operators
        .iter()
        .filter(|operator| operator.name != HONEST)
        .map(|operator| plan::address(&operator.name))
        .collect();
    market.punished(verdict, &liars).await?;
    let disputes = IMatchingDisputes::new(network.contracts.disputes, &anvil.provider);
    let spared = plan::address(HONEST);
    ensure!(
        !disputes.isSlashed(verdict, spared).call().await?,
        "who did not sign pays nothing"
    );
    for agent in &operators {
        let status = membership::status(&operator::config::load(&agent.config())?).await?;
        let slashings = status.slashings.ok_or_eyre("anvil gives its logs")?;
        let expected = if agent.name == HONEST {
            0
        } else {
            network.eigenlayer.quorums.len()
        };
        ensure!(slashings.len() == expected, "{}: {slashings:?}", agent.name);
        ensure!(slashings.iter().all(|slashing| slashing.verdict == verdict));
    }
    Ok(())
}

/// Every operator of the plan joins every quorum.
async fn join(market: &Market) -> eyre::Result<Vec<Agent>> {
    let Market { anvil, network, .. } = market;
    let plan = &market.options.plan;
    bootstrap::fund(anvil, network, plan).await?;
    let agent =
        |operator: &plan::Operator| Agent::new(&operator.name, Role::Operator, market.folder.path(), Path::new(""));
    let agents: Vec<Agent> = plan.operators.iter().map(agent).collect();
    let surroundings = Surroundings {
        devnet: "watch".to_owned(),
        docker_socket: None,
        rpc: Default::default(),
        extra_config: Default::default(),
    };
    agents::write_folders(plan, &agents.iter().collect::<Vec<_>>(), &surroundings)?;
    let fast_blocks = anvil.mine_fast();
    let joining = plan.operators.iter().zip(&agents).map(async |(operator, agent)| {
        let quorums = network.eigenlayer.quorums.iter();
        let deposits = quorums
            .zip(operator.restake.by_quorum())
            .map(|(quorum, tokens)| Deposit {
                quorum: quorum.number.to_string(),
                units: U256::from(tokens) * U256::from(10).pow(U256::from(18)),
            });
        let config = operator::config::load(&agent.config())?;
        membership::opt_in(&config, &deposits.collect::<Vec<_>>()).await
    });
    futures::future::try_join_all(joining).await?;
    drop(fast_blocks);
    anvil.mine_every(1).await?;
    Ok(agents)
}

/// A proof that everybody signed but one, and the id of that one.
async fn sign(market: &Market, close_block: u32, digest: B256) -> eyre::Result<(alloy::primitives::Bytes, B256)> {
    let Market { anvil, network, .. } = market;
    let quorums: Vec<u8> = network.eigenlayer.quorums.iter().map(|quorum| quorum.number).collect();
    let mut registry = Registry::new(&anvil.provider, Addresses::from(network));
    let state = registry.operator_state(close_block, &quorums).await?;
    let honest = bls_key(HONEST)?.public_key();
    let mut sum = Aggregate::empty();
    for operator in &market.options.plan.operators {
        let key: SecretKey = bls_key(&operator.name)?;
        if operator.name != HONEST {
            let (key, signature) = (key.public_key(), key.sign(digest));
            let signed = SignedBy {
                key: &key,
                signature: &signature,
            };
            sum.add(signed, quorums.len() as u8);
        }
    }
    let honest_id = honest.operator_id();
    let indices = registry.proof_indices(close_block, &quorums, &[honest_id]).await?;
    let all: Vec<G1Point> = state.operators.values().map(|operator| operator.key.g1()).collect();
    let whole = g1(sum_g1(&all)?);
    let proof = IBlsQuorumVerifier::BlsProof {
        nonSignerQuorumBitmapIndices: indices.non_signer_quorum_bitmap_indices,
        nonSignerPubkeys: vec![g1(honest.g1())],
        quorumApks: vec![whole; quorums.len()],
        apkG2: g2(sum.key_g2()),
        sigma: g1(sum.signature()),
        quorumApkIndices: indices.quorum_apk_indices,
        totalStakeIndices: indices.total_stake_indices,
        nonSignerStakeIndices: indices.non_signer_stake_indices,
    };
    Ok((encode_bls_proof(&proof, &[]).into(), honest_id))
}

fn g1(point: G1Point) -> IBlsQuorumVerifier::G1Point {
    IBlsQuorumVerifier::G1Point { X: point.x, Y: point.y }
}

fn g2(point: G2Point) -> IBlsQuorumVerifier::G2Point {
    IBlsQuorumVerifier::G2Point { X: point.x, Y: point.y }
}
