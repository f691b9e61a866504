//! `spheron deploy`: order what a file asks for and wait until it runs; resumable at every step.

mod funds;

use std::cell::Cell;
use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use alloy::primitives::{B256, U256};
use alloy::signers::local::PrivateKeySigner;
use avs::words::OrderId;
use bindings::{FeeSchedule, IEscrow, IOrderBook, OrderState, OrderTerms};
use daemon::causes::with_causes;
use eyre::{OptionExt as _, WrapErr as _, bail};
use gateway::wire::LeaseStatus;
use manifest::{Deployment, OrderRequest, Quote, SaltedManifest};
use serde_json::{Value, json};

pub(super) use self::funds::{Funds, Standing};
use crate::amounts;
use crate::arguments::Deploy;
use crate::chain::{Call, read};
use crate::commands::interruption::unless_interrupted;
use crate::failure::Failure;
use crate::market::{Supplier, state_phrase};
use crate::orders::Record;
use crate::output::{Output, facts};
use crate::serving::{Readiness, services_json};
use crate::session::Session;

/// How far a deployment came: what Ctrl-C tells.
#[derive(Debug, Clone, Copy)]
enum Reached {
    Nothing,
    Sent(B256),
    Ordered(u64),
    Leased(u64),
}

pub(super) async fn run(session: &Session<'_>, arguments: &Deploy) -> eyre::Result<()> {
    let reached = Cell::new(Reached::Nothing);
    let told = || interruption(reached_by_now(session, reached.get()));
    unless_interrupted(Box::pin(deploy(session, arguments, &reached)), told).await
}

/// A transaction that an endpoint has not answered for yet may be out all the same.
fn reached_by_now(session: &Session<'_>, reached: Reached) -> Reached {
    match (reached, session.chain.journal().last()) {
        (Reached::Nothing, Some(sent)) => Reached::Sent(sent.hash),
        (reached, _) => reached,
    }
}

fn interruption(reached: Reached) -> eyre::Report {
    match reached {
        Reached::Nothing => eyre::eyre!("interrupted; nothing was sent"),
        Reached::Sent(hash) => eyre::eyre!(
            "interrupted while the order's transaction {hash} is on its way; `spheron order list` shows the order once it is \
             included"
        ),
        Reached::Ordered(order) => eyre::eyre!(
            "interrupted; the order stays open\n  go on:  spheron deploy --resume {order}\n  cancel: spheron order cancel {order}"
        ),
        Reached::Leased(lease) => eyre::eyre!(
            "interrupted; the lease stays open and is paid by the second\n  go on:  spheron deploy --resume {lease}\n  \
             cancel: spheron lease close {lease}"
        ),
    }
}

async fn deploy(session: &Session<'_>, arguments: &Deploy, reached: &Cell<Reached>) -> eyre::Result<()> {
    let order = match (&arguments.file, arguments.resume) {
        (Some(file), _) => match order(session, arguments, file, reached).await? {
            Some(order) => order,
            None => return Ok(()),
        },
        (None, Some(order)) => order,
        (None, None) => bail!(Failure::bad_input("name a deployment file, or an order with --resume")),
    };
    reached.set(Reached::Ordered(order));
    follow(session, arguments, order, reached).await
}

/// Creates the order of a file. None for a dry run.
async fn order(
    session: &Session<'_>,
    arguments: &Deploy,
    file: &Path,
    reached: &Cell<Reached>,
) -> eyre::Result<Option<u64>> {
    let Deployment { manifest, warnings } = read_file(file)?;
    let name = file.display().to_string();
    note_warnings(session.output, &name, &warnings);
    let salted = SaltedManifest {
        salt: B256::from(rand::random::<[u8; 32]>()),
        manifest,
    };

    let account = session.account(arguments.account).await?;
    let request = derive(session, &salted, &name).await?;
    let mut priced = price(session, &request, account).await?;
    if arguments.dry_run {
        priced.standing = Standing::of(session, account, &priced.token, priced.lock()).await?;
        let value = priced.json(&request, &salted);
        session.output.result(&value, &priced.text(&request, &salted));
        return Ok(None);
    }
    priced.require()?;
    let signer = session.home.signer()?;
    session
        .require_spender(account, &priced.token, signer.address(), priced.lock())
        .await?;
    session.require_access(account, &priced.token, priced.lock()).await?;
    let order = create(session, &signer, account, &salted, &request, file, reached).await?;
    Ok(Some(order))
}

