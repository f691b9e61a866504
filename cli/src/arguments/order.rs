//! Arguments of `spheron order`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{List, ids};
use crate::dates::Moment;

#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// List orders
    #[command(after_help = "\
Examples:
  spheron order list                                        those that are open or leased
  spheron order list --all --json")]
    List(List),
    /// An order's terms and bids, and why each ranked where it did
    #[command(after_help = "\
Examples:
  spheron order show 4294967297
  spheron order show 4294967297 --json                      every score of every bid")]
    Show {
        /// The order
        #[arg(value_parser = ids::order)]
        order: u64,
    },
    /// Run the matching rule on chain for an order that no operator answered in time; anyone may, and earns its match fee
    ///
    /// Works once the response window is over and while the match window lasts. The caller pays the gas and earns the match
    /// fee.
    #[command(after_help = "\
Examples:
  spheron order match 4294967297")]
    Match {
        /// The order
        #[arg(value_parser = ids::order)]
        order: u64,
    },
    /// Take an open order back: before its close block, or when nobody answered it in time
    #[command(after_help = "\
Examples:
  spheron order cancel 4294967297")]
    Cancel {
        /// The order
        #[arg(value_parser = ids::order)]
        order: u64,
    },
    /// Sign the order of a deployment file, for somebody else to bring in: the signer pays no gas
    ///
    /// The signature covers every term, the account, a nonce and a deadline. The manifest stays in this home; once the order
    /// is in, go on with `spheron deploy --resume ORDER`. All that a key signs before one of it is brought in shares a nonce:
    /// the first that is brought in, an order or a close, makes the rest worthless.
    #[command(after_help = "\
Examples:
  spheron order sign app.yaml > order.json                  worth something for an hour
  spheron order sign app.yaml --valid 1d --account 7 --output order.json
  spheron account revoke-signature                          make it worthless before anyone brings it in")]
    Sign(SignOrder),
    /// Bring a signed order in, as the one who pays the gas
    #[command(after_help = "\
Examples:
  spheron order submit order.json --dry-run                 what it asks for, what it locks and whether it would be taken
  spheron order submit order.json")]
    Submit {
        /// What `spheron order sign` wrote; `-` is standard input
        file: PathBuf,
        /// Show its terms and what it locks; send nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SignOrder {
    /// Deployment file (ICL)
    pub(crate) file: PathBuf,
    /// Pay from this account, the key's own or one that gave it a spending right [default: the key's first]
    #[arg(long, value_name = "ID", value_parser = ids::account)]
    pub(crate) account: Option<u32>,
    /// Until when it is worth something: a time from now or a date in UTC
    #[arg(long, value_name = "WHEN", default_value = "1h")]
    pub(crate) valid: Moment,
    /// Write it to this file, in a folder that is there, instead of printing it
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
