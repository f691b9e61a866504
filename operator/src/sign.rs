//! Signs: every task that can still be answered, once, by whoever decides its close block.

mod backed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use alloy::eips::BlockId;
use alloy::primitives::{B256, U256};
use avs::bn254::SecretKey;
use avs::response::{Domain, MatchResponse, ResponseError};
use avs::submission::{SignaturePoint, SignatureSubmission};
use avs::task::{self, Chunk};
use daemon::causes::with_causes;
use daemon::{Shutdown, StoreError};

use crate::aggregators::{Aggregators, Sending};
use crate::chain::{Decider, Market, ReadError};
use crate::eigen_metrics::EigenMetrics;
use crate::follow::Known;
use crate::matchmaker::Matchmaker;
use crate::metrics::{OperatorMetrics, Refusal};
use crate::sign_once::{Signed, Verdict};
use crate::store::OperatorStore;
use crate::tasks::{self, Answer, OpenOrder};

/// Why a close block is not dealt with yet.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an answer of this operator cannot be read back")]
    Answer(#[from] ResponseError),
}

/// A signer among those whose stake decides.
pub(crate) struct QuorumMember {
    pub(crate) key: SecretKey,
    pub(crate) aggregators: Aggregators,
}

/// Who this operator signs as, and what was signed.
pub(crate) struct Signing {
    pub(crate) market: Arc<Market>,
    pub(crate) store: OperatorStore,
    pub(crate) domain: Domain,
    pub(crate) quorum: Option<QuorumMember>,
    pub(crate) matchmaker: Option<Matchmaker>,
    pub(crate) metrics: OperatorMetrics,
    pub(crate) eigen: EigenMetrics,
    pub(crate) shutdown: Shutdown,
    /// Close blocks all of whose tasks were dealt with.
    finished: BTreeSet<(u32, B256)>,
    /// Tasks that were dealt with, of close blocks with others that were not.
    dealt_with: BTreeSet<(u32, B256, u16)>,
    /// Tasks that the matchmaker's bond did not stand behind when they were looked at.
    waiting: BTreeSet<(u32, B256, u16)>,
    /// SPON units of the matchmaker's bond that answers on their way need.
    promised: BTreeMap<(u32, u16), U256>,
    sending: BTreeMap<(u32, u16), (B256, Sending)>,
    /// Whether something waits to be tried again.
    unfinished: bool,
}

/// With whom a signing operator works together.
pub(crate) struct Surroundings {
    pub(crate) market: Arc<Market>,
    pub(crate) store: OperatorStore,
    pub(crate) domain: Domain,
    pub(crate) metrics: OperatorMetrics,
    pub(crate) eigen: EigenMetrics,
    pub(crate) shutdown: Shutdown,
}

impl Signing {
    pub(crate) fn new(around: Surroundings, quorum: Option<QuorumMember>, matchmaker: Option<Matchmaker>) -> Self {
        let Surroundings {
            market,
            store,
            domain,
            metrics,
            eigen,
            shutdown,
        } = around;
        Self {
            market,
            store,
            domain,
            quorum,
            matchmaker,
            metrics,
            eigen,
            shutdown,
            finished: BTreeSet::new(),
            dealt_with: BTreeSet::new(),
            waiting: BTreeSet::new(),
            promised: BTreeMap::new(),
            sending: BTreeMap::new(),
            unfinished: false,
        }
    }

    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Answers may be undone by a reorganisation: they are signed and sent again, which says nothing new.
    pub(crate) fn reorganised(&mut self) {
        self.finished.clear();
        self.dealt_with.clear();
    }

    /// Ends deliveries that are of no use any more.
    pub(crate) fn stop_sending(&mut self, known: &Known, head: u64) {
        let (tasks, recent, window) = (&known.tasks, &known.recent, known.windows.response);
        self.sending.retain(|(close_block, chunk), (hash, sending)| {
            let number = u64::from(*close_block);
            let gone = number > head || recent.get(&number).is_some_and(|canonical| canonical != hash);
            let useless = gone || tasks.is_answered(*close_block, *chunk) || head >= number + window;
            if useless {
                sending.stop();
            }
            !useless
        });
        let sending = &self.sending;
        self.promised.retain(|task, _| sending.contains_key(task));
    }

