//! `spheron account operator`: who may spend of an account.

use ::chain::network::Token;
use alloy::primitives::aliases::{U40, U112};
use alloy::primitives::{Address, U256};
use bindings::{IEscrow, SpendingRight};
use eyre::ensure;
use serde_json::json;

use super::{rights_json, rights_table};
use crate::accounts::Right;
use crate::amounts;
use crate::arguments::{Money, Operator};
use crate::chain::{Call, read};
use crate::dates::{Date, Moment};
use crate::failure::Failure;
use crate::session::Session;

pub(super) async fn run(session: &Session<'_>, arguments: &Operator) -> eyre::Result<()> {
    match arguments {
        Operator::Add {
            spender,
            limit,
            expires,
            may_close,
            money,
        } => {
            let right = Wanted {
                spender: *spender,
                limit,
                expires: *expires,
                may_close: *may_close,
            };
            add(session, right, money).await
        }
        Operator::Remove {
            spender,
            token,
            account,
        } => {
            let account = session.account(*account).await?;
            remove(session, *spender, token.as_deref(), account).await
        }
        Operator::List { account } => {
            let account = session.account(*account).await?;
            list(session, account).await
        }
    }
}

/// The right that is asked for.
struct Wanted<'a> {
    spender: Address,
    limit: &'a str,
    expires: Moment,
    may_close: bool,
}

async fn add(session: &Session<'_>, wanted: Wanted<'_>, money: &Money) -> eyre::Result<()> {
    let Wanted {
        spender,
        limit,
        expires,
        may_close,
    } = wanted;
    let token = session.token(&money.token)?;
    let units = session.units(limit, token).await?;
    let limit = limit_of(units, token, may_close)?;
    if spender == Address::ZERO {
        return Err(Failure::bad_input("the zero address has no key: nobody could spend with that right").into());
    }
    let account = session.account(money.account).await?;
    let (signer, (_, now)) = (session.home.signer()?, session.chain.head().await?);
    session.require_owner(account, signer.address()).await?;
    if spender == signer.address() {
        return Err(Failure::bad_input("the owner may spend everything already; name another address").into());
    }
    let expiry = expires.after(now);
    if expiry <= now || expiry >= 1 << 40 {
        return Err(Failure::bad_input(format!("{} is no time to come", Date(expiry))).into());
    }
    let before = read(session.escrow().spendingRight(account, spender, token.id)).await?;
    let replaced = is_right(&before).then_some(Right {
        spender,
        token: token.id,
        right: before,
    });
    let right = SpendingRight {
        limit,
        expiry: U40::from(expiry),
        mayClose: may_close,
    };
    let call = IEscrow::setSpendingRightCall {
        account,
        spender,
        token: token.id,
        right: right.clone(),
    };
    let grant = Call::new("to grant the right", session.chain.network.contracts.escrow, &call);
    session.output.step(format!("granting {spender} a spending right"));
    session.chain.execute(&signer, vec![grant]).await?;
    let granted = Right {
        spender,
        token: token.id,
        right,
    };
    let value = json!({
        "account": account.to_string(),
        "spending_right": granted.json(token, now),
        "replaced": replaced.as_ref().map(|right| right.json(token, now)),
    });
    let instead = replaced.map_or_else(String::new, |right| instead_of(&right, token, now));
    let text = format!(
        "{spender} may {} until {} UTC{instead}\nit deploys with `spheron deploy FILE --account \
         {account}` from a home of its own (`spheron init`), and while its right lives providers show it whatever runs on the account in \
         {}; the right ends when the account changes hands",
        allowed(units, may_close, account, token),
        Date(expiry),
        token.symbol
    );
    session.output.result(&value, &text);
    Ok(())
}

/// What a right is to.
fn allowed(units: U256, may_close: bool, account: u32, token: &Token) -> String {
    let amount = amounts::shown(units, token);
    match (units.is_zero(), may_close) {
        (true, _) => format!(
            "lock nothing of account {account}, and close what is ordered in {}",
            token.symbol
        ),
        (false, true) => format!("lock {amount} of account {account} and close what is ordered in it"),
        (false, false) => format!("lock {amount} of account {account}"),
    }
}

/// A limit as the contract counts it. Without one, a right is to closing alone.
fn limit_of(units: U256, token: &Token, may_close: bool) -> Result<U112, Failure> {
    if units.is_zero() && !may_close {
        let problem = "a spending right to lock nothing is none: give a higher --limit, or add --may-close for one that only closes; \
                       `spheron account operator remove` takes one back";
        return Err(Failure::bad_input(problem));
    }
    U112::checked_from_limbs_slice(units.as_limbs()).ok_or_else(|| {
        Failure::bad_input(format!(
            "a limit of {} is more than an account can hold; the highest is {}",
            amounts::shown(units, token),
            amounts::shown(U256::from(U112::MAX), token)
        ))
    })
}

