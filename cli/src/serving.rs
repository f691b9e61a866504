//! From an order to a workload that runs: waiting for the match, sending the manifest, watching the provider. Each step
//! looks at the chain first, so it does not matter at which an earlier run stopped.

mod access;
mod refusals;
mod status;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use alloy::primitives::bytes::Bytes;
use alloy::providers::Provider as _;
use alloy::signers::local::PrivateKeySigner;
use bindings::{ILeases, IOrderBook, LeaseResources, Order, OrderState};
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use gateway::wire::{ErrorCode, LeaseId, LeasePhase, LeaseStatus};
use gateway::{ClientError, GatewayClient};

pub(crate) use self::refusals::candidates_json;
pub(crate) use self::status::{manifest_state, phase, progress, services_json};
#[cfg(test)]
pub(crate) use self::tests::nowhere;
use crate::chain::{Call, read};
use crate::market::{self, filter, state_phrase, topic};
use crate::session::Session;

/// How often the chain is asked for a new block.
const BLOCK_PERIOD: Duration = Duration::from_millis(100);
/// How often a provider is asked how a lease is doing; each asks for a connection of its own.
const STATUS_PERIOD: Duration = Duration::from_millis(250);
/// How often, while a provider is asked, the chain is asked whether the lease is still open.
const LEASE_PERIOD: Duration = Duration::from_secs(if cfg!(test) { 3_600 } else { 2 });
/// How long a workload must have failed before the lease is given up: the provider tries again, and an engine that has just
/// restarted takes its time.
const FAILURE_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 10_000 });
/// A chain without a new block for this long is stuck.
const LONGEST_BLOCK: Duration = Duration::from_secs(180);
/// How long a provider may not know yet of a lease, or of its owner's certificate, that is on chain.
const PROVIDER_LAG: Duration = Duration::from_secs(60);

/// How a lease became what it is.
pub(crate) enum Readiness {
    /// Every replica of every service runs.
    Running(Box<LeaseStatus>),
    /// It does not, for the reason given.
    NotReady(String),
}