/// What a manifest asks of the network as it is now.
pub(super) async fn derive(session: &Session<'_>, salted: &SaltedManifest, name: &str) -> eyre::Result<OrderRequest> {
    session.output.step("reading prices and limits of the network");
    let book = session.order_book();
    // What it pays is written in whole tokens.
    let listed = async {
        match session.chain.network.token(&salted.manifest.requirements.token) {
            Some(token) => session.require_listed(token).await,
            None => Ok(()),
        }
    };
    let (catalog, parameters, ()) =
        tokio::try_join!(session.catalog(Some(&salted.manifest)), read(book.parameters()), listed)?;
    let derived = manifest::derive(salted, &catalog, parameters.paramsVersion);
    Ok(derived.map_err(|error| Failure::bad_input(format!("{name}: {}", with_causes(&error))))?)
}

/// Stores the manifest, sends the order, and stores its id.
async fn create(
    session: &Session<'_>,
    signer: &PrivateKeySigner,
    account: u32,
    salted: &SaltedManifest,
    request: &OrderRequest,
    file: &Path,
    reached: &Cell<Reached>,
) -> eyre::Result<u64> {
    let orders = session.orders().await?;
    orders.store_manifest(salted)?;
    // Whoever goes on after an interruption still knows what was deployed.
    let file = std::path::absolute(file)?.display().to_string();
    orders.store_file(request.terms.manifest_hash, &file)?;
    let call = IOrderBook::createOrderCall {
        account,
        token: request.token,
        bidWindow: 0,
        terms: OrderTerms::try_from(&request.terms)?,
    };
    let call = Call::new("to create the order", session.chain.network.contracts.order_book, &call);
    session.output.step("sending the order");
    let sent = session.chain.send(signer, &call).await?;
    reached.set(Reached::Sent(sent.hash));
    let receipt = session.chain.receipt(&sent).await?;
    let created = receipt
        .decoded_log::<IOrderBook::OrderCreated>()
        .ok_or_eyre("the transaction that creates the order logged none; is the network file right?")?;
    let order = created.orderId;
    reached.set(Reached::Ordered(order));
    let record = Record {
        manifest_hash: request.terms.manifest_hash,
        file,
        transaction: Some(sent.hash),
        block: receipt.block_number.unwrap_or_default(),
    };
    orders.store_record(order, &record)?;
    session
        .output
        .note(format!("order {order} takes bids until block {}", created.closeBlock));
    Ok(order)
}

/// From an order, wherever it stands, to a workload that runs.
async fn follow(session: &Session<'_>, arguments: &Deploy, order: u64, reached: &Cell<Reached>) -> eyre::Result<()> {
    let word = session.order(order).await?;
    // Where no provider would answer, nothing is waited for, and nothing given up that may be somebody else's by now.
    session
        .require_access(OrderId::unpack(order).account, session.token_of(order)?, U256::ZERO)
        .await
        .wrap_err_with(|| format!("cannot go on with order {order}, which stays as it is"))?;
    if word.state != OrderState::Leased {
        session.wait_for_match(order).await?;
    }
    reached.set(Reached::Leased(order));
    // Before anything is waited for: without its manifest a lease is worth nothing.
    let created = session.created(order).await?;
    let orders = session.orders().await?;
    let salted = orders.manifest(created.terms.manifest_hash).wrap_err_with(|| {
        format!(
            "lease {order} stays open; go on in the home that ordered, or run another file in its place with `spheron lease update \
             {order} FILE`, or end it with `spheron lease close {order}`"
        )
    })?;
    orders.adopt(order, created.terms.manifest_hash, created.block)?;
    let word = session.wait_for_depth(order, arguments.confirmations).await?;
    let supplier = session.supplier(word.supplier).await?;
    session.output.note(format!(
        "provider {} ({}) serves lease {order}",
        supplier.id, supplier.name
    ));
    let reason = match serve(session, &supplier, order, &salted, Instant::now() + arguments.timeout).await {
        Ok(Readiness::Running(status)) => {
            let (token, rate) = (session.token_of(order)?, U256::from(word.rate));
            let value = result_json(order, &supplier, &amounts::rate(rate, token), &status);
            let rate = format!("{} {}/h", amounts::hourly(rate, token), token.symbol);
            session
                .output
                .result(&value, &result_text(order, &supplier, &rate, &status));
            return Ok(());
        }
        Ok(Readiness::NotReady(reason)) => reason,
        Err(error) => with_causes(&*error),
    };
    give_up(session, order, &reason, arguments.keep).await
}

