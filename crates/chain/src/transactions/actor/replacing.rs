//! What takes the place of a transaction that waits: itself again, one that offers more, or an empty one.

use super::{Standing, TransactionActor};
use crate::transactions::fees::{self, Fees};
use crate::transactions::sending;
use crate::transactions::table::{self, RowState};

impl TransactionActor {
    pub(super) async fn send_again(&mut self, nonce: u64, head: u64) {
        let Some(raw) = self
            .rows
            .get(&nonce)
            .and_then(|row| row.attempts.last())
            .map(|attempt| attempt.raw.clone())
        else {
            return;
        };
        if let Some(open) = self.ledger.get_mut(nonce) {
            open.sent_at = head;
        }
        let answer = sending::broadcast(&self.provider, &raw).await;
        self.note(nonce, &answer);
    }

    /// Replaces it, whether it is the call or its cancellation, by one that offers more.
    pub(super) async fn raise(&mut self, nonce: u64, head: u64) {
        let Some(row) = self.rows.get(&nonce) else { return };
        let Some(newest) = row.attempts.last() else { return };
        let (fees, cancels, label) = (newest.fees, newest.cancels, row.intent.label.clone());
        let Ok((market, _)) = sending::market(&self.provider, &self.settings).await else {
            return;
        };
        let Some(offer) = fees::next_offer(fees, market, self.settings.max_fee_per_gas) else {
            self.degraded(format!(
                "{label} waits at the highest fee allowed (transactions.max_fee_per_gas)"
            ));
            if let Some(open) = self.ledger.get_mut(nonce) {
                open.priced_at = head;
            }
            return self.send_again(nonce, head).await;
        };
        self.replace(nonce, offer, cancels, head).await;
    }

    pub(super) async fn cancel(&mut self, nonce: u64) {
        let Some(row) = self.rows.get(&nonce) else { return };
        let Some(fees) = row.attempts.last().map(|attempt| attempt.fees) else {
            return;
        };
        let Ok((market, head)) = sending::market(&self.provider, &self.settings).await else {
            return;
        };
        let offer = fees::next_offer(fees, market, self.settings.max_fee_per_gas).unwrap_or(fees);
        tracing::info!(
            label = row.intent.label,
            nonce,
            "giving it up: replacing it by an empty transaction"
        );
        self.replace(nonce, offer, true, head).await;
    }

    pub(super) async fn cancel_label(&mut self, label: &str) {
        if let Some(nonce) = self.pending_with_label(label) {
            self.cancel(nonce).await;
        }
    }

    async fn replace(&mut self, nonce: u64, offer: Fees, cancels: bool, head: u64) {
        let Some(row) = self.rows.get(&nonce) else { return };
        let attempt = match self.sign(&row.intent, offer, cancels) {
            Ok(attempt) => attempt,
            Err(reason) => return tracing::error!(nonce, "cannot sign a replacement: {reason}"),
        };
        let (id, stored) = (row.id, attempt.clone());
        let recorded = self
            .store
            .write(move |transaction| {
                table::add_attempt(transaction, id, &stored)?;
                if cancels {
                    table::set_state(transaction, id, RowState::Cancelling, None)
                } else {
                    Ok(())
                }
            })
            .await;
        if let Err(error) = recorded {
            return tracing::error!(%error, nonce, "not sending a replacement that cannot be recorded");
        }
        self.metrics.raised.inc();
        tracing::info!(nonce, hash = %attempt.hash, maximum_fee = offer.maximum, priority_fee = offer.priority, "raised");
        let raw = attempt.raw.clone();
        if let Some(row) = self.rows.get_mut(&nonce) {
            row.attempts.push(attempt);
        }
        if let Some(open) = self.ledger.get_mut(nonce) {
            open.sent_at = head;
            open.priced_at = head;
            if cancels {
                open.standing = Standing::Cancelling;
            }
        }
        let answer = sending::broadcast(&self.provider, &raw).await;
        self.note(nonce, &answer);
    }

    pub(super) async fn reopen(&mut self, nonce: u64, head: u64) {
        let Some(row) = self.rows.get_mut(&nonce) else { return };
        let cancels = row.attempts.last().is_some_and(|attempt| attempt.cancels);
        let (state, standing) = if cancels {
            (RowState::Cancelling, Standing::Cancelling)
        } else {
            (RowState::Pending, Standing::Pending)
        };
        tracing::warn!(label = row.intent.label, nonce, "no longer included; sending it again");
        row.block = None;
        row.state = state;
        let id = row.id;
        if let Some(open) = self.ledger.get_mut(nonce) {
            open.standing = standing;
            open.priced_at = head;
        }
        self.set_state(id, state, None).await;
        self.send_again(nonce, head).await;
    }
}