impl Session<'_> {
    /// Waits until an order is leased. An order that expired, by itself or because nobody else expires it, is a failure
    /// that says who there is and why none fits.
    pub(crate) async fn wait_for_match(&self, order: u64) -> eyre::Result<Order> {
        let mut window = None;
        let mut last = (u64::MAX, Instant::now());
        loop {
            let head = self
                .chain
                .provider
                .get_block_number()
                .await
                .wrap_err("cannot read the chain")?;
            if head == last.0 {
                ensure!(
                    last.1.elapsed() < LONGEST_BLOCK,
                    "the chain has had no new block for {} s (the newest is {head})",
                    LONGEST_BLOCK.as_secs()
                );
                tokio::time::sleep(BLOCK_PERIOD).await;
                continue;
            }
            last = (head, Instant::now());
            let word = self.order(order).await?;
            match word.state {
                OrderState::Leased => return Ok(word),
                OrderState::Open => {}
                OrderState::Expired => return Err(self.nobody_serves(order).await?.into()),
                state => bail!("order {order} is {}", state_phrase(state)),
            }
            let close = u64::from(word.closeBlock);
            let bids = read(self.order_book().bidsDigest(order)).await?.count;
            if head < close {
                self.output.step(format!(
                    "order {order}: bids so far: {bids}, taken until block {close}; block {head}"
                ));
                continue;
            }
            let (answered, window) = match window {
                Some(windows) => windows,
                None => {
                    let parameters = read(self.order_book().parameters()).await?;
                    // After the operators' window anyone may still run the rule on chain.
                    let answered = u64::from(parameters.responseWindow);
                    *window.insert((answered, answered + u64::from(parameters.matchWindow)))
                }
            };
            if bids > 0 && head >= close + answered {
                let text = format!(
                    "order {order}: nobody answered; anyone may run the rule for it: spheron order match {order}"
                );
                self.output.step(text);
            } else if bids > 0 {
                let text = format!("order {order}: operators match its bids ({bids}); block {head}");
                self.output.step(text);
            }
            if (bids == 0 && head >= close) || head > close + window {
                self.expire(order).await?;
            }
        }
    }

    /// Unlocks the money of an order that nobody answered. Somebody else may be faster.
    async fn expire(&self, order: u64) -> eyre::Result<()> {
        self.output.step(format!("order {order}: unlocking the money"));
        let signer = self.home.signer()?;
        let call = IOrderBook::expireOrdersCall { orderIds: vec![order] };
        let call = Call::new("to expire the order", self.chain.network.contracts.order_book, &call);
        if let Err(error) = self.chain.execute(&signer, vec![call]).await
            && self.order(order).await?.state == OrderState::Open
        {
            return Err(error);
        }
        Ok(())
    }

    /// Waits until the block of a lease has this many blocks on top of it: a manifest has secrets, and the lease of a block
    /// that is not canonical may go to somebody else. Returns the lease's word as it stands then.
    pub(crate) async fn wait_for_depth(&self, lease: u64, depth: u64) -> eyre::Result<Order> {
        let address = self.chain.network.contracts.order_book;
        let deadline = Instant::now() + LONGEST_BLOCK;
        loop {
            let word = self.leased(lease).await?;
            let head = self
                .chain
                .provider
                .get_block_number()
                .await
                .wrap_err("cannot read the chain")?;
            // A lease is opened at its close block (an update) or after it.
            let opened = filter::<IOrderBook::LeaseCreated>(address, topic(lease), None);
            let opened = self.chain.last_log(&opened, word.closeBlock.into()..=head).await?;
            let block = opened.and_then(|log| log.block_number);
            if let Some(block) = block
                && head >= block + depth
            {
                return self.leased(lease).await;
            }
            ensure!(
                Instant::now() < deadline,
                "lease {lease} did not get {depth} blocks on top of it within {} s",
                LONGEST_BLOCK.as_secs()
            );
            self.output
                .step(format!("lease {lease}: waiting for its confirmations ({depth})"));
            self.wait_for_block(head, deadline).await?;
        }
    }

    async fn wait_for_block(&self, after: u64, deadline: Instant) -> eyre::Result<()> {
        while Instant::now() < deadline {
            tokio::time::sleep(BLOCK_PERIOD).await;
            if self
                .chain
                .provider
                .get_block_number()
                .await
                .wrap_err("cannot read the chain")?
                > after
            {
                break;
            }
        }
        Ok(())
    }

    /// A lease's word; fails if it is none (any more).
    pub(crate) async fn leased(&self, lease: u64) -> eyre::Result<Order> {
        let word = self.order(lease).await?;
        match word.state {
            OrderState::Leased => Ok(word),
            OrderState::Open => bail!(
                "order {lease} has no lease yet: it takes bids until block {}",
                word.closeBlock
            ),
            state => bail!("lease {lease} is {}", state_phrase(state)),
        }
    }

    /// Sends a manifest, again while the provider cannot be reached or may not know yet what the chain does.
    pub(crate) async fn send_manifest(
        &self,
        client: &GatewayClient,
        lease: u64,
        encoded: Vec<u8>,
        deadline: Instant,
    ) -> eyre::Result<()> {
        let knows_by = (Instant::now() + PROVIDER_LAG).min(deadline);
        let encoded = Bytes::from(encoded);
        loop {
            let error = match client.put_manifest(LeaseId(lease), encoded.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let lags = matches!(&error, ClientError::Refused { body, .. }
                if matches!(body.error, ErrorCode::UnknownLease | ErrorCode::NotYours));
            let again_until = if lags { knows_by } else { deadline };
            if !(lags || error.is_transient()) || Instant::now() >= again_until {
                return Err(not_taken(lease, error));
            }
            self.output.step(format!("lease {lease}: {error}; trying again"));
            tokio::time::sleep(STATUS_PERIOD).await;
        }
    }

    /// Watches a lease until everything runs, or cannot, or the time is over.
    pub(crate) async fn wait_until_ready(
        &self,
        client: &GatewayClient,
        lease: u64,
        deadline: Instant,
    ) -> eyre::Result<Readiness> {
        let mut looked_at_chain = Instant::now();
        let mut failed_since = None;
        loop {
            let last = match client.lease(LeaseId(lease)).await {
                Ok(status) => {
                    let last = progress(&status);
                    if status.phase != LeasePhase::Failed {
                        failed_since = None;
                    }
                    match status.phase {
                        LeasePhase::Running => return Ok(Readiness::Running(Box::new(status))),
                        LeasePhase::Failed
                            if failed_since.get_or_insert_with(Instant::now).elapsed() < FAILURE_PATIENCE =>
                        {
                            last
                        }
                        LeasePhase::Failed => return Ok(Readiness::NotReady(last)),
                        LeasePhase::Closing | LeasePhase::Closed => {
                            let word = self.order(lease).await?;
                            bail!("lease {lease} is {} ({last})", state_phrase(word.state));
                        }
                        _ => last,
                    }
                }
                Err(error) if error.is_transient() => error.to_string(),
                Err(error) => return Err(eyre::Report::new(error).wrap_err(format!("cannot watch lease {lease}"))),
            };
            self.output.step(format!("lease {lease}: {last}"));
            if Instant::now() >= deadline {
                return Ok(Readiness::NotReady(format!("not ready in time: {last}")));
            }
            if looked_at_chain.elapsed() >= LEASE_PERIOD {
                self.leased(lease).await?;
                looked_at_chain = Instant::now();
            }
            tokio::time::sleep(STATUS_PERIOD).await;
        }
    }

    /// What the contract asks for to free a lease's capacity.
    pub(crate) async fn lease_resources(&self, lease: u64) -> eyre::Result<LeaseResources> {
        let terms = self.created(lease).await?.terms;
        Ok(LeaseResources {
            resources: terms.resources,
            restHash: terms.rest_hash(),
        })
    }

    /// Ends a lease as its user, and returns the seconds that are billed.
    pub(crate) async fn close(&self, lease: u64) -> eyre::Result<u32> {
        self.close_as(&self.home.signer()?, lease, OrderState::ClosedByUser)
            .await
    }

    /// Ends a lease for a reason that is the signer's to give, and returns the seconds that are billed.
    pub(crate) async fn close_as(
        &self,
        signer: &PrivateKeySigner,
        lease: u64,
        reason: OrderState,
    ) -> eyre::Result<u32> {
        let call = ILeases::closeLeaseCall {
            orderId: lease,
            reason,
            resources: self.lease_resources(lease).await?,
        };
        let call = Call::new("to close the lease", self.chain.network.contracts.order_book, &call);
        let sent = self.chain.send(signer, &call).await?;
        let receipt = self.chain.receipt(&sent).await?;
        let closed = receipt.decoded_log::<ILeases::LeaseClosed>();
        Ok(closed
            .ok_or_eyre("the transaction that closes the lease logged nothing; is the network file right?")?
            .billed)
    }

    /// A supplier's gateway and who it is.
    pub(crate) async fn reach(&self, word: &Order) -> eyre::Result<(market::Supplier, GatewayClient)> {
        let supplier = self.supplier(word.supplier).await?;
        let client = self.gateway(&supplier).await?;
        Ok((supplier, client))
    }
}

/// Why a provider did not take a manifest, with every field in which it is not what was ordered.
fn not_taken(lease: u64, error: ClientError) -> eyre::Report {
    let mut message = format!("the provider did not take the manifest of lease {lease}");
    if let ClientError::Refused { body, .. } = &error {
        for difference in &body.details.differences {
            let (ours, theirs) = (&difference.from_manifest, &difference.on_chain);
            message.push_str(&format!(
                "; {}: the manifest says {ours}, the order {theirs}",
                difference.field
            ));
        }
    }
    eyre::Report::new(error).wrap_err(message)
}
