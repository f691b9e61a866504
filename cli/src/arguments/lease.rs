//! Arguments of `spheron lease`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{List, Logs, Permission, ids};
use crate::amounts;
use crate::dates::Moment;

#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    /// List leases, with time left, what is low on funds or in its grace, and money spent
    #[command(after_help = "\
Examples:
  spheron lease list                                   what runs
  spheron lease list --all --limit 10                  those that ended, too")]
    List(List),
    /// How a lease is doing: its time, its money, its services
    #[command(after_help = "\
Examples:
  spheron lease show 4294967297
  spheron lease show 4294967297 --json | jq -r '.services[].urls[]'")]
    Show {
        /// The lease
        #[arg(value_parser = ids::lease)]
        lease: u64,
    },
    /// What its services write
    #[command(after_help = super::LOGS_EXAMPLES)]
    Logs(Logs),
    /// Send the manifest to the provider (again)
    #[command(after_help = "\
Examples:
  spheron lease send 4294967297                        from the home that ordered; the provider deploys what it lost")]
    Send {
        /// The lease
        #[arg(value_parser = ids::lease)]
        lease: u64,
    },
    /// Fetch the manifest back from the provider
    #[command(after_help = "\
Examples:
  spheron lease manifest 4294967297 > manifest.json    it holds the secrets of the deployment file
  spheron lease update 4294967297 app.yaml             where neither the provider nor any home has it any more")]
    Manifest {
        /// The lease
        #[arg(value_parser = ids::lease)]
        lease: u64,
    },
    /// Move the end of a lease, with money that is unlocked in its account
    #[command(after_help = "\
Examples:
  spheron lease extend 4294967297 --for 6h --dry-run   what it costs
  spheron lease extend 4294967297 --for 6h")]
    Extend(Extend),
    /// Move the end of a lease, and deposit what its account lacks for that
    #[command(
        name = "top-up",
        after_help = "\
Examples:
  spheron lease top-up 4294967297 --for 2d             deposits the difference, if any, and extends
  spheron lease top-up 4294967297 --amount 10          deposits 10 tokens and extends by as long as they last
  spheron lease top-up 4294967297 --for 2d --permit    the approval is signed instead of sent"
    )]
    TopUp(TopUp),
    /// Replace what a lease runs: propose a new deployment file to its provider, who accepts or refuses
    ///
    /// Until the provider accepts, nothing changes. When it does, the old lease ends and a new one begins in one transaction:
    /// the workload keeps its identity, its volumes and, where they fit, its ports.
    #[command(after_help = "\
Examples:
  spheron lease update 4294967297 app.yaml --dry-run   what changes and what it costs
  spheron lease update 4294967297 app.yaml             propose, send the manifest, wait for the answer
  spheron lease update 4294967297 --resume             go on waiting after an interruption
  spheron lease update 4294967297 --withdraw           take the proposal back
  spheron lease update 4294967297 app.yaml --yes       even if the lease ends sooner with it")]
    Update(UpdateLease),
    /// End a lease; what it did not use is unlocked
    #[command(after_help = "\
Examples:
  spheron lease close 4294967297
  spheron lease close 4294967297 --sign > close.json   anyone may bring it in: the signer pays no gas
  spheron lease close --submit close.json")]
    Close(Close),
    /// Rate the provider of a lease that is over and paid: 1 (worst) to 10 (best), once
    #[command(after_help = "\
Examples:
  spheron lease rate 4294967297 9")]
    Rate {
        /// The lease
        #[arg(value_parser = ids::lease)]
        lease: u64,
        /// 1 to 10
        #[arg(value_parser = clap::value_parser!(u8).range(1..=10))]
        rating: u8,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Extend {
    /// The lease
    #[arg(value_parser = ids::lease)]
    pub(crate) lease: u64,
    /// How much longer
    #[arg(long = "for", value_name = "TIME", value_parser = amounts::lease_time)]
    pub(crate) added: u32,
    /// Show the price; send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopUp {
    /// The lease
    #[arg(value_parser = ids::lease)]
    pub(crate) lease: u64,
    /// How much longer
    #[arg(long = "for", value_name = "TIME", value_parser = amounts::lease_time, conflicts_with = "amount",
        required_unless_present = "amount")]
    pub(crate) added: Option<u32>,
    /// Whole tokens to deposit, which extend the lease as far as they last; never more than the longest lease can lock
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) amount: Option<String>,
    #[command(flatten)]
    pub(crate) permission: Permission,
    /// Show the price; send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateLease {
    /// The lease
    #[arg(value_parser = ids::lease)]
    pub(crate) lease: u64,
    /// New deployment file (ICL)
    #[arg(required_unless_present_any = ["resume", "withdraw"], conflicts_with_all = ["resume", "withdraw"])]
    pub(crate) file: Option<PathBuf>,
    /// Go on with the proposal that stands
    #[arg(long, conflicts_with = "withdraw")]
    pub(crate) resume: bool,
    /// Take the proposal back
    #[arg(long)]
    pub(crate) withdraw: bool,
    /// Show what changes and what it costs; send nothing
    #[arg(long, conflicts_with_all = ["resume", "withdraw"])]
    pub(crate) dry_run: bool,
    /// Propose it even if the lease ends sooner with it
    #[arg(long, conflicts_with_all = ["resume", "withdraw"])]
    pub(crate) yes: bool,
    /// Until when the provider may accept: a time from now (10m) or a date in UTC
    #[arg(long, value_name = "WHEN", default_value = "10m")]
    pub(crate) expires: Moment,
    /// Blocks on top of the provider's acceptance before it counts
    #[arg(long, value_name = "BLOCKS", default_value_t = 1)]
    pub(crate) confirmations: u64,
    /// How long to wait for the answer, and then for the workload to run
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = amounts::duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Close {
    /// The lease (an order that is still open is cancelled by a signed close)
    #[arg(required_unless_present = "submit", conflicts_with = "submit", value_parser = ids::lease)]
    pub(crate) lease: Option<u64>,
    /// Print a signed request instead, which anyone may bring in
    #[arg(long, conflicts_with = "submit")]
    pub(crate) sign: bool,
    /// Until when the signed request is worth something: a time from now or a date in UTC
    #[arg(long, value_name = "WHEN", default_value = "1h", requires = "sign")]
    pub(crate) valid: Moment,
    /// Bring a signed request in, as the one who pays the gas
    #[arg(long, value_name = "FILE")]
    pub(crate) submit: Option<PathBuf>,
}