/// Whether there is anything to a right.
fn is_right(right: &SpendingRight) -> bool {
    !right.limit.is_zero() || right.mayClose
}

/// What a new right took the place of.
fn instead_of(replaced: &Right, token: &Token, now: u64) -> String {
    let over = if replaced.expiry() <= now {
        ", which is over"
    } else {
        ""
    };
    let close = if replaced.right.mayClose {
        " and the right to close"
    } else {
        ""
    };
    format!(
        "\nthis replaces the right that it had: {} left until {} UTC{over}{close}; updates that it proposed and no provider took yet fall",
        amounts::shown(U256::from(replaced.right.limit), token),
        Date(replaced.expiry())
    )
}

async fn remove(session: &Session<'_>, spender: Address, token: Option<&str>, account: u32) -> eyre::Result<()> {
    let signer = session.home.signer()?;
    session.require_owner(account, signer.address()).await?;
    let wanted = token
        .map(|symbol| session.token(symbol))
        .transpose()?
        .map(|token| token.id);
    let rights = session.rights(account).await?;
    let taken: Vec<&Right> = rights
        .iter()
        .filter(|right| right.spender == spender && wanted.is_none_or(|token| token == right.token))
        .collect();
    ensure!(
        !taken.is_empty(),
        "{spender} has no such right in account {account}; see `spheron account operator list --account {account}`"
    );
    let calls = taken.iter().map(|right| {
        let call = IEscrow::setSpendingRightCall {
            account,
            spender,
            token: right.token,
            right: SpendingRight {
                limit: U112::ZERO,
                expiry: U40::ZERO,
                mayClose: false,
            },
        };
        Call::new("to take the right back", session.chain.network.contracts.escrow, &call)
    });
    session.output.step(format!("taking the rights of {spender} back"));
    session.chain.execute(&signer, calls.collect()).await?;
    let tokens: Result<Vec<&str>, _> = taken
        .iter()
        .map(|right| session.token_by_id(right.token).map(|token| token.symbol.as_str()))
        .collect();
    let tokens = tokens?;
    let value = json!({"account": account.to_string(), "spender": spender, "removed": tokens});
    let text = format!(
        "{spender} may spend no more of account {account} in {}",
        tokens.join(", ")
    );
    session.output.result(&value, &text);
    Ok(())
}

async fn list(session: &Session<'_>, account: u32) -> eyre::Result<()> {
    let owner = session.owner_of(account).await?;
    let (rights, (_, now)) = tokio::try_join!(session.rights(account), session.chain.head())?;
    let value = json!({
        "account": account.to_string(), "owner": owner, "spending_rights": rights_json(session, &rights, now)?,
    });
    let shown = if rights.is_empty() {
        format!("only its owner {owner} may spend of account {account}")
    } else {
        rights_table(session, &rights, now)?
    };
    session.output.result(&value, &shown);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            id: 1,
            symbol: "uSPON".to_owned(),
            address: Address::ZERO,
            decimals: 6,
        }
    }

    #[test]
    fn limits_fit_their_field_or_are_refused_with_what_is_wrong() {
        let refused = |units| limit_of(units, &token(), false).expect_err("refused").to_string();
        assert!(limit_of(U256::from(U112::MAX), &token(), false).is_ok());
        let told = refused(U256::from(1) << 112);
        assert!(
            told.contains("is more than an account can hold") && told.contains(" uSPON"),
            "{told}"
        );
        assert!(refused(U256::MAX).contains("is more than"));
        assert!(refused(U256::ZERO).contains("operator remove"));
    }

    #[test]
    fn a_right_may_be_to_closing_alone() {
        assert!(limit_of(U256::ZERO, &token(), true).is_ok_and(|limit| limit.is_zero()));
        let told = |units, may_close| allowed(U256::from(units), may_close, 7, &token());
        assert_eq!(
            told(0, true),
            "lock nothing of account 7, and close what is ordered in uSPON"
        );
        assert_eq!(told(2_500_000, false), "lock 2.5 uSPON of account 7");
        assert_eq!(
            told(2_500_000, true),
            "lock 2.5 uSPON of account 7 and close what is ordered in it"
        );
    }

    #[test]
    fn a_right_that_is_replaced_is_told_with_what_was_left_of_it() {
        let replaced = Right {
            spender: Address::repeat_byte(1),
            token: 1,
            right: SpendingRight {
                limit: U112::from(2_500_000),
                expiry: U40::from(1_801_396_800_u64),
                mayClose: true,
            },
        };
        let told = instead_of(&replaced, &token(), 1_700_000_000);
        assert!(
            told.contains("2.5 uSPON left until 2027-01-31 12:00:00 UTC and the right to close;"),
            "{told}"
        );
        assert!(instead_of(&replaced, &token(), 1_801_396_800).contains("which is over"));
    }
}
