//! The commands, one file per group.

mod account;
mod check;
mod deploy;
mod init;
mod interruption;
mod lease;
mod listing;
mod logs;
mod order;
mod provider;
mod tokens;

use clap::CommandFactory as _;

use crate::arguments::{Arguments, Command, Lease};
use crate::output::Output;
use crate::session::Session;

/// Runs the command that was asked for.
pub(crate) async fn execute(arguments: &Arguments, output: &Output) -> eyre::Result<()> {
    // These need neither key nor network.
    match &arguments.command {
        Command::Check { file } => return check::run(arguments, output, file).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "spheron", &mut script);
            output.raw(&script, false);
            return Ok(());
        }
        _ => {}
    }
    let session = Session::open(arguments, output)?;
    match &arguments.command {
        Command::Init(init) => init::run(&session, init).await,
        Command::Deploy(deploy) => deploy::run(&session, deploy).await,
        Command::Account(account) => interruption::told(&session, account::run(&session, account)).await,
        Command::Lease(Lease::List(list)) | Command::Ps(list) => {
            listing::run(&session, list, listing::Kind::Leases).await
        }
        Command::Lease(Lease::Logs(query)) | Command::Logs(query) => logs::run(&session, query).await,
        Command::Lease(lease) => lease::run(&session, lease).await,
        Command::Order(order) => order::run(&session, order).await,
        Command::Provider(provider) => provider::run(&session, provider).await,
        Command::Tokens => tokens::run(&session).await,
        Command::Check { .. } | Command::Completions { .. } => Ok(()),
    }
}
