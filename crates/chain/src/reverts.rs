//! Reverts as sentences.

use std::fmt::Debug;
use std::sync::Arc;

use alloy::primitives::Bytes;
use alloy::sol_types::{Panic, Revert, SolError, SolInterface};
use alloy::transports::TransportError;

/// Turns revert data into a sentence, where it knows the error. Binaries pass `bindings::describe_revert`.
pub type RevertDecoder = Arc<dyn Fn(&[u8]) -> Option<String> + Send + Sync>;

/// The data of a revert, where `error` is one.
pub fn data_of(error: &TransportError) -> Option<Bytes> {
    let payload = error.as_error_resp()?;
    payload.as_revert_data().or_else(|| {
        // A revert without data, which nodes word alike.
        let message = payload.message.to_ascii_lowercase();
        message.contains("revert").then(Bytes::new)
    })
}

/// A sentence for revert data: `decoder` first, then `require` messages and panics, then the data itself.
pub fn describe(data: &[u8], decoder: Option<&RevertDecoder>) -> String {
    if data.is_empty() {
        return "reverted without a reason".to_owned();
    }
    if let Some(sentence) = decoder.and_then(|decoder| decoder(data)) {
        return sentence;
    }
    if let Ok(revert) = Revert::abi_decode(data) {
        return revert.reason;
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return panic.to_string();
    }
    format!(
        "reverted with an error this program does not know: {}",
        alloy::primitives::hex::encode_prefixed(data)
    )
}

/// A decoder for the errors of one `sol!` interface, by their debug form.
pub fn decoder_of<E: SolInterface + Debug>() -> RevertDecoder {
    Arc::new(|data| E::abi_decode(data).ok().map(|error| format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    alloy::sol! {
        #[derive(Debug)]
        interface IMarket {
            error BidAboveMaximum(uint64 bid, uint64 maximum);
        }
    }

    #[test]
    fn known_errors_require_messages_panics_and_unknown_data_are_told_apart() {
        let decoder = decoder_of::<IMarket::IMarketErrors>();
        let known = IMarket::BidAboveMaximum { bid: 9, maximum: 7 }.abi_encode();
        let sentence = describe(&known, Some(&decoder));
        assert!(
            sentence.contains("BidAboveMaximum") && sentence.contains('9'),
            "{sentence}"
        );
        assert_eq!(
            describe(&Revert::from("not yours").abi_encode(), Some(&decoder)),
            "not yours"
        );
        assert!(describe(&Panic::from(0x11).abi_encode(), None).contains("overflow"));
        assert!(describe(&[1, 2, 3, 4], None).contains("0x01020304"));
        assert_eq!(describe(&[], None), "reverted without a reason");
    }
}
