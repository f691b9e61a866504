//! A price feed that answers what it is told.

use accounting::model::brackets::Feed;
use alloy_primitives::{Address, I256, U256};

use crate::chain::Chain;

/// A feed that answers from its storage: round, answer, start, time, round answered in; decimals at 5; reverts if 6 is set.
pub(crate) fn feed_code() -> Vec<u8> {
    const LATEST_ROUND_DATA: [u8; 4] = [0xfe, 0xaf, 0x96, 0x8c];
    // sload(6) -> revert at the end
    let mut code = vec![0x60, 6, 0x54, 0x60, 0, 0x57];
    // shr(224, calldataload(0)) == latestRoundData -> jump
    code.extend([0x5f, 0x35, 0x60, 224, 0x1c, 0x63]);
    code.extend(LATEST_ROUND_DATA);
    code.extend([0x14, 0x60, 0, 0x57]);
    let round_jump = code.len() - 2;
    // return(sload(5))
    code.extend([0x60, 5, 0x54, 0x5f, 0x52, 0x60, 32, 0x5f, 0xf3]);
    code[round_jump] = code.len() as u8;
    code.push(0x5b);
    for word in 0..5 {
        code.extend([0x60, word, 0x54, 0x60, 32 * word, 0x52]);
    }
    code.extend([0x60, 160, 0x5f, 0xf3]);
    code[4] = code.len() as u8;
    code.extend([0x5b, 0x5f, 0x5f, 0xfd]);
    code
}

/// Makes a feed answer as the model's does.
pub(crate) fn put_answer(chain: &mut Chain, address: Address, feed: &Feed) {
    let answer = I256::try_from(feed.answer).expect("128 bits fit").into_raw();
    let time = U256::from(feed.updated_at);
    let words = [
        U256::ONE,
        answer,
        time,
        time,
        U256::ONE,
        U256::from(feed.decimals),
        U256::from(feed.broken),
    ];
    for (slot, word) in (0..).zip(words) {
        chain.put_storage(address, slot, word);
    }
}
