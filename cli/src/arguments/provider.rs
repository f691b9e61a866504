//! Arguments of `spheron provider`.

use std::path::PathBuf;

use bindings::OrderState;
use clap::{Args, Subcommand, ValueEnum};

use super::ids;

#[derive(Debug, Subcommand)]
pub(crate) enum Provider {
    /// Register as a provider: publish the gateway's certificate, register, stake
    #[command(after_help = "\
Examples:
  spheron provider register --name north --gateway https://gpu.example:8443 --region us-east --certificate identity.pem
  spheron provider register --name north --gateway https://gpu.example:8443 --region us-east --certificate identity.pem --stake 20000")]
    Register(Register),
    /// Change what a provider says of itself
    #[command(after_help = "\
Examples:
  spheron provider update --gateway https://new.example:8443
  spheron provider update --certificate identity.pem --key provider.key
  spheron provider update --stake 50000")]
    Update(Update),
    /// End a lease that this provider serves, and say why: the chain tells everybody
    ///
    /// It is billed until then, the rest of the money is the user's again. The agent stops the workload when it sees the close,
    /// and removes it with its volumes when that is certain. The agent closes by itself what gets no manifest, what cannot be started
    /// and what is over.
    #[command(after_help = "\
Examples:
  spheron provider close 4294967297 --reason maintenance --dry-run       what is billed so far, and to whom it goes
  spheron provider close 4294967297 --reason abnormal-service            its services do not run, or keep restarting
  spheron provider close 4294967297 --reason maintenance --key provider.key")]
    Close(CloseLease),
    /// List providers
    #[command(after_help = "\
Examples:
  spheron provider list
  spheron provider list --json")]
    List,
}

#[derive(Debug, Args)]
pub(crate) struct Register {
    /// Name, 1 to 64 bytes
    #[arg(long)]
    pub(crate) name: String,
    /// Where the provider's gateway is reached: https://host:port
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: String,
    /// Region, by its name on the network
    #[arg(long)]
    pub(crate) region: String,
    /// Zone of the region
    #[arg(long, default_value_t = 0)]
    pub(crate) zone: u8,
    /// Payment tokens that are accepted [default: all]
    #[arg(long, value_delimiter = ',', value_name = "SYMBOL,...")]
    pub(crate) tokens: Vec<String>,
    /// Stake so that it is at least this many whole SPON [default: the network's minimum]
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) stake: Option<String>,
    /// PEM file with the gateway's certificate; `provider-agent run` makes it, `identity.pem` in its data folder
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: PathBuf,
    /// The provider's key (keystore or raw) [default: the home's]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// New name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// New address of the gateway
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// New region
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// New zone
    #[arg(long)]
    pub(crate) zone: Option<u8>,
    /// Payment tokens accepted from now on
    #[arg(long, value_delimiter = ',', value_name = "SYMBOL,...")]
    pub(crate) tokens: Vec<String>,
    /// Stake more, so that it is at least this many whole SPON
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) stake: Option<String>,
    /// PEM file with the gateway's new certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// The provider's key (keystore or raw) [default: the home's]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CloseLease {
    /// The lease
    #[arg(value_parser = ids::served_lease)]
    pub(crate) lease: u64,
    /// Why
    #[arg(long)]
    pub(crate) reason: CloseReason,
    /// The provider's key (keystore or raw) [default: the home's]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Show what it comes to; send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Why a provider ends a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CloseReason {
    /// Capacity is taken out of service
    Maintenance,
    /// Its services do not run, or restart abnormally
    AbnormalService,
    /// The workload cannot be started
    CannotStart,
    /// The user sent no manifest in time
    NoManifest,
}

impl CloseReason {
    /// The state in which it leaves the lease.
    pub(crate) fn state(self) -> OrderState {
        match self {
            Self::Maintenance => OrderState::ClosedMaintenance,
            Self::AbnormalService => OrderState::ClosedAbnormalService,
            Self::CannotStart => OrderState::ClosedCannotStart,
            Self::NoManifest => OrderState::ClosedNoManifest,
        }
    }
}
