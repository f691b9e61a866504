//! `spheron account deposit`, `withdraw` and `update-bracket`: money in and out, and what the rest entitles to.

use ::chain::network::Token;
use alloy::primitives::{Address, U256};
use alloy::rpc::types::TransactionReceipt;
use alloy::signers::local::PrivateKeySigner;
use bindings::IEscrow;
use eyre::{bail, ensure};
use serde_json::{Value, json};

use super::{Moved, show};
use crate::arguments::{Deposit, Money};
use crate::chain::{Call, read};
use crate::failure::Failure;
use crate::session::Session;
use crate::{amounts, brackets};

pub(super) async fn deposit(session: &Session<'_>, arguments: &Deposit) -> eyre::Result<()> {
    let Deposit {
        amount,
        money,
        permission,
    } = arguments;
    let token = session.token(&money.token)?;
    let units = session.units(amount, token).await?;
    if units.is_zero() {
        return Err(Failure::bad_input("an amount of zero cannot be deposited").into());
    }
    let account = session.account(money.account).await?;
    let owner = session.owner_of(account).await?;
    let signer = session.home.signer()?;
    let before = read(session.escrow().bracketOf(account, token.id)).await?;
    let calls = session
        .deposit_calls(&signer, account, token, units, *permission)
        .await?;
    let whose = if owner == signer.address() {
        String::new()
    } else {
        format!(" of {owner}")
    };
    let amount = amounts::shown(units, token);
    session
        .output
        .step(format!("depositing {amount} into account {account}{whose}"));
    let receipts = session.chain.execute(&signer, calls).await?;
    let after = read(session.escrow().bracketOf(account, token.id)).await?;
    if after != before {
        session.output.note(format!(
            "account {account} now has bracket {after} in {}, which entitles to {}",
            token.symbol,
            brackets::entitlement(after)
        ));
    } else if after == 0 {
        session.output.note(format!(
            "the account's bracket in {} is still 0: {}",
            token.symbol,
            brackets::entitlement(0)
        ));
    }
    let mut value = moved_json(units, token, &receipts);
    value["from"] = json!(signer.address());
    let moved = Moved {
        name: "deposited",
        value,
        text: format!("deposited {amount} into account {account}{whose}"),
    };
    show(session, account, Some(moved)).await
}

pub(super) async fn withdraw(
    session: &Session<'_>,
    amount: &str,
    money: &Money,
    to: Option<Address>,
) -> eyre::Result<()> {
    let token = session.token(&money.token)?;
    let account = session.account(money.account).await?;
    let signer = session.home.signer()?;
    session.require_owner(account, signer.address()).await?;
    let held = session.balance(account, token.id).await?;
    let units = match amount {
        "all" => held.unlocked,
        amount => session.units(amount, token).await?,
    };
    if units.is_zero() {
        return Err(Failure::bad_input("an amount of zero cannot be withdrawn").into());
    }
    let amount = amounts::shown(units, token);
    ensure!(
        held.unlocked >= units,
        "account {account} has {} unlocked ({} are locked for orders and leases), {amount} were asked for",
        amounts::shown(held.unlocked, token),
        amounts::shown(held.locked, token),
    );
    let to = to.unwrap_or_else(|| signer.address());
    let before = read(session.escrow().bracketOf(account, token.id)).await?;
    let call = IEscrow::withdrawCall {
        account,
        token: token.id,
        amount: units,
        to,
    };
    session.output.step(format!("withdrawing {amount} to {to}"));
    let call = Call::new("to withdraw", session.chain.network.contracts.escrow, &call);
    let receipts = session.chain.execute(&signer, vec![call]).await?;
    // The contract lowers the bracket without asking for a price. Whatever goes wrong from here on: the money is out.
    let raised = raise_bracket(session, &signer, account, token).await;
    let after = read(session.escrow().bracketOf(account, token.id)).await?;
    if let Err(error) = raised
        && after < before
    {
        session.output.note(format!(
            "the bracket could not be set from today's price ({error:#}); it is as low as the withdrawal made it until `spheron account \
             update-bracket --account {account} --token {}`",
            token.symbol
        ));
    }
    if after != before {
        session.output.note(format!(
            "bracket {after} (before: {before}): the account now entitles to {}",
            brackets::entitlement(after)
        ));
    }
    let mut value = moved_json(units, token, &receipts);
    value["to"] = json!(to);
    value["bracket_before"] = before.into();
    value["bracket"] = after.into();
    let moved = Moved {
        name: "withdrawn",
        value,
        text: format!("withdrew {amount} from account {account} to {to}"),
    };
    show(session, account, Some(moved)).await
}

/// What was moved, for programs. The last transaction is the one that did it.
fn moved_json(units: U256, token: &Token, receipts: &[TransactionReceipt]) -> Value {
    json!({
        "symbol": token.symbol,
        "amount": amounts::whole(units, token.decimals),
        "amount_units": units.to_string(),
        "transaction": receipts.last().map(|receipt| receipt.transaction_hash),
    })
}

/// Sets an account's bracket where what it holds entitles to more at today's price.
async fn raise_bracket(
    session: &Session<'_>,
    signer: &PrivateKeySigner,
    account: u32,
    token: &Token,
) -> eyre::Result<()> {
    let (escrow, held) = (session.escrow(), session.balance(account, token.id).await?);
    let (has, assessed) = tokio::try_join!(
        read(escrow.bracketOf(account, token.id)),
        session.assessed(token, held.unlocked + held.locked)
    )?;
    if !is_raised(has, assessed, &token.symbol)? {
        return Ok(());
    }
    session.output.step("setting the bracket from today's price");
    session
        .chain
        .execute(signer, vec![bracket_call(session, account, token)])
        .await?;
    Ok(())
}

/// Whether a bracket is worth setting to what was assessed.
fn is_raised(has: u8, assessed: Option<u8>, symbol: &str) -> eyre::Result<bool> {
    match assessed {
        Some(assessed) => Ok(assessed > has),
        None => bail!("the price of {symbol} cannot be used now"),
    }
}

fn bracket_call(session: &Session<'_>, account: u32, token: &Token) -> Call {
    let call = IEscrow::updateBracketCall {
        account,
        token: token.id,
    };
    Call::new("to set the bracket", session.chain.network.contracts.escrow, &call)
}

pub(super) async fn update_bracket(session: &Session<'_>, money: &Money) -> eyre::Result<()> {
    let token = session.token(&money.token)?;
    let account = session.account(money.account).await?;
    let signer = session.home.signer()?;
    let before = read(session.escrow().bracketOf(account, token.id)).await?;
    session.output.step("setting the bracket from today's price");
    session
        .chain
        .execute(&signer, vec![bracket_call(session, account, token)])
        .await?;
    let after = read(session.escrow().bracketOf(account, token.id)).await?;
    let value = json!({
        "account": account.to_string(), "symbol": token.symbol, "before": before,
        "bracket": brackets::entitlement_json(after),
    });
    let text = format!(
        "account {account} has bracket {after} in {} (before: {before}): {}",
        token.symbol,
        brackets::entitlement(after)
    );
    session.output.result(&value, &text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_is_set_only_where_that_raises_it_and_a_price_is_known() {
        assert!(is_raised(6, Some(7), "uSPON").expect("priced"));
        assert!(!is_raised(7, Some(7), "uSPON").expect("priced"));
        // A lower one is for whoever asks for it: `update-bracket`.
        assert!(!is_raised(7, Some(6), "uSPON").expect("priced"));
        let error = is_raised(0, None, "uSPON").expect_err("no price");
        assert!(error.to_string().contains("uSPON"), "{error}");
    }
}