    /// Signs everything that can still be answered in the next block and was not dealt with.
    pub(crate) async fn sign_due(&mut self, known: &Known, head: u64, seen: Instant) {
        self.unfinished = false;
        let first = (known.beginning + 1).max((head + 1).saturating_sub(known.windows.response));
        self.finished
            .retain(|(close_block, _)| u64::from(*close_block) >= first);
        for tasks in [&mut self.dealt_with, &mut self.waiting] {
            tasks.retain(|(close_block, _, _)| u64::from(*close_block) >= first);
        }
        for close_block in known.tasks.close_blocks(first, head) {
            if let Err(error) = self.sign_close_block(known, close_block, head, seen).await {
                self.unfinished = true;
                tracing::warn!(close_block, "not signed yet: {}", with_causes(&error));
            }
        }
    }

    async fn sign_close_block(
        &mut self,
        known: &Known,
        close_block: u32,
        head: u64,
        seen: Instant,
    ) -> Result<(), SignError> {
        let hash = match known.recent.get(&u64::from(close_block)) {
            Some(hash) => *hash,
            None => self.market.hash_of(close_block.into()).await?,
        };
        if self.finished.contains(&(close_block, hash)) {
            return Ok(());
        }
        let (decider, checked) = tokio::try_join!(
            self.market.decider(close_block),
            self.checked_orders(known, close_block, hash)
        )?;
        let mut waits = false;
        if self.has_a_say(decider) {
            let mut answers = self.answers(known, close_block, hash, checked).await?;
            if let Decider::Matchmaker { verifier, .. } = decider {
                // What is followed and what is read are of the same block: an answer counts in one of them, never in none.
                let at = known.recent.get(&head).copied().map_or(head.into(), BlockId::hash);
                let backed = self.backed(at, verifier, answers).await?;
                (answers, waits) = (backed.answers, backed.waits);
            }
            for (answer, verdict) in self.guarded(answers).await? {
                self.dealt_with.insert((close_block, hash, answer.response.chunk));
                match verdict {
                    Verdict::Refused { signed } => self.refuse(&answer, signed),
                    Verdict::First | Verdict::Again => self.sign(decider, known.windows.response, answer, seen),
                }
            }
        }
        if !waits {
            self.finished.insert((close_block, hash));
        }
        Ok(())
    }

    /// Whether a signature of this operator counts: a close block that a matchmaker decides is none of a quorum's business, and
    /// the other way round.
    fn has_a_say(&self, decider: Decider) -> bool {
        match decider {
            Decider::Quorum { .. } => self.quorum.is_some(),
            Decider::Matchmaker { matchmaker, .. } => {
                let own = self.matchmaker.as_ref().map(Matchmaker::address);
                own == Some(matchmaker)
            }
        }
    }

    /// Which answers may be signed. What may be is on disk before any signature exists.
    async fn guarded(&self, answers: Vec<Answer>) -> Result<Vec<(Answer, Verdict)>, StoreError> {
        if answers.is_empty() {
            return Ok(Vec::new());
        }
        let verdicts = self.store.record(answers.iter().map(Signed::from).collect()).await?;
        Ok(answers.into_iter().zip(verdicts).collect())
    }

    fn refuse(&self, answer: &Answer, signed: B256) {
        let MatchResponse { close_block, chunk, .. } = answer.response;
        self.refused(Refusal::SignOnce);
        tracing::error!(
            close_block,
            chunk,
            "another answer ({signed}) was signed for this task before; {} is not signed",
            answer.digest
        );
    }

    fn refused(&self, reason: Refusal) {
        self.metrics.refuse(reason);
        self.eigen.task(false);
    }

    /// The orders of a task with their bids checked against the chain, and those whose bids cannot be trusted.
    async fn checked_orders(&self, known: &Known, close_block: u32, hash: B256) -> Result<Checked, ReadError> {
        let mut orders = known.tasks.open_in(close_block);
        let ids: Vec<u64> = orders.iter().map(|order| order.order_id).collect();
        let stored = self.market.digests(hash, &ids).await?;
        let mut untrusted = BTreeSet::new();
        for (order, stored) in orders.iter_mut().zip(&stored) {
            let Err(error) = stored.check(order.order_id, close_block, &order.bids) else {
                continue;
            };
            tracing::warn!(%error, "followed bids are not those on chain");
            order.bids = self.market.bids_of(order).await?;
            if let Err(error) = stored.check(order.order_id, close_block, &order.bids) {
                tracing::error!(%error, "the node's logs are wrong: the order's task is not signed");
                untrusted.insert(order.order_id);
            }
        }
        // The contract's count says whether an order has bids.
        let mut counts = stored.iter().map(|stored| stored.count);
        orders.retain(|_| counts.next().is_some_and(|count| count > 0));
        Ok(Checked { orders, untrusted })
    }

