//! `spheron order sign` and `submit`: one signs every term, another brings the order in and pays the gas.

use std::path::Path;

use alloy::primitives::{B256, U256};
use avs::terms::Terms;
use bindings::{ILeases, IOrderBook, OrderRequest, OrderTerms};
use eyre::{OptionExt as _, WrapErr as _, bail};
use manifest::SaltedManifest;
use serde_json::json;

use crate::amounts::{self, order_lock};
use crate::arguments::SignOrder;
use crate::chain::{Call, read};
use crate::commands::deploy::{Funds, derive, note_warnings, price, read_file as read_deployment};
use crate::dates::Date;
use crate::failure::Failure;
use crate::files::{require_folder, write_result};
use crate::output::facts;
use crate::session::Session;
use crate::signatures::{Signed, read_file, shared_nonce};

pub(super) async fn sign(session: &Session<'_>, arguments: &SignOrder) -> eyre::Result<()> {
    if let Some(output) = &arguments.output {
        require_folder(output)?;
    }
    let name = arguments.file.display().to_string();
    let deployment = read_deployment(&arguments.file)?;
    note_warnings(session.output, &name, &deployment.warnings);
    let salted = SaltedManifest {
        salt: B256::from(rand::random::<[u8; 32]>()),
        manifest: deployment.manifest,
    };
    let account = session.account(arguments.account).await?;
    let derived = derive(session, &salted, &name).await?;
    let priced = price(session, &derived, account).await?;
    priced.require_bracket()?;
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
    let orders = session.orders().await?;
    orders.store_manifest(&salted)?;
    // So that the lease has its file's name, whoever brings the order in.
    let file = std::path::absolute(&arguments.file)?.display().to_string();
    orders.store_file(derived.terms.manifest_hash, &file)?;
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
    session.output.note(shared_nonce(nonce));
    match &arguments.output {
        None => session.output.line(&text),
        Some(path) => {
            write_result(path, &text)?;
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

pub(super) async fn submit(session: &Session<'_>, file: &Path, dry_run: bool) -> eyre::Result<()> {
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
    let terms = Terms::from(request.terms.clone());
    let schedule = session.fee_schedule(listed.schedule).await?;
    let lock = order_lock(terms.duration, U256::from(terms.maximum_rate), &schedule);
    let funds = Funds::of(session, request.account, request.token, &terms, lock).await?;
    if dry_run {
        return show(session, &signed, &terms, &funds).await;
    }
    // Anybody may deposit what is missing.
    funds.require()?;
    let signer = request.signer;
    session
        .require_spender(request.account, token, signer, lock)
        .await
        .wrap_err("the order would not be taken")?;
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
    let block = receipts.iter().find_map(|receipt| receipt.block_number);
    let orders = session.orders().await?;
    orders.adopt(order, terms.manifest_hash, block.unwrap_or_default())?;
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

/// What a signed order asks for and locks, without sending it.
async fn show(session: &Session<'_>, signed: &Signed<OrderRequest>, terms: &Terms, funds: &Funds) -> eyre::Result<()> {
    let (request, token, regions) = (&signed.request, &funds.token, session.regions().await?);
    let may = session
        .require_spender(request.account, token, request.signer, funds.lock)
        .await;
    let may = may.err().map(|error| format!("{error:#}"));
    let terms_json = super::terms_json(terms, token, &regions)?;
    let file = session.orders().await?.file(terms.manifest_hash)?;
    let deadline = request.deadline.saturating_to::<u64>();
    let mut value = json!({
        "signer": request.signer,
        "account": request.account.to_string(),
        "nonce": request.nonce.to_string(),
        "deadline": deadline,
        "digest": signed.digest(),
        "terms": terms_json,
        "file": file,
        "lock": amounts::whole(funds.lock, token.decimals),
        "lock_units": funds.lock.to_string(),
        "problem": may,
        "sent": false,
    });
    funds.json(&mut value);
    value["unlocked"] = value["account"]["unlocked"].take();
    value["enough"] = funds.is_enough().into();
    value["account"] = request.account.to_string().into();
    let mut lines = vec![
        ("of", format!("{}, account {}", request.signer, request.account)),
        ("until", format!("{} UTC", Date(deadline))),
        ("nonce", request.nonce.to_string()),
    ];
    lines.extend(super::terms_facts(&terms_json));
    lines.push(("manifest hash", terms.manifest_hash.to_string()));
    if let Some(file) = file {
        lines.push(("file", file));
    }
    lines.push(("locks at most", amounts::shown(funds.lock, token)));
    lines.extend(funds.facts());
    if let Some(problem) = may {
        lines.push(("its signer", problem));
    }
    session.output.result(&value, &facts(&lines));
    Ok(())
}
