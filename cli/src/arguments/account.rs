//! Arguments of `spheron account`.

use alloy::primitives::Address;
use clap::{ArgGroup, Args, Subcommand};

use super::ids;
use crate::dates::Moment;

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Open another account
    #[command(after_help = "\
Examples:
  spheron account open                      another account of this key
  spheron account open --for 0x1234…        one that belongs to somebody else from the start")]
    Open {
        /// Its owner [default: the key]
        #[arg(long = "for", value_name = "ADDRESS")]
        owner: Option<Address>,
    },
    /// The accounts of an owner, with what they hold
    #[command(after_help = "\
Examples:
  spheron account list
  spheron account list --owner 0x1234… --json")]
    List {
        /// The owner [default: the key]
        #[arg(long, value_name = "ADDRESS")]
        owner: Option<Address>,
    },
    /// What an account holds, what it entitles to, what runs on it and who may spend it
    #[command(after_help = "\
Examples:
  spheron account show                      the key's first account
  spheron account show --account 7 --json   anybody's")]
    Show {
        /// The account [default: the key's first]
        #[arg(long, value_name = "ID", value_parser = ids::account)]
        account: Option<u32>,
    },
    /// Move tokens of the key into an account, its own or anybody's
    #[command(after_help = "\
Examples:
  spheron account deposit 100                        approve and deposit: two transactions
  spheron account deposit 100 --token SPON --permit  one transaction, the approval is signed (ERC-2612)
  spheron account deposit 100 --permit2              signed through Permit2; the first time Permit2 is approved
  spheron account deposit 25 --account 7             into somebody else's account")]
    Deposit(Deposit),
    /// Move unlocked tokens out; only the account's owner may
    ///
    /// It lowers the bracket; where what is left entitles to more at today's price, that is set in a second transaction.
    #[command(after_help = "\
Examples:
  spheron account withdraw 12.5
  spheron account withdraw all --token SPON --to 0x1234…")]
    Withdraw {
        /// Whole tokens, or `all` that is unlocked
        amount: String,
        #[command(flatten)]
        money: Money,
        /// Receiver [default: the key's address]
        #[arg(long, value_name = "ADDRESS")]
        to: Option<Address>,
    },
    /// Hand an account over with its money, orders and leases; its spending rights end
    ///
    /// Without --yes it only shows what goes along.
    #[command(after_help = "\
Examples:
  spheron account transfer 0x1234… --account 7          what would go along, nothing is sent
  spheron account transfer 0x1234… --account 7 --yes")]
    Transfer {
        /// The new owner
        to: Address,
        /// The account
        #[arg(long, value_name = "ID", value_parser = ids::account)]
        account: u32,
        /// Send it: this cannot be taken back
        #[arg(long)]
        yes: bool,
    },
    /// Spending rights: who may order and extend with an account's money
    #[command(subcommand)]
    Operator(Operator),
    /// Every payment and fee of an account, and sums that must agree with what the chain says it holds
    #[command(after_help = "\
Examples:
  spheron account history
  spheron account history --since 7d --token uSPON
  spheron account history --lease 4294967297 --json   who did what, with whole transaction hashes")]
    History(History),
    /// Set what an account is entitled to from today's price; anyone may
    ///
    /// A deposit sets it; a price that rose since, one that could not be used then, or a withdrawal that was interrupted is why to
    /// do it again. `account show` says where that raises it.
    #[command(after_help = "\
Examples:
  spheron account update-bracket
  spheron account update-bracket --account 7 --token SPON")]
    UpdateBracket {
        #[command(flatten)]
        money: Money,
    },
    /// What the market owes the key (match fees, leases it served), and take it out
    #[command(after_help = "\
Examples:
  spheron account credits
  spheron account credits --withdraw --token uSPON")]
    Credits {
        /// Symbol of the payment token [default: all]
        #[arg(long, value_name = "SYMBOL")]
        token: Option<String>,
        /// Send what is owed to the key, or to --to
        #[arg(long)]
        withdraw: bool,
        /// Receiver [default: the key's address]
        #[arg(long, value_name = "ADDRESS", requires = "withdraw")]
        to: Option<Address>,
    },
    /// Make the next order or close that the key signs, or has signed and nobody brought in yet, worthless
    #[command(after_help = "\