    /// Runs the rule over every chunk that is not answered, off the async workers.
    async fn answers(
        &self,
        known: &Known,
        close_block: u32,
        hash: B256,
        checked: Checked,
    ) -> Result<Vec<Answer>, SignError> {
        let Checked { orders, untrusted } = checked;
        let mut parameters = BTreeMap::new();
        for version in orders.iter().map(|order| order.terms.params_version()) {
            if let Some(known) = self.market.parameters(version).await? {
                parameters.insert(version, known);
            }
        }
        let keys = orders
            .iter()
            .map(|order| (order.terms.params_version(), order.order_id));
        let sizes = |version| parameters.get(&version).map(avs::matching::Parameters::chunk_size);
        let chunks = match task::chunks(keys, sizes) {
            Ok(chunks) => chunks,
            Err(error) => {
                self.refused(Refusal::Malformed);
                tracing::error!(close_block, %error, "the close block's orders make no tasks; nothing is signed");
                return Ok(Vec::new());
            }
        };
        let may_be_signed = |chunk: &Chunk| {
            let trusted = chunk.order_ids.iter().all(|order_id| !untrusted.contains(order_id));
            if !trusted {
                self.refused(Refusal::Digest);
            }
            let dealt_with = self.dealt_with.contains(&(close_block, hash, chunk.index));
            trusted && !dealt_with && !known.tasks.is_answered(close_block, chunk.index)
        };
        let chunks: Vec<Chunk> = chunks.into_iter().filter(may_be_signed).collect();
        if chunks.is_empty() {
            return Ok(Vec::new());
        }
        let domain = self.domain;
        let answered = tokio::task::spawn_blocking(move || {
            let of_chunk = |chunk: &Chunk| {
                let parameters = &parameters[&chunk.params_version];
                tasks::answer(&domain, parameters, chunk, close_block, hash, &orders)
            };
            chunks.iter().map(of_chunk).collect::<Result<Vec<_>, _>>()
        });
        match answered.await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) => {
                self.refused(Refusal::Malformed);
                tracing::error!(close_block, %error, "the answer cannot be encoded; nothing is signed");
                Ok(Vec::new())
            }
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // The runtime is stopping.
            Err(_) => Ok(Vec::new()),
        }
    }

    fn sign(&mut self, decider: Decider, response_window: u64, answer: Answer, seen: Instant) {
        let response = answer.response;
        let (close_block, chunk) = (response.close_block, response.chunk);
        self.metrics.signed.inc();
        self.metrics.signed_orders.inc_by(answer.order_ids.len() as u64);
        self.eigen.task(true);
        let until = u64::from(close_block) + response_window;
        let sending = match (decider, &self.quorum, &self.matchmaker) {
            (Decider::Quorum { .. }, Some(quorum), _) => quorum.send(&self.shutdown, &answer, seen),
            (Decider::Matchmaker { .. }, _, Some(matchmaker)) => matchmaker.send(&self.shutdown, &answer, until),
            _ => return,
        };
        let elapsed = seen.elapsed();
        self.metrics.seconds_to_signature.observe(elapsed.as_secs_f64());
        tracing::info!(close_block, chunk, orders = answer.order_ids.len(), digest = %answer.digest, ?elapsed, "signed");
        if let Some(sending) = sending {
            let sent = (response.close_block_hash, sending);
            if let Some((_, earlier)) = self.sending.insert((close_block, chunk), sent) {
                earlier.stop();
            }
        }
    }
}

impl QuorumMember {
    /// Signs, and sends the signature to every aggregator. `None` if it cannot be put into words.
    fn send(&self, shutdown: &Shutdown, answer: &Answer, seen: Instant) -> Option<Sending> {
        let response = answer.response;
        let submission = SignatureSubmission {
            operator_id: self.key.public_key().operator_id(),
            close_block: response.close_block,
            close_block_hash: response.close_block_hash,
            chunk: response.chunk,
            params_version: response.params_version,
            digest: answer.digest,
            matches: answer.matches.clone(),
            signature: SignaturePoint::from(&self.key.sign(answer.digest)),
        };
        self.aggregators
            .send(shutdown, &submission, seen)
            .inspect_err(|error| tracing::error!(%error, "the signature cannot be put into JSON"))
            .ok()
    }
}

struct Checked {
    orders: Vec<OpenOrder>,
    untrusted: BTreeSet<u64>,
}

#[cfg(test)]
mod tests;
