//! `spheron order sign` and `submit`: one signs every term, another brings the order in and pays the gas.

use std::path::Path;

use alloy::primitives::{B256, U256};
use bindings::{ILeases, IOrderBook, OrderRequest, OrderTerms};
use eyre::{OptionExt as _, bail, ensure};
use manifest::SaltedManifest;
use serde_json::json;

use crate::amounts::{self, order_lock};
use crate::arguments::SignOrder;
use crate::chain::{Call, read};
use crate::commands::deploy::{derive, note_warnings, price, read_file as read_deployment, require_bracket};
use crate::dates::Date;
use crate::failure::Failure;
use crate::files::write_private;
use crate::output::facts;
use crate::session::Session;
use crate::signatures::{Signed, read_file};

pub(super) async fn sign(session: &Session<'_>, arguments: &SignOrder) -> eyre::Result<()> {
    let name = arguments.file.display().to_string();
    let deployment = read_deployment(&arguments.file)?;
    note_warnings(session.output, &name, &deployment.warnings);
    let salted = SaltedManifest {
        salt: B256::from(rand::random::<[u8; 32]>()),
        manifest: deployment.manifest,
    };
    let account = session.account(arguments.account).await?;
    let derived = derive(session, &salted, &name).await?;
    require_bracket(session, account, &derived).await?;
    let priced = price(session, &derived, account).await?;
    let key = session.home.signer()?;
    let token = session.token_by_id(derived.token)?;
    session
        .require_spender(account, token, key.address(), priced.lock())
        .await?;
    let (nonce, now) = session.signing_nonce(key.address()).await?;
    let listed = read(session.escrow().tokenOf(derived.token)).await?;
    let deadline = arguments.valid.after(now);
    if deadline <= now {
        bail!(Failure::bad_input(format!("{} is no time to come", Date(deadline))));
    }
    // Without its manifest the lease would be worth nothing.
    session.orders().await?.store_manifest(&salted)?;
    let request = OrderRequest {
        signer: key.address(),
        account,
        token: derived.token,
        bidWindow: 0,
        feeSchedule: listed.schedule,
        terms: OrderTerms::try_from(&derived.terms)?,
        nonce,
        deadline: U256::from(deadline),
    };
    let signed = session.sign(request, &key)?;
    let text = serde_json::to_string_pretty(&signed)?;
    session.output.note(format!(
        "until {} UTC anybody may bring this order in, which locks up to {} of account {account}: spheron order submit FILE",
        Date(deadline),
        amounts::shown(priced.lock(), token)
    ));
    match &arguments.output {
        None => session.output.line(&text),
        Some(path) => {
            write_private(path, text.as_bytes())?;
            let value = json!({
                "file": path, "signer": key.address(), "account": account.to_string(), "nonce": nonce.to_string(),
                "deadline": deadline, "digest": signed.digest(),
            });
            session
                .output
                .result(&value, &format!("signed order in {}", path.display()));
        }
    }
    Ok(())
}

pub(super) async fn submit(session: &Session<'_>, file: &Path) -> eyre::Result<()> {
    let signed = Signed::<OrderRequest>::parse(&read_file(file)?)?;
    session.check_signed(&signed).await?;
    let request = &signed.request;
    let token = session.token_by_id(request.token)?;
    let listed = read(session.escrow().tokenOf(request.token)).await?;
    if listed.schedule != request.feeSchedule {
        bail!(Failure::bad_input(format!(
            "the fees of {} have changed since the order was signed (schedule {}, now {}); have {} sign it again",
            token.symbol, request.feeSchedule, listed.schedule, request.signer
        )));
    }
    let (schedule, held) = tokio::try_join!(
        session.fee_schedule(listed.schedule),
        session.balance(request.account, request.token)
    )?;
    let lock = order_lock(request.terms.duration, U256::from(request.terms.maximumRate), &schedule);
    ensure!(
        held.unlocked >= lock,
        "account {} has {} unlocked, the order locks up to {}; anybody may deposit the rest: spheron account deposit {} --account {} \
         --token {}",
        request.account,
        amounts::shown(held.unlocked, token),
        amounts::shown(lock, token),
        amounts::whole(lock - held.unlocked, token.decimals),
        request.account,
        token.symbol
    );
    let call = ILeases::createOrderForCall {
        request: request.clone(),
        signature: signed.signature.clone(),
    };
    let call = Call::new(
        "to bring the order in",
        session.chain.network.contracts.order_book,
        &call,
    );
    session
        .output
        .step(format!("bringing in the order of {}", request.signer));
    let receipts = session.chain.execute(&session.home.signer()?, vec![call]).await?;
    let created = receipts
        .iter()
        .find_map(|receipt| receipt.decoded_log::<IOrderBook::OrderCreated>())
        .ok_or_eyre("the transaction that creates the order logged none; is the network file right?")?;
    let order = created.orderId;
    let value = json!({
        "order": order.to_string(),
        "signer": request.signer,
        "account": request.account.to_string(),
        "close_block": created.closeBlock,
        "lock": amounts::whole(lock, token.decimals),
        "lock_units": lock.to_string(),
    });
    let text = facts(&[
        ("order", order.to_string()),
        ("of", format!("{}, account {}", request.signer, request.account)),
        ("takes bids until", format!("block {}", created.closeBlock)),
        ("locked", amounts::shown(lock, token)),
        ("its signer goes on", format!("spheron deploy --resume {order}")),
    ]);
    session.output.result(&value, &text);
    Ok(())
}
