//! eigensdk's `BlsAggregatorService`, fed in process: no HTTP, no JSON, no store, its own in-memory test registry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ark_bn254::{Fq, G1Affine};
use avs::bn254::Signature;
use eigen_services_avsregistry::fake_avs_registry_service::FakeAvsRegistryService;
use eigen_services_blsaggregation::bls_agg::{BlsAggregatorService, TaskMetadata, TaskSignature};
use eyre::{WrapErr as _, ensure};

use crate::cast::{self, Operator, Task};

const BLOCK: u64 = 1;
/// Longer than the measurement.
const EXPIRY: Duration = Duration::from_secs(600);

/// Signatures per second, from the first signature to the last aggregate.
pub async fn signatures_per_second(operators: Arc<Vec<Operator>>, signed: &[Vec<Signature>]) -> eyre::Result<f64> {
    let registry = FakeAvsRegistryService::new(BLOCK, cast::eigen_operators(&operators)?);
    let (handle, mut aggregates) = BlsAggregatorService::new(registry).start();
    // All must sign: below that it answers at the threshold and refuses everybody after it, and above the threshold it
    // asks the registry again for every signature. This is its best case.
    for number in 0..signed.len() {
        let metadata = TaskMetadata::new(number as u32, BLOCK, vec![0], vec![100], EXPIRY);
        handle
            .initialize_task(metadata)
            .await
            .map_err(|error| eyre::eyre!("eigensdk does not take a task: {error}"))?;
    }
    let mut by_operator: Vec<Vec<TaskSignature>> = operators.iter().map(|_| Vec::new()).collect();
    for (number, signatures) in signed.iter().enumerate() {
        let digest = Task { number }.digest()?;
        for ((operator, signature), own) in operators.iter().zip(signatures).zip(&mut by_operator) {
            let signature = eigen_crypto_bls::Signature::new(point(signature));
            own.push(TaskSignature::new(number as u32, digest, signature, operator.id));
        }
    }

    let started = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for own in by_operator {
        let handle = handle.clone();
        senders.spawn(async move {
            for signature in own {
                handle
                    .process_signature(signature)
                    .await
                    .map_err(|error| eyre::eyre!("eigensdk refuses a signature: {error}"))?;
            }
            eyre::Ok(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent.wrap_err("a sender ended early")??;
    }
    for _ in signed {
        let aggregate = tokio::time::timeout(EXPIRY, aggregates.receive_aggregated_response())
            .await
            .wrap_err("eigensdk gave no aggregate")?
            .map_err(|error| eyre::eyre!("eigensdk gave no aggregate: {error}"))?;
        ensure!(aggregate.non_signers_pub_keys_g1.is_empty(), "somebody is missing");
    }
    let count = signed.iter().map(Vec::len).sum::<usize>();
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

fn point(signature: &Signature) -> G1Affine {
    let point = signature.point();
    let coordinate = |value: alloy_primitives::U256| {
        use ark_ff::PrimeField as _;
        Fq::from_be_bytes_mod_order(&value.to_be_bytes::<32>())
    };
    G1Affine::new(coordinate(point.x), coordinate(point.y))
}
