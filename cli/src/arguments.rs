//! The command line.

mod account;
mod ids;
mod lease;
mod order;
mod provider;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use account::{Account, Deposit, History, Money, Operator, Permission};
pub(crate) use lease::{Close, Extend, Lease, TopUp, UpdateLease};
pub(crate) use order::{Order, SignOrder};
pub(crate) use provider::{CloseLease, CloseReason, Provider, Register, Update};

use crate::amounts;

/// Heading of the options every command has; without it `--help` shuffles them among the command's own.
const COMMON: &str = "Options of every command";

/// Names of values that are times: a length, and a length or a date.
const TIME: &str = "TIME";
const WHEN: &str = "WHEN";

const DEPLOY_EXAMPLES: &str = "\
Examples:
  spheron deploy app.yaml --dry-run         what it costs, what it locks, whether the deposit entitles to it
  spheron deploy app.yaml                   order, send the manifest, wait until it runs
  spheron deploy app.yaml --account 7       pay from an account that gave this key a spending right
  spheron deploy --resume 4294967297        go on where an interrupted deployment was";
const CHECK_EXAMPLES: &str = "\
Examples:
  spheron check app.yaml                    what it asks for, and what that costs on the devnet that runs
  spheron check app.yaml --network testnet  what it costs on a network";
const LOGS_EXAMPLES: &str = "\
Examples:
  spheron logs 4294967297 -f                all services, and what comes
  spheron logs 4294967297 web -n 20 -t      the last 20 lines of one service, with their times";
const INIT_EXAMPLES: &str = "\
Examples:
  spheron init --deposit 100                key, certificate, account, and 100 uSPON in it
  spheron init --key geth.json --password-file password
  spheron init --replace-certificate        after the home with the published certificate was lost";

const PS_EXAMPLES: &str = "\
Examples:
  spheron ps                                live leases of all accounts of the key
  spheron ps --all --account 7              of one account, those that ended too";
const TOKENS_EXAMPLES: &str = "\
Examples:
  spheron tokens
  spheron tokens --json";

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
    /// The most that is paid for a unit of gas, in gwei: an RPC endpoint that asks for more is not believed
    #[arg(long, env = "SPHERON_MAX_FEE", value_name = "GWEI", default_value_t = 500, global = true, help_heading = COMMON)]
    pub(crate) max_fee: u64,
    /// Print the result as JSON
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads a command line, with the program's name first.
    pub(crate) fn read(given: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut command = taking_negative_numbers(Self::command());
        let mut matches = command.try_get_matches_from_mut(given)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }
}

