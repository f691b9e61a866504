//! Records EigenLayer's deployment: `record --source UNPACKED_PACKAGE --anvil PROGRAM --output FOLDER`.
//!
//! Deploys, replays what it recorded and checks the result, then writes into a folder that must not exist yet:
//! - `core.json`: what a devnet replays, see [`Recording`];
//! - `addresses.json`: the addresses alone, small enough for a Foundry test to read;
//! - `core-allocations.json`: the same state for Foundry's `vm.loadAllocs`;
//! - `bytecode/NAME.json`: every contract as a compiler artifact, for `vm.deployCode` and for deploying the middleware.

mod chain;
mod core;
mod parameters;
mod recording;
mod source;

use std::path::{Path, PathBuf};

use clap::Parser;
use eyre::{WrapErr, ensure};
use serde::Serialize;

use crate::chain::Anvil;
use crate::parameters::Parameters;
use crate::recording::Recording;
use crate::source::Source;

/// Deploys EigenLayer's core once and writes down what it takes to do it again in under a second.
#[derive(Debug, Parser)]
struct Arguments {
    /// The unpacked package that carries the bytecode.
    #[arg(long)]
    source: PathBuf,
    /// The anvil to record on and to verify with.
    #[arg(long)]
    anvil: PathBuf,
    /// Folder to create and fill.
    #[arg(long)]
    output: PathBuf,
}

fn main() -> eyre::Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        !arguments.output.exists(),
        "{} exists already",
        arguments.output.display()
    );
    let parameters = Parameters::built_in()?;
    let mut source = Source::read(&arguments.source)?;

    let chain_id = parameters.chain.id.to_string();
    let anvil = Anvil::start(&arguments.anvil, &["--chain-id", &chain_id])?;
    let deployment = core::deploy(&anvil, &mut source, &parameters)?;
    let allocations = recording::allocations(&anvil, &deployment.addresses)?;
    let recording = Recording::of(&anvil, deployment, parameters)?;
    drop(anvil);
    let took = recording
        .verify(&arguments.anvil, &source)
        .wrap_err("the recording does not replay")?;

    let bytecode = arguments.output.join("bytecode");
    std::fs::create_dir_all(&bytecode).wrap_err_with(|| format!("cannot create {}", bytecode.display()))?;
    for contract in source.contracts() {
        write(
            &bytecode.join(format!("{}.json", contract.name)),
            &recording::artifact(contract),
        )?;
    }
    write(&arguments.output.join("core-allocations.json"), &allocations)?;
    write(&arguments.output.join("addresses.json"), &recording.addresses)?;
    write(&arguments.output.join("core.json"), &recording)?;
    println!(
        "recorded {} transactions and {} contracts; replayed in {} ms",
        recording.transactions.len(),
        source.contracts().len(),
        took.as_millis()
    );
    Ok(())
}

fn write(path: &Path, content: &impl Serialize) -> eyre::Result<()> {
    std::fs::write(path, serde_json::to_vec(content)?).wrap_err_with(|| format!("cannot write {}", path.display()))
}
