//! `devnet`: the whole network on one machine. `script/devnet` builds and starts it.

mod commands;

use std::process::ExitCode;

use clap::Parser;
use commands::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::tls::install_provider();
    if let Err(error) = daemon::telemetry::initialise(&arguments.log) {
        return commands::failed(&eyre::Report::new(error));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return commands::failed(&eyre::Report::new(error)),
    };
    match runtime.block_on(commands::run(arguments)) {
        Ok(code) => code,
        Err(error) => commands::failed(&error),
    }
}
