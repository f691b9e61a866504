//! `spheron account`: open, deposit, withdraw, show.

use bindings::IEscrow;
use eyre::ensure;
use serde_json::{Value, json};

use super::init::opened;
use crate::amounts;
use crate::arguments::{Account, Money};
use crate::chain::Call;
use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;

pub(super) async fn run(session: &Session<'_>, arguments: &Account) -> eyre::Result<()> {
    match arguments {
        Account::Open => open(session).await,
        Account::Deposit { amount, money } => deposit(session, amount, money).await,
        Account::Withdraw { amount, money, to } => withdraw(session, amount, money, *to).await,
        Account::Show { account } => {
            let account = session.account(*account).await?;
            show(session, account).await
        }
    }
}

async fn open(session: &Session<'_>) -> eyre::Result<()> {
    let signer = session.home.signer()?;
    let owner = signer.address();
    let call = Call::new(
        "to open an account",
        session.chain.network.contracts.escrow,
        &IEscrow::openCall { owner },
    );
    session.output.step("opening an account");
    let account = opened(&session.chain.execute(&signer, vec![call]).await?)?;
    let value = json!({"account": account.to_string(), "owner": owner});
    session.output.result(&value, &format!("account {account}"));
    Ok(())
}

async fn deposit(session: &Session<'_>, amount: &str, money: &Money) -> eyre::Result<()> {
    let token = session.token(&money.token)?;
    let units = amounts::units(amount, token.decimals, &token.symbol)?;
    if units.is_zero() {
        return Err(Failure::bad_input("an amount of zero cannot be deposited").into());
    }
    let account = session.account(money.account).await?;
    let signer = session.home.signer()?;
    let calls = session
        .deposit_calls(signer.address(), account, &token.symbol, units)
        .await?;
    session.output.step(format!(
        "depositing {} into account {account}",
        amounts::shown(units, token)
    ));
    session.chain.execute(&signer, calls).await?;
    show(session, account).await
}

async fn withdraw(
    session: &Session<'_>,
    amount: &str,
    money: &Money,
    to: Option<alloy::primitives::Address>,
) -> eyre::Result<()> {
    let token = session.token(&money.token)?;
    let units = amounts::units(amount, token.decimals, &token.symbol)?;
    if units.is_zero() {
        return Err(Failure::bad_input("an amount of zero cannot be withdrawn").into());
    }
    let account = session.account(money.account).await?;
    let signer = session.home.signer()?;
    session.require_owner(account, signer.address()).await?;
    let held = session.balance(account, token.id).await?;
    ensure!(
        held.unlocked >= units,
        "account {account} has {} unlocked ({} are locked for orders and leases), {} were asked for",
        amounts::shown(held.unlocked, token),
        amounts::shown(held.locked, token),
        amounts::shown(units, token)
    );
    let to = to.unwrap_or_else(|| signer.address());
    let call = IEscrow::withdrawCall {
        account,
        token: token.id,
        amount: units,
        to,
    };
    session
        .output
        .step(format!("withdrawing {} to {to}", amounts::shown(units, token)));
    let call = Call::new("to withdraw", session.chain.network.contracts.escrow, &call);
    session.chain.execute(&signer, vec![call]).await?;
    show(session, account).await
}

async fn show(session: &Session<'_>, account: u32) -> eyre::Result<()> {
    let value = session.account_json(account).await?;
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut rows = vec![
        ["TOKEN", "UNLOCKED", "LOCKED", "IN THE WALLET"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for token in value["tokens"].as_array().into_iter().flatten() {
        rows.push(
            ["symbol", "unlocked", "locked", "wallet"]
                .map(|name| text(token, name))
                .to_vec(),
        );
    }
    let shown = format!("account {account} of {}\n\n{}", text(&value, "owner"), table(&rows));
    session.output.result(&value, &shown);
    Ok(())
}
