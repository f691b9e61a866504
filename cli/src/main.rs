//! `spheron`: the command line of users and providers.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
