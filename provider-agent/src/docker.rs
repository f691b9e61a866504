//! The engine on this machine: whether it is fit to take workloads, and what it has.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::causes::with_causes;
use daemon::health::Component;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use workload::Engine;

use crate::metrics::ProviderMetrics;
use crate::pricing::Offered;
use crate::wording;

/// How often the isolation rules and the disk are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often while something is wrong.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often the leases' use of the disk is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(180);

/// Whether new workloads may come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ground {
    /// Whether the engine answered the last look.
    pub answers: bool,
    /// Whether the leases' use of the disk was measured since the start.
    pub measured: bool,
    /// Why no bid may be made; empty when one may.
    pub problems: Vec<String>,
}

/// Looks after the engine until `stop`.
pub async fn watch_engine(
    engine: Arc<dyn Engine>,
    allow_unisolated: bool,
    ground: watch::Sender<Ground>,
    component: Component,
    metrics: ProviderMetrics,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut measured_at: Option<Instant> = None;
    loop {
        let mut looked = look(engine.as_ref(), allow_unisolated, &metrics).await;
        if looked.answers && measured_at.is_none_or(|at| at.elapsed() >= MEASURE_EVERY) {
            match engine.measure().await {
                Ok(_) => measured_at = Some(Instant::now()),
                Err(error) => tracing::warn!(error = %with_causes(&error), "the disk use of leases cannot be measured"),
            }
        }
        looked.measured = measured_at.is_some();
        if looked.problems.is_empty() {
            component.ok();
        } else {
            component.degraded(looked.problems.join("; "));
        }
        let pause = if looked.problems.is_empty() && looked.measured {
            LOOK_EVERY
        } else {
            LOOK_AGAIN
        };
        ground.send_if_modified(|before| {
            let changed = *before != looked;
            *before = looked;
            changed
        });
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn look(engine: &dyn Engine, allow_unisolated: bool, metrics: &ProviderMetrics) -> Ground {
    let mut ground = Ground::default();
    match engine.disk().await {
        Ok(disk) => {
            ground.answers = true;
            metrics
                .disk_free_bytes
                .set(i64::try_from(disk.free_bytes).unwrap_or(i64::MAX));
            if disk.below_watermark {
                ground.problems.push(format!(
                    "only {} MiB are left on the engine's disk; free some, or lower engine.minimum_free",
                    disk.free_bytes >> 20
                ));
            }
        }
        Err(error) => {
            ground.problems.push(with_causes(&error));
            metrics.isolated.set(0);
            return ground;
        }
    }
    let isolation = engine.isolation().await;
    metrics.isolated.set(i64::from(isolation.isolated));
    if !isolation.isolated && !allow_unisolated {
        ground.problems.extend(isolation.problems);
    }
    ground
}

/// What may be offered of what is configured: never more than the machine has. The second part says what was cut.
pub async fn offerable(engine: &dyn Engine, wanted: Offered) -> Result<(Offered, Vec<String>), workload::Error> {
    let machine = engine.capacity().await?;
    let mut cut = Vec::new();
    let mut least = |name: &str, told: fn(u64) -> String, wanted: u64, has: u64| {
        if wanted > has {
            cut.push(format!(
                "capacity.{name} is {}, the machine has {}",
                told(wanted),
                told(has)
            ));
        }
        wanted.min(has)
    };
    let (cpu, bytes) = (wording::thousandths, wording::mebibytes);
    let offered = Offered {
        milli_cpu: least("cpu", cpu, wanted.milli_cpu, machine.milli_cpu),
        memory_bytes: least("memory", bytes, wanted.memory_bytes, machine.memory_bytes),
        storage_bytes: least("storage", bytes, wanted.storage_bytes, machine.storage_bytes),
    };
    Ok((offered, cut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caretaker::tests::Bench;

    #[tokio::test]
    async fn what_the_machine_lacks_is_told_in_peoples_units() {
        let bench = Bench::new();
        let wanted = Offered {
            milli_cpu: 2_500,
            memory_bytes: 2 << 30,
            storage_bytes: 1 << 30,
        };
        let engine = bench.caretaker.engine.as_ref();
        let (offered, cut) = offerable(engine, wanted).await.expect("the engine answers");
        assert_eq!((offered.milli_cpu, offered.memory_bytes), (1_000, 1 << 30));
        assert_eq!(
            cut,
            [
                "capacity.cpu is 2.5 CPU, the machine has 1 CPU",
                "capacity.memory is 2048 MiB, the machine has 1024 MiB"
            ]
        );
    }
}
