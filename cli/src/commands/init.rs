//! `spheron init`: key, certificate, account and first deposit, as far as they are not there yet.

use alloy::primitives::{B256, U256};
use alloy::rpc::types::TransactionReceipt;
use bindings::{ICertificateRegistry, IEscrow};
use eyre::OptionExt as _;
use gateway::{Fingerprint, PinnedFingerprints};
use serde_json::json;

use crate::amounts;
use crate::arguments::{Init, Permission};
use crate::chain::Call;
use crate::failure::Failure;
use crate::output::facts;
use crate::session::Session;

pub(super) async fn run(session: &Session<'_>, arguments: &Init) -> eyre::Result<()> {
    // Bad input is found before anything is written or sent.
    let token = session.token(&arguments.token)?;
    let wanted = match &arguments.deposit {
        Some(amount) => session.units(amount, token).await?,
        None => U256::ZERO,
    };
    let signer = session.home.initialise_key(arguments.key.as_deref())?;
    let identity = session.home.initialise_identity()?;
    let (owner, fingerprint) = (signer.address(), identity.fingerprint());
    let contracts = &session.chain.network.contracts;

    session
        .output
        .step("looking for the certificate and the account on chain");
    let (published, account) = tokio::try_join!(session.published_by(owner), session.own_account(owner))?;
    let publish = publication(published, &fingerprint, arguments.replace_certificate).map_err(|other| {
        Failure::bad_input(format!(
            "{owner} has published another certificate, {other}; this home's is {fingerprint}. A home or a provider's agent that uses \
             the published one would be out: copy its identity.pem to {}, or replace what is published with `spheron init \
             --replace-certificate`; nothing was sent",
            session.home.folder().display()
        ))
    })?;
    let held = match account {
        Some(account) => session.balance(account, token.id).await?.unlocked,
        None => U256::ZERO,
    };
    let missing = wanted.saturating_sub(held);
    let deposit = async |account: u32| {
        session
            .deposit_calls(&signer, account, token, missing, Permission::default())
            .await
    };
    if !missing.is_zero() {
        // What cannot be deposited is told before anything is sent, when there may be no account yet.
        deposit(account.unwrap_or_default()).await?;
    }

    let (mut calls, mut steps) = (Vec::new(), Vec::new());
    if let Publication::InPlaceOf(other) = publish {
        session
            .output
            .note(format!("the certificate {other} will act for {owner} no more"));
    }
    if publish != Publication::None {
        let publish = ICertificateRegistry::publishCall {
            current: fingerprint.into(),
            next: B256::ZERO,
        };
        steps.push("publishing the certificate");
        calls.push(Call::new(
            "to publish the certificate",
            contracts.certificate_registry,
            &publish,
        ));
    }
    if account.is_none() {
        steps.push("opening an account");
        calls.push(Call::new(
            "to open an account",
            contracts.escrow,
            &IEscrow::openCall { owner },
        ));
    }
    if !steps.is_empty() {
        session.output.step(steps.join(" and "));
    }
    let receipts = session.chain.execute(&signer, calls).await?;
    let account = match account {
        Some(account) => account,
        None => opened(&receipts)?,
    };
    if !missing.is_zero() {
        session
            .output
            .step(format!("depositing {}", amounts::shown(missing, token)));
        session.chain.execute(&signer, deposit(account).await?).await?;
    }
    let unlocked = held.max(wanted);
    let value = json!({
        "address": owner,
        "certificate": fingerprint.to_string(),
        "account": account.to_string(),
        "home": session.home.folder(),
        "network": session.chain.network.name,
        "token": token.symbol,
        "unlocked": amounts::whole(unlocked, token.decimals),
    });
    let text = facts(&[
        ("address", owner.to_string()),
        ("certificate", fingerprint.to_string()),
        ("account", account.to_string()),
        ("unlocked", amounts::shown(unlocked, token)),
        ("home", session.home.folder().display().to_string()),
    ]);
    session.output.result(&value, &text);
    Ok(())
}

/// What `init` does about a home's certificate.
#[derive(Debug, PartialEq, Eq)]
enum Publication {
    /// It is published already, alone or beside another one.
    None,
    /// The key has none.
    First,
    /// Nothing is left of these.
    InPlaceOf(PinnedFingerprints),
}

/// What a key published stays published, since somebody relies on it, unless its user says otherwise. Fails with what is there.
fn publication(
    published: Option<PinnedFingerprints>,
    own: &Fingerprint,
    replace: bool,
) -> Result<Publication, PinnedFingerprints> {
    match published {
        None => Ok(Publication::First),
        Some(published) if published.contains(own) => Ok(Publication::None),
        Some(published) if replace => Ok(Publication::InPlaceOf(published)),
        Some(published) => Err(published),
    }
}

/// The account that was opened in one of these transactions.
pub(super) fn opened(receipts: &[TransactionReceipt]) -> eyre::Result<u32> {
    receipts
        .iter()
        .find_map(|receipt| receipt.decoded_log::<IEscrow::AccountOpened>())
        .map(|event| event.account)
        .ok_or_eyre("the transaction that opens an account logged none; is the network file right?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_stays_published_unless_it_is_to_be_replaced() {
        let [own, other, next] = [1, 2, 3].map(B256::repeat_byte);
        let fingerprint = Fingerprint::from(own);
        let published = |current, next| PinnedFingerprints::from_chain(current, next);
        for replace in [false, true] {
            let decided = |published| publication(published, &fingerprint, replace);
            assert_eq!(decided(None), Ok(Publication::First));
            for mine in [published(own, B256::ZERO), published(own, next), published(other, own)] {
                assert_eq!(decided(mine), Ok(Publication::None), "{mine:?} loses nothing");
            }
        }
        for (foreign, named) in [
            (published(other, B256::ZERO), vec![other]),
            (published(other, next), vec![other, next]),
        ] {
            let found = publication(foreign, &fingerprint, false).expect_err("another home's");
            for part in named {
                assert!(found.to_string().contains(&part.to_string()), "{found}");
            }
            assert_eq!(
                publication(foreign, &fingerprint, true),
                Ok(Publication::InPlaceOf(found))
            );
        }
    }
}
