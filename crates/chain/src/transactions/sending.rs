//! One transaction on its way to a node: its price, its signature, and what the node says.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::BlockNumberOrTag;
use alloy::eips::eip2718::Encodable2718;
use alloy::network::TxSignerSync;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::signers::local::PrivateKeySigner;
use alloy::transports::TransportError;

use super::TransactionSettings;
use super::fees::{self, Fees};
use super::table::{Attempt, Intent};

/// What an empty transaction uses.
pub(super) const EMPTY_TRANSACTION_GAS: u64 = 21_000;

/// What the node said to a transaction.
pub(super) enum Answer {
    /// It has it, or had it before.
    Taken,
    /// Its nonce is used: one of ours was included, or somebody else's.
    NonceTooLow,
    /// Another transaction waits at its nonce, and it does not offer enough more to take that one's place.
    Occupied,
    /// It wants more.
    Underpriced,
    /// It will not have it.
    Refused(String),
    /// It cannot be asked.
    Unreachable(String),
}

/// What the market asks now, and the newest block.
pub(super) async fn market(
    provider: &RootProvider,
    settings: &TransactionSettings,
) -> Result<(Fees, u64), TransportError> {
    let (block, priority) = tokio::join!(
        async { provider.get_block_by_number(BlockNumberOrTag::Latest).await },
        async { provider.get_max_priority_fee_per_gas().await },
    );
    let header = block?.ok_or(TransportError::NullResp)?.header;
    // Not every node has this method; the configured least priority fee stands in.
    let priority = match priority {
        Ok(priority) => priority,
        Err(error) if error.as_error_resp().is_some() => 0,
        Err(error) => return Err(error),
    };
    let base_fee = u128::from(header.base_fee_per_gas.unwrap_or_default());
    let fees = fees::first_offer(
        base_fee,
        priority,
        settings.min_priority_fee_per_gas,
        settings.max_fee_per_gas,
    );
    Ok((fees, header.number))
}

/// Nonces of the key that are used, or that transactions in the node's pool wait at.
pub(super) async fn taken(provider: &RootProvider, sender: Address) -> Result<u64, TransportError> {
    provider.get_transaction_count(sender).pending().await
}

/// Signs the call, or the empty transaction that takes its place.
pub(super) fn sign(
    signer: &PrivateKeySigner,
    chain_id: u64,
    intent: &Intent,
    fees: Fees,
    cancels: bool,
) -> Result<Attempt, String> {
    let mut transaction = TxEip1559 {
        chain_id,
        nonce: intent.nonce,
        gas_limit: if cancels {
            EMPTY_TRANSACTION_GAS
        } else {
            intent.gas_limit
        },
        max_fee_per_gas: fees.maximum,
        max_priority_fee_per_gas: fees.priority,
        to: TxKind::Call(if cancels { signer.address() } else { intent.to }),
        value: if cancels { U256::ZERO } else { intent.value },
        access_list: Default::default(),
        input: if cancels { Bytes::new() } else { intent.data.clone() },
    };
    let signature = signer
        .sign_transaction_sync(&mut transaction)
        .map_err(|error| error.to_string())?;
    let envelope = TxEnvelope::from(transaction.into_signed(signature));
    let hash: B256 = *envelope.tx_hash();
    Ok(Attempt {
        hash,
        fees,
        cancels,
        raw: Bytes::from(envelope.encoded_2718()),
    })
}

/// Sends it, and says what the node said.
pub(super) async fn broadcast(provider: &RootProvider, raw: &Bytes) -> Answer {
    match provider.send_raw_transaction(raw).await {
        Ok(_) => Answer::Taken,
        Err(error) => match error.as_error_resp() {
            Some(response) => judge_refusal(&response.message),
            None => Answer::Unreachable(error.to_string()),
        },
    }
}

/// Nodes agree on the words, not on the codes.
fn judge_refusal(message: &str) -> Answer {
    let message_in_small = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message_in_small.contains(word));
    if says(&["already known", "already imported", "known transaction"]) {
        Answer::Taken
    } else if says(&["nonce too low", "nonce has already been used", "oldnonce"]) {
        Answer::NonceTooLow
    } else if says(&[
        "replacement transaction underpriced",
        "replacementnotallowed",
        "another transaction with same nonce",
    ]) {
        Answer::Occupied
    } else if says(&[
        "underpriced",
        "less than block base fee",
        "fee cap",
        "gas price too low",
        "lower than the minimum",
    ]) {
        Answer::Underpriced
    } else {
        Answer::Refused(message.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_their_words() {
        for (message, expected) in [
            ("already known", "taken"),
            ("nonce too low: next nonce 5, tx nonce 4", "too low"),
            ("replacement transaction underpriced", "occupied"),
            ("transaction underpriced: tip needed 2, tip permitted 1", "underpriced"),
            ("max fee per gas less than block base fee", "underpriced"),
            ("insufficient funds for gas * price + value", "refused"),
            ("exceeds block gas limit", "refused"),
        ] {
            let judged = match judge_refusal(message) {
                Answer::Taken => "taken",
                Answer::NonceTooLow => "too low",
                Answer::Occupied => "occupied",
                Answer::Underpriced => "underpriced",
                Answer::Refused(_) => "refused",
                Answer::Unreachable(_) => "unreachable",
            };
            assert_eq!(judged, expected, "{message}");
        }
    }
}
