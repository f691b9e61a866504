//! `script/bench aggregator`: our aggregator beside eigensdk's aggregation service, in one run.

mod cast;
mod memory;
mod ours;
mod peer;

use std::io::Write as _;
use std::sync::Arc;

use eyre::bail;

const OPERATORS: usize = 200;
/// Tasks for ours and for the peer: about as long for both.
const TASKS: usize = 200;
const PEER_TASKS: usize = 20;
const FINISHED_EARLY: usize = 10_000;
const FINISHED_LATE: usize = 1_000_000;
/// How much more memory may be in use after so many more tasks.
const ALLOWED_GROWTH: f64 = 1.1;

/// A line of the bench; a ratio above 1 means ours is better.
struct Measurement {
    name: &'static str,
    ours: f64,
    peer: f64,
    ratio: f64,
    unit: &'static str,
    peer_name: &'static str,
}

fn main() -> eyre::Result<()> {
    let (mut json, mut only) = (false, None);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            "signatures" | "memory" => only = Some(argument),
            other => bail!("unknown argument {other}; usage: aggregator-bench [signatures|memory] [--json]"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Memory first: what the other leaves in the allocator is not this one's.
    if only.as_deref() != Some("signatures") {
        print(json, &runtime.block_on(memory())?)?;
    }
    if only.as_deref() != Some("memory") {
        print(json, &runtime.block_on(signatures())?)?;
    }
    Ok(())
}

async fn signatures() -> eyre::Result<Measurement> {
    let operators = Arc::new(cast::operators(OPERATORS)?);
    let signed = cast::signatures(TASKS, &operators)?;
    let peer = peer::signatures_per_second(operators.clone(), &signed[..PEER_TASKS]).await?;
    let (ours, _) = ours::signatures_per_second(operators, &signed).await?;
    Ok(Measurement {
        name: "aggregator.signatures",
        ours,
        peer,
        ratio: ours / peer,
        unit: "signatures/s",
        peer_name: "eigensdk 2.0.0 BlsAggregatorService, fed in process",
    })
}

async fn memory() -> eyre::Result<Measurement> {
    let (early, late) = memory::resident_after(FINISHED_EARLY, FINISHED_LATE).await?;
    let limit = early * ALLOWED_GROWTH;
    Ok(Measurement {
        name: "aggregator.memory",
        ours: late,
        peer: limit,
        ratio: limit / late,
        unit: "MiB after 1000000 finished tasks",
        peer_name: "1.1 x after 10000",
    })
}

fn print(json: bool, measurement: &Measurement) -> eyre::Result<()> {
    let Measurement {
        name,
        ours,
        peer,
        ratio,
        unit,
        peer_name,
    } = measurement;
    let mut out = std::io::stdout().lock();
    if json {
        let line = serde_json::json!({
            "name": name, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit, "peer_name": peer_name,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(
            out,
            "{name:<24} {ours:>10.1} {unit} ({peer_name}: {peer:.1}; ratio {ratio:.2})"
        )?;
    }
    Ok(())
}