/// Sends the manifest to a supplier and waits until everything runs.
async fn serve(
    session: &Session<'_>,
    supplier: &Supplier,
    lease: u64,
    salted: &SaltedManifest,
    deadline: Instant,
) -> eyre::Result<Readiness> {
    let client = session.gateway(supplier).await?;
    session.output.step("sending the manifest");
    session.send_manifest(&client, lease, salted.encode(), deadline).await?;
    session.wait_until_ready(&client, lease, deadline).await
}

/// Nobody pays for what does not run: closes the lease, unless that was not wanted or the provider was faster.
async fn give_up(session: &Session<'_>, lease: u64, reason: &str, keep: bool) -> eyre::Result<()> {
    let word = session.order(lease).await?;
    if word.state != OrderState::Leased {
        bail!("lease {lease} is {}: {reason}", state_phrase(word.state));
    }
    if keep {
        bail!("lease {lease} is not ready: {reason}; it stays open (--keep): spheron lease show {lease}");
    }
    session.output.step("closing the lease");
    let billed = session.close(lease).await.wrap_err_with(|| {
        format!("lease {lease} is not ready ({reason}), and closing it failed; run `spheron lease close {lease}`")
    })?;
    bail!("lease {lease} is not ready: {reason}; it was closed, {billed} s are billed")
}

fn result_json(order: u64, supplier: &Supplier, rate: &Value, status: &LeaseStatus) -> Value {
    json!({
        "order": order.to_string(),
        "lease": order.to_string(),
        "state": "running",
        "provider": supplier.json(),
        "rate": rate,
        "services": services_json(status),
        "warnings": status.warnings,
    })
}

fn result_text(order: u64, supplier: &Supplier, rate: &str, status: &LeaseStatus) -> String {
    let mut text = facts(&[
        ("lease", order.to_string()),
        ("provider", format!("{} ({})", supplier.id, supplier.name)),
        ("rate", rate.to_owned()),
    ]);
    text.push_str(&super::lease::services_text(status));
    text
}

/// Reads a deployment file, without its end where it is far too long: the parser says so.
pub(super) fn read_file(path: &Path) -> eyre::Result<Deployment> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let limit = u64::try_from(manifest::MAXIMUM_FILE_BYTES)? + 1;
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| Failure::bad_input(format!("cannot read {name}: {error}")))?;
    let parsed = manifest::parse(&name, &bytes).map_err(|report| Failure::BadInput {
        message: report.to_string(),
        report: serde_json::to_value(&report).ok(),
    })?;
    Ok(parsed)
}

/// What an order costs, and what there is to pay it from.
#[derive(Debug)]
pub(super) struct Priced {
    token: ::chain::network::Token,
    schedule: FeeSchedule,
    quote: Quote,
    funds: Option<Funds>,
    standing: Option<Standing>,
}

pub(super) async fn price(session: &Session<'_>, request: &OrderRequest, account: u32) -> eyre::Result<Priced> {
    let mut priced = quote(session, request).await?;
    let funds = Funds::of(session, account, request.token, &request.terms, priced.lock()).await?;
    priced.funds = Some(funds);
    Ok(priced)
}

