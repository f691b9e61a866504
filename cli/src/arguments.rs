//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::amounts;

/// Heading of the options every command has; without it `--help` shuffles them among the command's own.
const COMMON: &str = "Options of every command";

/// Deploys workloads on the Spheron network, and registers those who run them.
///
/// stdout is the result, stderr the rest. Exit status: 0 done, 1 failed, 2 bad input (nothing was sent), 3 nobody can serve
/// the order (its money is back).
#[derive(Debug, Parser)]
#[command(name = "spheron", version, max_term_width = 110)]
pub struct Arguments {
    /// Network file, or the name of one in the home's folder `networks` [default: the running devnet]
    #[arg(long, env = "SPHERON_NETWORK", value_name = "NAME|FILE", global = true, help_heading = COMMON)]
    pub(crate) network: Option<String>,
    /// Folder of the key, the TLS identity and the orders [default: ~/.spheron]
    #[arg(long, env = "SPHERON_HOME", value_name = "FOLDER", global = true, help_heading = COMMON)]
    pub(crate) home: Option<PathBuf>,
    /// File with the keystore's password, mode 0600 (or set SPHERON_PASSWORD)
    #[arg(long, value_name = "FILE", global = true, help_heading = COMMON)]
    pub(crate) password_file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make key, TLS certificate and account, and deposit, as far as they are not there yet
    Init(Init),
    /// Read a deployment file and say what it asks for, without sending anything
    Check {
        /// Deployment file (ICL)
        file: PathBuf,
    },
    /// Order what a deployment file asks for, and wait until it runs
    Deploy(Deploy),
    /// The escrow account
    #[command(subcommand)]
    Account(Account),
    /// Leases
    #[command(subcommand)]
    Lease(Lease),
    /// List leases: short for `lease list`
    Ps(List),
    /// Logs of a lease: short for `lease logs`. `!` marks what a service wrote to its standard error
    Logs(Logs),
    /// Orders, with their bids
    #[command(subcommand)]
    Order(Order),
    /// Providers
    #[command(subcommand)]
    Provider(Provider),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Use this key (keystore or raw) instead of making one; it is copied into the home
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Payment token to deposit
    #[arg(long, value_name = "SYMBOL", default_value = "uSPON")]
    pub(crate) token: String,
    /// Deposit until this many whole tokens are unlocked
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) deposit: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Deployment file (ICL)
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) file: Option<PathBuf>,
    /// Show price, lock, fee and balance; send nothing
    #[arg(long, conflicts_with = "resume")]
    pub(crate) dry_run: bool,
    /// Go on with this order, wherever it stands
    #[arg(long, value_name = "ORDER")]
    pub(crate) resume: Option<u64>,
    /// Close the lease when it is not ready this long after its start
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = amounts::duration)]
    pub(crate) timeout: Duration,
    /// Leave the lease open even if it is not ready in time
    #[arg(long)]
    pub(crate) keep: bool,
    /// Blocks on top of the lease's before the manifest, with its secrets, is sent
    #[arg(long, value_name = "BLOCKS", default_value_t = 1)]
    pub(crate) confirmations: u64,
    /// Pay from this account [default: the key's own]
    #[arg(long, value_name = "ID")]
    pub(crate) account: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Open another account
    Open,
    /// Move tokens of the key into an account
    Deposit {
        /// Whole tokens
        amount: String,
        #[command(flatten)]
        money: Money,
    },
    /// Move unlocked tokens out
    Withdraw {
        /// Whole tokens
        amount: String,
        #[command(flatten)]
        money: Money,
        /// Receiver [default: the key's address]
        #[arg(long, value_name = "ADDRESS")]
        to: Option<alloy::primitives::Address>,
    },
    /// What an account holds
    Show {
        /// The account [default: the key's own]
        #[arg(long, value_name = "ID")]
        account: Option<u32>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Money {
    /// Symbol of the payment token
    #[arg(long, value_name = "SYMBOL", default_value = "uSPON")]
    pub(crate) token: String,
    /// The account [default: the key's own]
    #[arg(long, value_name = "ID")]
    pub(crate) account: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Those that ended, too
    #[arg(long, short)]
    pub(crate) all: bool,
    /// The newest, this many per token
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub(crate) limit: u32,
    /// The account [default: the key's own]
    #[arg(long, value_name = "ID")]
    pub(crate) account: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The lease
    pub(crate) lease: u64,
    /// One service only
    pub(crate) service: Option<String>,
    /// Go on with what is written from now on
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The last lines of each service, this many
    #[arg(long, short = 'n', value_name = "LINES")]
    pub(crate) tail: Option<u32>,
    /// Only what came after this cursor (it is printed when logs end)
    #[arg(long, value_name = "CURSOR", default_value = "")]
    pub(crate) cursor: String,
    /// With the time of each line
    #[arg(long, short)]
    pub(crate) timestamps: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    /// List leases, with time left and money spent
    List(List),
    /// How a lease is doing
    Show {
        /// The lease
        lease: u64,
    },
    /// What its services write
    Logs(Logs),
    /// Send the manifest to the provider (again)
    Send {
        /// The lease
        lease: u64,
    },
    /// Fetch the manifest back from the provider
    Manifest {
        /// The lease
        lease: u64,
    },
    /// End a lease; what it did not use is unlocked
    Close {
        /// The lease
        lease: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// List orders
    List(List),
    /// An order's terms and bids, and why each ranked where it did
    Show {
        /// The order
        #[arg(value_parser = order_number)]
        order: u64,
    },
    /// Run the matching rule on chain for an order that no operator answered in time; anyone may, and earns its match fee
    ///
    /// Works once the response window is over and while the match window lasts. The caller pays the gas and earns the match
    /// fee.
    Match {
        /// The order
        #[arg(value_parser = order_number)]
        order: u64,
    },
    /// Take an open order back: before its close block, or when nobody answered it in time
    Cancel {
        /// The order
        #[arg(value_parser = order_number)]
        order: u64,
    },
}

fn order_number(text: &str) -> Result<u64, &'static str> {
    text.parse()
        .map_err(|_| "an order is a number, see `spheron order list`")
}

#[derive(Debug, Subcommand)]
pub(crate) enum Provider {
    /// Register as a provider: publish the gateway's certificate, register, stake
    Register(Register),
    /// Change what a provider says of itself
    Update(Update),
    /// List providers
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn command_lines_are_taken_or_refused() {
        let parse = |line: &str| Arguments::try_parse_from(line.split_whitespace());
        for line in [
            "spheron --network n.json --home h --json init --key k --token uSPON --deposit 1000",
            "spheron deploy f.yaml --dry-run --json",
            "spheron deploy --resume 4294967297 --keep",
            "spheron deploy f.yaml --timeout 5m --confirmations 3",
            "spheron lease show 4294967297 --json",
            "spheron account withdraw 5 --token SPON",
            "spheron ps -a",
            "spheron logs 4294967297 web -f -n 10",
            "spheron --json provider register --name p --gateway https://127.0.0.1:1 --region us-east --tokens SPON,uSPON \
             --stake 20000 --certificate c.pem --key k",
            "spheron completions bash",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
        for line in [
            "spheron",
            "spheron deploy",
            "spheron deploy f.yaml --resume 1",
            "spheron deploy --resume 1 --dry-run",
            "spheron deploy f.yaml --timeout 5",
            "spheron lease show -1",
            "spheron lease show 0x10",
            "spheron lease show 18446744073709551616",
            "spheron account withdraw 5 --to 0x12",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