/// With every argument taking what looks like a negative number: what is wrong with it is said by who reads it. As a rule it is
/// taken for an option that does not exist.
fn taking_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let is_time = argument
                .get_value_names()
                .is_some_and(|names| matches!(names, [name] if matches!(name.as_str(), TIME | WHEN)));
            match argument.get_action().takes_values() {
                // A number with a unit is no number to clap.
                true if is_time => argument.allow_hyphen_values(true),
                true => argument.allow_negative_numbers(true),
                false => argument,
            }
        })
        .mut_subcommands(taking_negative_numbers)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make key, TLS certificate and account, and deposit, as far as they are not there yet
    #[command(after_help = INIT_EXAMPLES)]
    Init(Init),
    /// Read a deployment file and say what it asks for, without sending anything
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// Deployment file (ICL)
        file: PathBuf,
    },
    /// Order what a deployment file asks for, and wait until it runs
    #[command(after_help = DEPLOY_EXAMPLES)]
    Deploy(Deploy),
    /// Escrow accounts: money, who may spend it, every payment
    #[command(subcommand)]
    Account(Account),
    /// Leases
    #[command(subcommand)]
    Lease(Lease),
    /// List leases: short for `lease list`
    #[command(after_help = PS_EXAMPLES)]
    Ps(List),
    /// Logs of a lease: short for `lease logs`. `!` marks what a service wrote to its standard error
    #[command(after_help = LOGS_EXAMPLES)]
    Logs(Logs),
    /// Orders, with their bids; orders that are signed by one and brought in by another
    #[command(subcommand)]
    Order(Order),
    /// Payment tokens: fees, prices and their age, caps, and what a deposit entitles to
    #[command(after_help = TOKENS_EXAMPLES)]
    Tokens,
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
    /// Publish this home's certificate even where the key has another one: homes and agents with that one are out
    #[arg(long)]
    pub(crate) replace_certificate: bool,
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
    #[arg(long, value_name = "ORDER", value_parser = ids::order)]
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
    /// Pay from this account, the key's own or one that gave it a spending right [default: the key's first]
    #[arg(long, value_name = "ID", value_parser = ids::account)]
    pub(crate) account: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Those that ended, too
    #[arg(long, short)]
    pub(crate) all: bool,
    /// The newest, this many per account and token
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub(crate) limit: u32,
    /// One account only [default: all of the key's]
    #[arg(long, value_name = "ID", value_parser = ids::account)]
    pub(crate) account: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The lease
    #[arg(value_parser = ids::lease)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// Commands of money and leases tell how they are used.
    #[test]
    fn help_comes_with_examples() {
        let mut missing = Vec::new();
        for path in [
            &["deploy"][..],
            &["init"],
            &["account", "open"],
            &["account", "deposit"],
            &["account", "withdraw"],
            &["account", "transfer"],
            &["account", "operator", "add"],
            &["account", "history"],
            &["account", "credits"],
            &["account", "list"],
            &["account", "show"],
            &["account", "update-bracket"],
            &["account", "revoke-signature"],
            &["account", "operator", "list"],
            &["account", "operator", "remove"],
            &["tokens"],
            &["ps"],
            &["lease", "extend"],
            &["lease", "top-up"],
            &["lease", "update"],
            &["lease", "close"],
            &["order", "sign"],
            &["order", "submit"],
            &["order", "list"],
            &["order", "show"],
            &["order", "match"],
            &["order", "cancel"],
            &["lease", "list"],
            &["lease", "show"],
            &["lease", "logs"],
            &["lease", "send"],
            &["lease", "manifest"],
            &["lease", "rate"],
            &["logs"],
            &["check"],
            &["provider", "register"],
            &["provider", "update"],
            &["provider", "close"],
            &["provider", "list"],
        ] {
            let mut command = Arguments::command();
            let mut found = &mut command;
            for name in path {
                found = found.find_subcommand_mut(name).expect("a command");
            }
            let help = found.render_long_help().to_string();
            if !help.contains("Examples:\n  spheron ") {
                missing.push(path.join(" "));
            }
        }
        assert!(missing.is_empty(), "without examples: {missing:?}");
    }

    #[test]
    fn command_lines_are_taken_or_refused() {
        let parse = |line: &str| Arguments::read(line.split_whitespace());
        for line in [
            "spheron --network n.json --home h --json init --key k --token uSPON --deposit 1000 --replace-certificate",
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
            "spheron account open --for 0x0000000000000000000000000000000000000001",
            "spheron account list --json",
            "spheron account deposit 5 --token SPON --permit --account 7",
            "spheron account deposit 5 --permit2",
            "spheron account withdraw all",
            // Taken as amounts, which say what is wrong with them.
            "spheron account withdraw -5",
            "spheron account deposit -5.5 --permit",
            "spheron lease top-up 4294967297 --amount -5",
            "spheron init --deposit -5 --json",
            "spheron provider update --stake -5",
            "spheron provider close 4294967297 --reason abnormal-service --key k --json",
            "spheron provider close 4294967297 --reason maintenance --dry-run",
            "spheron provider close 4294967297 --reason cannot-start",
            "spheron provider close 4294967297 --reason no-manifest",
            "spheron account history --order 4294967297",
            "spheron account transfer 0x0000000000000000000000000000000000000001 --account 7 --yes",
            "spheron account operator add 0x0000000000000000000000000000000000000001 --limit 5 --expires 30d --may-close",
            "spheron account operator add 0x0000000000000000000000000000000000000001 --limit 5 --expires 2027-01-31",
            "spheron account operator remove 0x0000000000000000000000000000000000000001",
            "spheron account operator list --account 7",
            "spheron account history --since 7d --lease 4294967297 --token uSPON --json",
            "spheron account update-bracket",
            "spheron account credits --withdraw --to 0x0000000000000000000000000000000000000001",
            "spheron account revoke-signature",
            "spheron lease extend 4294967297 --for 6h --dry-run",
            "spheron lease top-up 4294967297 --for 2d --permit",
            "spheron lease top-up 4294967297 --amount 10",
            "spheron lease update 4294967297 f.yaml --expires 10m --timeout 5m --yes",
            "spheron lease update 4294967297 --resume",
            "spheron lease update 4294967297 --withdraw",
            "spheron lease close 4294967297 --sign --valid 1d",
            "spheron lease close --submit close.json",
            "spheron lease rate 4294967297 10",
            "spheron order sign f.yaml --account 7 --valid 1h --output order.json",
            "spheron order submit -",
            "spheron order submit order.json --dry-run",
            "spheron tokens --json",
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
            "spheron account deposit 5 --permit --permit2",
            "spheron account transfer 0x0000000000000000000000000000000000000001",
            "spheron account operator add 0x0000000000000000000000000000000000000001",
            "spheron account operator add 0x0000000000000000000000000000000000000001 --limit 5 --expires tomorrow",
            "spheron account credits --to 0x0000000000000000000000000000000000000001",
            "spheron lease extend 4294967297",
            "spheron lease extend 4294967297 --for 600000000s",
            "spheron lease top-up 4294967297",
            "spheron lease top-up 4294967297 --for 2h --amount 3",
            "spheron lease update 4294967297",
            "spheron lease update 4294967297 f.yaml --withdraw",
            "spheron lease update 4294967297 --resume --dry-run",
            "spheron lease update 4294967297 --resume --yes",
            "spheron lease close",
            "spheron lease close 4294967297 --submit close.json",
            "spheron provider close 4294967297",
            "spheron provider close --reason maintenance",
            "spheron provider close 4294967297 --reason at-end",
            "spheron lease rate 4294967297 11",
            "spheron lease rate 4294967297 0",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_negative_number_is_told_what_it_is_instead_of_an_option() {
        for (line, problem) in [
            ("spheron lease rate 4294967297 -9", "-9 is not in 1..=10"),
            (
                "spheron lease extend 4294967297 --for -6h",
                "expected a number with s, m, h, d or w",
            ),
            (
                "spheron order sign f.yaml --valid -1h",
                "invalid value '-1h' for '--valid <WHEN>'",
            ),
            (
                "spheron --max-fee -1 tokens",
                "invalid value '-1' for '--max-fee <GWEI>'",
            ),
        ] {
            let error = Arguments::read(line.split_whitespace()).expect_err(line).to_string();
            assert!(
                error.contains(problem) && !error.contains("unexpected"),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn what_is_no_id_is_told_what_an_id_is() {
        let (account, order) = ("an account is told by its id", "an order is told by its id");
        let lease = "a lease is told by its id";
        for (line, problem) in [
            ("spheron deploy f.yaml --account ID", account),
            ("spheron deploy --resume ID", order),
            ("spheron ps --account ID", account),
            ("spheron logs ID", lease),
            ("spheron account show --account ID", account),
            ("spheron account deposit 5 --account ID", account),
            (
                "spheron account transfer 0x1111111111111111111111111111111111111111 --account ID",
                account,
            ),
            ("spheron account operator list --account ID", account),
            (
                "spheron account operator remove 0x1111111111111111111111111111111111111111 --account ID",
                account,
            ),
            ("spheron account history --account ID", account),
            ("spheron account history --lease ID", lease),
            ("spheron order show ID", order),
            ("spheron order match ID", order),
            ("spheron order cancel ID", order),
            ("spheron order sign f.yaml --account ID", account),
            ("spheron lease show ID", lease),
            ("spheron lease logs ID", lease),
            ("spheron lease send ID", lease),
            ("spheron lease manifest ID", lease),
            ("spheron lease extend ID --for 6h", lease),
            ("spheron lease top-up ID --for 6h", lease),
            ("spheron lease update ID f.yaml", lease),
            ("spheron lease close ID", lease),
            ("spheron lease rate ID 9", lease),
            ("spheron provider close ID --reason maintenance", lease),
        ] {
            for given in ["-1", "web", "1.5", "18446744073709551616"] {
                let line = line.replace("ID", given);
                let error = Arguments::read(line.split_whitespace()).expect_err(&line).to_string();
                let value = format!("invalid value '{given}' for '");
                assert!(error.contains(&value) && error.contains(problem), "{line}: {error}");
            }
        }
    }
}