/// What an order costs on a network.
pub(super) async fn quote(session: &Session<'_>, request: &OrderRequest) -> eyre::Result<Priced> {
    let token = session.token_by_id(request.token)?.clone();
    let escrow = IEscrow::new(session.chain.network.contracts.escrow, &session.chain.provider);
    let listed = read(escrow.tokenOf(request.token)).await?;
    if !listed.enabled {
        bail!(Failure::bad_input(format!(
            "{} takes no new orders in {}",
            session.chain.network.name, token.symbol
        )));
    }
    let schedule = session.fee_schedule(listed.schedule).await?;
    let terms = &request.terms;
    let quote = Quote::new(
        terms.maximum_rate,
        terms.duration,
        schedule.userFee,
        schedule.matchFee.to::<u128>(),
    );
    Ok(Priced {
        token,
        schedule,
        quote,
        funds: None,
        standing: None,
    })
}

impl Priced {
    pub(super) fn lock(&self) -> U256 {
        U256::from(self.quote.lock())
    }

    /// Fails if the account's money or bracket does not suffice.
    fn require(&self) -> eyre::Result<()> {
        self.funds.as_ref().map_or(Ok(()), Funds::require)
    }

    /// Fails if the account's bracket does not suffice; the money may still come.
    pub(super) fn require_bracket(&self) -> eyre::Result<()> {
        self.funds.as_ref().map_or(Ok(()), Funds::require_bracket)
    }

    pub(super) fn json(&self, request: &OrderRequest, salted: &SaltedManifest) -> Value {
        let amount = |units: u128| amounts::whole(U256::from(units), self.token.decimals);
        let mut value = super::check::terms_json(&salted.manifest);
        value["token"] = json!({"symbol": self.token.symbol, "id": self.token.id, "decimals": self.token.decimals});
        value["maximum_rate"] = amounts::rate(U256::from(request.terms.maximum_rate), &self.token);
        value["cost"] = json!({
            "stream": amount(self.quote.stream),
            "user_fee": amount(self.quote.user_fee),
            "match_fee": amount(self.quote.match_fee),
            "lock": amount(self.quote.lock()),
            "lock_units": self.quote.lock().to_string(),
        });
        if let Some(funds) = &self.funds {
            funds.json(&mut value);
        }
        if let Some(standing) = &self.standing {
            value["spender"] = standing.json(&self.token);
        }
        value
    }

    pub(super) fn text(&self, request: &OrderRequest, salted: &SaltedManifest) -> String {
        let amount = |units: u128| amounts::shown(U256::from(units), &self.token);
        let rate = U256::from(request.terms.maximum_rate);
        let percent = manifest::decimal_text(U256::from(self.schedule.userFee), 2);
        let mut lines = super::check::terms_facts(&salted.manifest);
        lines.extend([
            (
                "maximum rate",
                format!(
                    "{} {}/h ({rate} units per 36000 s)",
                    amounts::hourly(rate, &self.token),
                    self.token.symbol
                ),
            ),
            ("stream", format!("at most {}", amount(self.quote.stream))),
            (
                "user fee",
                format!("at most {} ({percent} %)", amount(self.quote.user_fee)),
            ),
            ("match fee", amount(self.quote.match_fee)),
            ("lock", amount(self.quote.lock())),
        ]);
        lines.extend(self.funds.iter().flat_map(Funds::facts));
        if let Some(standing) = &self.standing {
            lines.push(("this key", standing.text(&self.token)));
        }
        facts(&lines)
    }
}

/// Warnings of a file, for people.
pub(super) fn note_warnings(output: &Output, file: &str, warnings: &[manifest::Warning]) {
    warnings
        .iter()
        .for_each(|warning| output.note(format!("warning: {}", warning.describe(file))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_says_how_to_go_on_and_how_to_cancel() {
        assert!(interruption(Reached::Nothing).to_string().contains("nothing was sent"));
        let ordered = interruption(Reached::Ordered(7)).to_string();
        assert!(
            ordered.contains("spheron deploy --resume 7") && ordered.contains("spheron order cancel 7"),
            "{ordered}"
        );
        let leased = interruption(Reached::Leased(7)).to_string();
        assert!(
            leased.contains("spheron deploy --resume 7") && leased.contains("spheron lease close 7"),
            "{leased}"
        );
    }
}
