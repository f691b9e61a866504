//! A call's way from whoever submits it to the first node that sees it.

use tokio::sync::oneshot;

use super::{Outcome, Receipt, Submission, TransactionActor};
use crate::transactions::ledger::{Open, Standing};
use crate::transactions::sending::{self, Answer};
use crate::transactions::table::{self, Attempt, Intent, Row, RowState};

impl TransactionActor {
    /// Stores a call under the next nonce, and sends it; one that waits under its label is joined.
    pub(super) async fn submit(&mut self, submission: Submission, reply: oneshot::Sender<Outcome>) {
        let Submission {
            call,
            gas_limit,
            fees,
            head,
            taken,
        } = submission;
        if let Some(nonce) = self.pending_with_label(&call.label) {
            tracing::debug!(
                label = call.label,
                nonce,
                "joining the transaction that waits under this label"
            );
            self.waiters.entry(nonce).or_default().push(reply);
            return;
        }
        self.move_on(taken, head);
        if let Some(nonce) = self.ledger.contested() {
            let _ = reply.send(Outcome::Foreign(nonce));
            return;
        }
        let nonce = self.ledger.next();
        let intent = Intent {
            nonce,
            label: call.label,
            to: call.to,
            data: call.data,
            value: call.value,
            gas_limit,
            valid_until: call.valid_until,
        };
        let attempt = match self.sign(&intent, fees, false) {
            Ok(attempt) => attempt,
            Err(reason) => {
                let _ = reply.send(Outcome::Refused(reason));
                return;
            }
        };
        let sender = self.signer.address();
        let (stored_intent, stored_attempt) = (intent.clone(), attempt.clone());
        let stored = self
            .store
            .write(move |transaction| table::insert(transaction, sender, &stored_intent, &stored_attempt))
            .await;
        let id = match stored {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(%error, label = intent.label, "not sending what cannot be recorded");
                let _ = reply.send(Outcome::Store(error));
                return;
            }
        };
        self.waiters.entry(nonce).or_default().push(reply);
        self.open_at_next(id, intent, attempt, head);
        self.metrics.sent.inc();
        self.send_first(nonce, head).await;
    }

    /// Takes what was stored under the next nonce into the books.
    pub(super) fn open_at_next(&mut self, id: i64, intent: Intent, attempt: Attempt, head: u64) {
        self.ledger.assign(Open {
            id,
            valid_until: intent.valid_until,
            standing: Standing::Pending,
            sent_at: head,
            priced_at: head,
        });
        self.rows
            .insert(intent.nonce, Row::first(id, RowState::Pending, intent, attempt));
    }

    /// No node takes it. Its nonce is free again if nothing follows it, and is filled by an empty transaction otherwise.
    async fn refused(&mut self, nonce: u64, reason: String) {
        tracing::warn!(nonce, "the node does not take a transaction: {reason}");
        for waiter in self.waiters.remove(&nonce).unwrap_or_default() {
            let _ = waiter.send(Outcome::Refused(reason.clone()));
        }
        if self.ledger.take_back(nonce) {
            if let Some(row) = self.rows.remove(&nonce) {
                self.set_state(row.id, RowState::Refused, None).await;
            }
        } else {
            self.cancel(nonce).await;
        }
    }

    /// Sends what no node was shown before, under one nonce after the other until one is free.
    pub(super) async fn send_first(&mut self, nonce: u64, head: u64) {
        let mut nonce = nonce;
        while let Some((row, attempt)) = self.rows.get(&nonce).and_then(|row| Some((row, row.attempts.last()?))) {
            let (label, hash, raw) = (row.intent.label.clone(), attempt.hash, attempt.raw.clone());
            let answer = sending::broadcast(&self.provider, &raw).await;
            let is_foreign = match &answer {
                Answer::Refused(reason) => return self.refused(nonce, reason.clone()).await,
                // An endpoint that broke off may have passed it on, and the next one have seen it included.
                Answer::NonceTooLow => self.find_receipt(nonce, head).await == Receipt::None,
                Answer::Occupied => true,
                Answer::Taken | Answer::Underpriced | Answer::Unreachable(_) => false,
            };
            if is_foreign && self.ledger.contested().is_none() {
                match self.renumber_unsent(nonce, head).await {
                    Some(another) => nonce = another,
                    None => return,
                }
                continue;
            }
            tracing::info!(label, nonce, %hash, "sent");
            return self.note(nonce, &answer);
        }
    }

    pub(super) fn pending_with_label(&self, label: &str) -> Option<u64> {
        self.rows
            .iter()
            .find(|(_, row)| {
                row.state == RowState::Pending
                    && row.intent.label == label
                    && !row.attempts.last().is_some_and(|attempt| attempt.cancels)
            })
            .map(|(nonce, _)| *nonce)
    }
}
