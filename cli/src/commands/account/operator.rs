//! `spheron account operator`: who may spend of an account.

use alloy::primitives::aliases::{U40, U112};
use alloy::primitives::{Address, B256};
use bindings::{ICertificateRegistry, IEscrow, SpendingRight};
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
            certificate,
            money,
        } => {
            let right = Wanted {
                spender: *spender,
                limit,
                expires: *expires,
                may_close: *may_close,
                certificate: *certificate,
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
    certificate: Option<B256>,
}

async fn add(session: &Session<'_>, wanted: Wanted<'_>, money: &Money) -> eyre::Result<()> {
    let Wanted {
        spender,
        limit,
        expires,
        may_close,
        certificate,
    } = wanted;
    let token = session.token(&money.token)?;
    let units = amounts::units(limit, token.decimals, &token.symbol)?;
    let limit = U112::checked_from_limbs_slice(units.as_limbs()).filter(|limit| !limit.is_zero());
    let limit = limit.ok_or_else(|| {
        Failure::bad_input("a limit is more than zero and fits the account; `operator remove` takes a right back")
    })?;
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
    let mut calls = vec![Call::new(
        "to grant the right",
        session.chain.network.contracts.escrow,
        &call,
    )];
    if let Some(fingerprint) = certificate {
        calls.extend(publication(session, signer.address(), fingerprint).await?);
    }
    session.output.step(format!("granting {spender} a spending right"));
    session.chain.execute(&signer, calls).await?;
    let granted = Right {
        spender,
        token: token.id,
        right,
    };
    let value = json!({"account": account.to_string(), "spending_right": granted.json(token, now)});
    let close = if may_close {
        ", and close what is ordered in it"
    } else {
        ""
    };
    let text = format!(
        "{spender} may lock {} of account {account} until {} UTC{close}\nit deploys with `spheron deploy FILE --account \
         {account}`; the right ends when the account changes hands",
        amounts::shown(units, token),
        Date(expiry)
    );
    session.output.result(&value, &text);
    Ok(())
}

/// The call that lets another certificate act for the key, unless it may already.
async fn publication(session: &Session<'_>, key: Address, fingerprint: B256) -> eyre::Result<Option<Call>> {
    let registry = session.chain.network.contracts.certificate_registry;
    let published = read(ICertificateRegistry::new(registry, &session.chain.provider).fingerprints(key)).await?;
    if published.current == fingerprint || published.next == fingerprint {
        return Ok(None);
    }
    ensure!(
        !published.current.is_zero(),
        "{key} has no certificate on chain; run `spheron init` first"
    );
    if !published.next.is_zero() {
        session
            .output
            .note(format!("the certificate {} acts for {key} no more", published.next));
    }
    let publish = ICertificateRegistry::publishCall {
        current: published.current,
        next: fingerprint,
    };
    Ok(Some(Call::new("to publish the certificate", registry, &publish)))
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
    use alloy::primitives::U256;

    use super::*;

    #[test]
    fn limits_fit_their_field_or_are_refused() {
        let fits = |units: U256| U112::checked_from_limbs_slice(units.as_limbs()).is_some();
        assert!(fits((U256::from(1) << 112) - U256::ONE));
        assert!(!fits(U256::from(1) << 112));
        assert!(!fits(U256::MAX));
    }
}