Examples:
  spheron account revoke-signature          what `order sign` or `lease close --sign` gave away counts no more")]
    RevokeSignature,
}

#[derive(Debug, Args)]
pub(crate) struct Deposit {
    /// Whole tokens
    pub(crate) amount: String,
    #[command(flatten)]
    pub(crate) money: Money,
    #[command(flatten)]
    pub(crate) permission: Permission,
}

/// How the escrow is allowed to take the tokens.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(group = ArgGroup::new("permission"))]
pub(crate) struct Permission {
    /// Sign the approval (ERC-2612) instead of sending one; the token must know it
    #[arg(long, group = "permission")]
    pub(crate) permit: bool,
    /// Sign a Permit2 transfer; works with every token
    #[arg(long, group = "permission")]
    pub(crate) permit2: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Money {
    /// Symbol of the payment token
    #[arg(long, value_name = "SYMBOL", default_value = "uSPON")]
    pub(crate) token: String,
    /// The account [default: the key's first]
    #[arg(long, value_name = "ID", value_parser = ids::account)]
    pub(crate) account: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Operator {
    /// Let an address order and extend with the account's money, up to a limit; replaces the right it had
    ///
    /// What is called an operator of the account here is a spender to the contracts and in `--json`: it holds a spending right.
    /// It deploys from a home of its own (`spheron init` there publishes its certificate). While the right lives, providers show it
    /// whatever runs on the account in that token: who should not see it all gets an account of its own (`spheron account open`).
    #[command(after_help = "\
Examples:
  spheron account operator add 0x1234… --limit 50 --expires 30d
  spheron account operator add 0x1234… --limit 50 --token SPON --expires 2027-01-31 --may-close
  spheron account operator add 0x1234… --limit 0 --may-close --expires 2h")]
    Add {
        /// Who may spend
        spender: Address,
        /// Whole tokens it may lock in all; what comes back from a lease does not raise it. 0 with --may-close for closing alone
        #[arg(long, value_name = "AMOUNT")]
        limit: String,
        /// Until when: a time from now (30d) or a date in UTC (2027-01-31, 2027-01-31T12:00:00Z)
        #[arg(long, value_name = "WHEN", default_value = "30d")]
        expires: Moment,
        /// It may also cancel orders, and close and update leases, in that token
        #[arg(long)]
        may_close: bool,
        #[command(flatten)]
        money: Money,
    },
    /// Take a spending right back
    #[command(after_help = "\
Examples:
  spheron account operator remove 0x1234…
  spheron account operator remove 0x1234… --token SPON --account 7")]
    Remove {
        /// Whose right
        spender: Address,
        /// Symbol of the payment token [default: all]
        #[arg(long, value_name = "SYMBOL")]
        token: Option<String>,
        /// The account [default: the key's first]
        #[arg(long, value_name = "ID", value_parser = ids::account)]
        account: Option<u32>,
    },
    /// Spending rights that are left
    #[command(after_help = "\
Examples:
  spheron account operator list
  spheron account operator list --account 7 --json")]
    List {
        /// The account [default: the key's first]
        #[arg(long, value_name = "ID", value_parser = ids::account)]
        account: Option<u32>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The account [default: the key's first]
    #[arg(long, value_name = "ID", value_parser = ids::account)]
    pub(crate) account: Option<u32>,
    /// One lease (or order) only
    #[arg(long, visible_alias = "order", value_name = "LEASE", value_parser = ids::lease)]
    pub(crate) lease: Option<u64>,
    /// One payment token only
    #[arg(long, value_name = "SYMBOL")]
    pub(crate) token: Option<String>,
    /// Only what happened since: a time until now (7d) or a date in UTC (2027-01-31); the sums are of all
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Moment>,
}
