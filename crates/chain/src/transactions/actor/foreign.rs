//! Nonces that other programs used with the key: they are left to them, and what of ours waited there is sent under others.

use super::{Outcome, TransactionActor};
use crate::transactions::ledger::{Open, Standing};
use crate::transactions::sending;
use crate::transactions::table::{self, Attempt, Intent, Row, RowState};

impl TransactionActor {
    /// Goes on with the nonce `next`, if every one below it is used or waited at.
    pub(super) fn move_on(&mut self, next: u64, head: u64) {
        let first = self.ledger.next();
        let count = self.ledger.move_on(next, head);
        if count == 0 {
            return;
        }
        self.metrics.foreign.inc_by(count);
        tracing::warn!(
            sender = %self.signer.address(),
            nonce = first,
            count,
            "another program sends with this key; going on with nonce {next}"
        );
    }

    /// Sends a call whose nonce somebody else used under another one.
    pub(super) async fn renumber(&mut self, nonce: u64, head: u64) {
        if let Some(another) = self.renumber_unsent(nonce, head).await {
            self.send_first(another, head).await;
        }
    }

    /// Gives a call whose nonce somebody else has the next free one, stored and not sent. None where it is of no use any
    /// more, and where this has to be tried again.
    pub(super) async fn renumber_unsent(&mut self, nonce: u64, head: u64) -> Option<u64> {
        let row = self.rows.get(&nonce)?;
        let (old, mut intent) = (row.id, row.intent.clone());
        let cancels = row.attempts.last().is_some_and(|attempt| attempt.cancels);
        if cancels || intent.valid_until.is_some_and(|last| head >= last) {
            self.give_up(nonce, head).await;
            return None;
        }
        let sender = self.signer.address();
        let (market, taken) = tokio::join!(
            sending::market(&self.provider, &self.settings),
            sending::taken(&self.provider, sender),
        );
        let ((fees, head), taken) = match (market, taken) {
            (Ok(market), Ok(taken)) => (market, taken),
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(%error, nonce, "cannot price a transaction whose nonce was used");
                return None;
            }
        };
        self.move_on(taken, head);
        intent.nonce = self.ledger.next();
        let attempt = match self.sign(&intent, fees, false) {
            Ok(attempt) => attempt,
            Err(reason) => {
                tracing::error!(nonce, "cannot sign under another nonce: {reason}");
                return None;
            }
        };
        // In one: a crash neither loses the call nor sends it twice.
        let (stored_intent, stored_attempt) = (intent.clone(), attempt.clone());
        let stored = self
            .store
            .write(move |transaction| table::supersede(transaction, old, sender, &stored_intent, &stored_attempt))
            .await;
        let id = match stored {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(%error, nonce, "not sending under another nonce what cannot be recorded");
                return None;
            }
        };
        let another = intent.nonce;
        tracing::warn!(
            %sender,
            label = intent.label,
            nonce,
            "another program used this nonce; sending under nonce {another}"
        );
        self.lose(nonce, head);
        if let Some(waiters) = self.waiters.remove(&nonce) {
            self.waiters.insert(another, waiters);
        }
        self.open_at_next(id, intent, attempt, head);
        Some(another)
    }

    /// Its nonce is somebody else's, and it is of no use any more.
    async fn give_up(&mut self, nonce: u64, head: u64) {
        let Some(row) = self.lose(nonce, head) else { return };
        tracing::warn!(
            sender = %self.signer.address(),
            label = row.intent.label,
            nonce,
            "another program used this nonce, and what waited at it is of no use any more"
        );
        for waiter in self.waiters.remove(&nonce).unwrap_or_default() {
            let _ = waiter.send(Outcome::Cancelled);
        }
        self.set_state(row.id, RowState::Superseded, None).await;
    }

    fn lose(&mut self, nonce: u64, head: u64) -> Option<Row> {
        self.metrics.foreign.inc();
        self.ledger.lose(nonce, head);
        self.rows.remove(&nonce)
    }

    /// Uses a nonce that was somebody else's and is nobody's any more (a node forgot the transaction, or a reorganisation
    /// dropped it), because ours wait behind it. What still waits there is left alone.
    pub(super) async fn fill(&mut self, nonce: u64) {
        let sender = self.signer.address();
        let (market, taken) = tokio::join!(
            sending::market(&self.provider, &self.settings),
            sending::taken(&self.provider, sender),
        );
        let (Ok((fees, head)), Ok(taken)) = (market, taken) else {
            return;
        };
        self.ledger.let_wait(head);
        if taken > nonce {
            tracing::warn!(%sender, nonce, "waiting behind a transaction that another program sent with this key");
            self.degraded(format!(
                "transactions wait behind one that another program sent with this key, nonce {nonce} of {sender}: raise its fee, or \
                 replace it"
            ));
            return;
        }
        let intent = Intent {
            nonce,
            label: format!("fill/{nonce}"),
            to: sender,
            data: Default::default(),
            value: Default::default(),
            gas_limit: sending::EMPTY_TRANSACTION_GAS,
            valid_until: None,
        };
        let attempt = match self.sign(&intent, fees, true) {
            Ok(attempt) => attempt,
            Err(reason) => return tracing::error!(nonce, "cannot sign an empty transaction: {reason}"),
        };
        let (stored_intent, stored_attempt) = (intent.clone(), attempt.clone());
        let stored = self
            .store
            .write(move |transaction| {
                let id = table::insert(transaction, sender, &stored_intent, &stored_attempt)?;
                table::set_state(transaction, id, RowState::Cancelling, None)?;
                Ok(id)
            })
            .await;
        match stored {
            Ok(id) => self.send_filling(id, intent, attempt, head).await,
            Err(error) => tracing::error!(%error, nonce, "not sending an empty transaction that cannot be recorded"),
        }
    }

    async fn send_filling(&mut self, id: i64, intent: Intent, attempt: Attempt, head: u64) {
        let (nonce, raw) = (intent.nonce, attempt.raw.clone());
        tracing::warn!(
            sender = %self.signer.address(),
            nonce,
            hash = %attempt.hash,
            "nobody uses this nonce any more; filling it with an empty transaction, because ours wait behind it"
        );
        self.ledger.fill(
            nonce,
            Open {
                id,
                valid_until: None,
                standing: Standing::Cancelling,
                sent_at: head,
                priced_at: head,
            },
        );
        self.rows
            .insert(nonce, Row::first(id, RowState::Cancelling, intent, attempt));
        let answer = sending::broadcast(&self.provider, &raw).await;
        self.note(nonce, &answer);
    }
}
