//! `spheron init`: key, certificate, account and first deposit, as far as they are not there yet.

use alloy::primitives::{B256, U256};
use alloy::rpc::types::TransactionReceipt;
use bindings::{ICertificateRegistry, IEscrow};
use eyre::OptionExt as _;
use serde_json::json;

use crate::amounts;
use crate::arguments::{Init, Permission};
use crate::chain::{Call, read};
use crate::output::facts;
use crate::session::Session;

pub(super) async fn run(session: &Session<'_>, arguments: &Init) -> eyre::Result<()> {
    // Bad input is found before anything is written or sent.
    let token = session.token(&arguments.token)?;
    let wanted = match &arguments.deposit {
        Some(amount) => amounts::units(amount, token.decimals, &token.symbol)?,
        None => U256::ZERO,
    };
    let signer = session.home.initialise_key(arguments.key.as_deref())?;
    let identity = session.home.initialise_identity()?;
    let (owner, fingerprint) = (signer.address(), B256::from(identity.fingerprint()));
    let contracts = &session.chain.network.contracts;

    session
        .output
        .step("looking for the certificate and the account on chain");
    let certificates = ICertificateRegistry::new(contracts.certificate_registry, &session.chain.provider);
    let (published, account) = tokio::try_join!(read(certificates.fingerprints(owner)), session.own_account(owner))?;

    let mut calls = Vec::new();
    if published.current != fingerprint && published.next != fingerprint {
        let publish = ICertificateRegistry::publishCall {
            current: fingerprint,
            next: B256::ZERO,
        };
        calls.push(Call::new(
            "to publish the certificate",
            contracts.certificate_registry,
            &publish,
        ));
    }
    if account.is_none() {
        calls.push(Call::new(
            "to open an account",
            contracts.escrow,
            &IEscrow::openCall { owner },
        ));
    }
    if !calls.is_empty() {
        session.output.step("publishing the certificate and opening an account");
    }
    let receipts = session.chain.execute(&signer, calls).await?;
    let account = match account {
        Some(account) => account,
        None => opened(&receipts)?,
    };

    let held = session.balance(account, token.id).await?.unlocked;
    if held < wanted {
        session
            .output
            .step(format!("depositing {}", amounts::shown(wanted - held, token)));
        let calls = session
            .deposit_calls(&signer, account, token, wanted - held, Permission::default())
            .await?;
        session.chain.execute(&signer, calls).await?;
    }
    let unlocked = held.max(wanted);
    let value = json!({
        "address": owner,
        "fingerprint": fingerprint,
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

/// The account that was opened in one of these transactions.
pub(super) fn opened(receipts: &[TransactionReceipt]) -> eyre::Result<u32> {
    receipts
        .iter()
        .find_map(|receipt| receipt.decoded_log::<IEscrow::AccountOpened>())
        .map(|event| event.account)
        .ok_or_eyre("the transaction that opens an account logged none; is the network file right?")
}
