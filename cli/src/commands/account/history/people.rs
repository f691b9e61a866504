//! Who did what, as far as transactions tell: events of orders do not name whoever closed or cancelled them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alloy::consensus::Transaction as _;
use alloy::network::TransactionResponse as _;
use alloy::primitives::{Address, B256};
use alloy::providers::Provider as _;
use alloy::sol_types::SolCall as _;
use bindings::ILeases;
use eyre::WrapErr as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::chain::read;
use crate::ledger::{Entry, Event, Ledger};
use crate::session::Session;

/// Transactions and suppliers that are read at the same time.
const READS_AT_ONCE: usize = 16;

/// Who sent a transaction, and whose signed request it brought in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) by: Address,
    /// Whose request it was, where it was a signed one.
    pub(super) signer: Option<Address>,
    /// Whether it called the order book itself; otherwise a contract did.
    direct: bool,
}

impl Sender {
    fn of(by: Address, to: Option<Address>, input: &[u8], book: Address) -> Self {
        let closed = ILeases::closeForCall::abi_decode(input).map(|call| call.request.signer);
        let ordered = || ILeases::createOrderForCall::abi_decode(input).map(|call| call.request.signer);
        let direct = to == Some(book);
        Self {
            by,
            signer: closed.or_else(|_| ordered()).ok().filter(|_| direct),
            direct,
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signer {
            Some(signer) => write!(formatter, "signed by {signer} and brought in by {}", self.by),
            None if self.direct => write!(formatter, "by {}", self.by),
            None => write!(formatter, "in a transaction of {}", self.by),
        }
    }
}

/// Who is behind the entries of a history.
#[derive(Debug, Default)]
pub(super) struct People {
    /// By transaction. What an endpoint does not keep is not there.
    senders: BTreeMap<B256, Sender>,
    /// Owners of the suppliers whose leases' updates came to nothing.
    owners: BTreeMap<u32, Address>,
}

impl People {
    /// Of the entries that are shown.
    pub(super) async fn of(session: &Session<'_>, shown: &[&Entry], ledger: &Ledger) -> eyre::Result<Self> {
        let (book, contract) = (session.chain.network.contracts.order_book, session.order_book());
        let transactions: BTreeSet<B256> = shown
            .iter()
            .filter(|entry| is_somebodys(&entry.event))
            .map(|entry| entry.place.transaction)
            .collect();
        let senders = stream::iter(transactions)
            .map(async |hash| {
                let found = session.chain.provider.get_transaction_by_hash(hash).await;
                let found = found.wrap_err("cannot read the chain")?;
                eyre::Ok(found.map(|found| (hash, Sender::of(found.from(), found.to(), found.input(), book))))
            })
            .buffered(READS_AT_ONCE)
            .try_filter_map(async |found| Ok(found))
            .try_collect();
        let suppliers: BTreeSet<u32> = shown
            .iter()
            .filter(|entry| matches!(entry.event, Event::Rejected { .. }))
            .filter_map(|entry| Some(ledger.leases.get(&entry.event.order()?)?.supplier))
            .collect();
        let owners = stream::iter(suppliers)
            .map(async |id| eyre::Ok((id, read(contract.supplierOwner(id)).await?)))
            .buffered(READS_AT_ONCE)
            .try_collect();
        let (senders, owners) = tokio::try_join!(senders, owners)?;
        Ok(Self { senders, owners })
    }

    /// Who sent the transaction of an entry, where that is what is to be told.
    pub(super) fn sender(&self, entry: &Entry) -> Option<&Sender> {
        let sender = self.senders.get(&entry.place.transaction)?;
        is_somebodys(&entry.event).then_some(sender)
    }

    /// Who owns a supplier.
    pub(super) fn owner(&self, supplier: u32) -> Option<Address> {
        self.owners.get(&supplier).copied()
    }
}

/// Whether an event is somebody's doing and does not name him.
fn is_somebodys(event: &Event) -> bool {
    matches!(
        event,
        Event::Ordered { .. } | Event::Cancelled { .. } | Event::Closed { .. }
    )
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Bytes, U256};
    use bindings::{CloseRequest, LeaseResources, OrderState};

    use super::*;

    const BOOK: Address = Address::repeat_byte(9);
    const BY: Address = Address::repeat_byte(1);
    const SIGNER: Address = Address::repeat_byte(2);

    fn resources() -> LeaseResources {
        LeaseResources {
            resources: U256::ZERO,
            restHash: B256::ZERO,
        }
    }

    #[test]
    fn whoever_signed_and_whoever_brought_it_in_are_told_apart() {
        let request = CloseRequest {
            signer: SIGNER,
            orderId: 7,
            nonce: U256::ZERO,
            deadline: U256::ZERO,
        };
        let call = ILeases::closeForCall {
            request,
            resources: resources(),
            signature: Bytes::new(),
        };
        let sender = Sender::of(BY, Some(BOOK), &call.abi_encode(), BOOK);
        assert_eq!(sender.to_string(), format!("signed by {SIGNER} and brought in by {BY}"));
        // What somebody else's contract is called with says nothing of ours.
        let sender = Sender::of(BY, Some(SIGNER), &call.abi_encode(), BOOK);
        assert_eq!(sender.to_string(), format!("in a transaction of {BY}"));
    }

    #[test]
    fn a_close_of_ones_own_is_by_its_sender() {
        let call = ILeases::closeLeaseCall {
            orderId: 7,
            reason: OrderState::ClosedByUser,
            resources: resources(),
        };
        let sender = Sender::of(BY, Some(BOOK), &call.abi_encode(), BOOK);
        assert_eq!((sender.signer, sender.to_string()), (None, format!("by {BY}")));
        assert_eq!(Sender::of(BY, None, &[], BOOK).signer, None);
    }
}
