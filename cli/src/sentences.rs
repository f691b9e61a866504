//! What a contract refuses, as a sentence: times as dates, tokens by their symbols, amounts in whole tokens.

use ::chain::network::{Network, Token};
use ::chain::reverts;
use alloy::primitives::U256;
use bindings::{Operand, describe_revert_with};

use crate::amounts;
use crate::dates::Date;

/// Operands that are Unix seconds.
const TIMES: [&str; 7] = [
    "expiry",
    "timestamp",
    "deadline",
    "end",
    "holdEnd",
    "updatedAt",
    "signatureDeadline",
];
/// Operands that are units of the token that their error names.
const AMOUNTS: [&str; 7] = ["left", "needed", "unlocked", "held", "amount", "total", "cap"];

/// The sentence for the data of a revert. Without a network tokens stay ids.
pub(crate) fn sentence(data: &[u8], network: Option<&Network>) -> String {
    let told = describe_revert_with(data, |operand, all| {
        time(operand).or_else(|| money(operand, all, network?))
    });
    told.unwrap_or_else(|| reverts::describe(data, None))
}

/// A date. What no clock shows (zero, the highest number) stays the number that it is.
fn time(operand: &Operand) -> Option<String> {
    const FIRST: u64 = 1_000_000_000;
    const LAST: u64 = 1 << 40;
    let seconds = u64::try_from(operand.word).ok()?;
    let is_time = TIMES.contains(&operand.name) && (FIRST..LAST).contains(&seconds);
    is_time.then(|| format!("{} UTC", Date(seconds)))
}

fn money(operand: &Operand, all: &[Operand], network: &Network) -> Option<String> {
    if is_token(operand) {
        return token(operand.word, network).map(|token| token.symbol.clone());
    }
    let named = all.iter().find(|other| is_token(other))?;
    let token = token(named.word, network)?;
    AMOUNTS
        .contains(&operand.name)
        .then(|| amounts::shown(operand.word, token))
}

fn is_token(operand: &Operand) -> bool {
    (operand.kind, operand.name) == ("uint8", "token")
}

fn token(id: U256, network: &Network) -> Option<&Token> {
    network.token_by_id(u8::try_from(id).ok()?)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use alloy::primitives::aliases::U40;
    use alloy::sol_types::SolError as _;
    use bindings::{IEscrow, ILeases, IOrderBook};

    use super::*;

    fn network() -> Network {
        let mut network = crate::serving::nowhere();
        network.tokens = vec![Token {
            id: 2,
            symbol: "uSPON".to_owned(),
            address: Address::ZERO,
            decimals: 6,
        }];
        network
    }

    #[test]
    fn times_are_dates_and_money_has_its_symbol() {
        let expired = IEscrow::SpendingRightExpired {
            account: 4,
            token: 2,
            spender: Address::ZERO,
            expiry: U40::from(1_801_396_800_u64),
        };
        let told = sentence(&expired.abi_encode(), Some(&network()));
        assert!(
            told.contains("account: 4, token: uSPON,") && told.contains("expiry: 2027-01-31 12:00:00 UTC"),
            "{told}"
        );
        let exceeded = IEscrow::SpendingLimitExceeded {
            account: 4,
            token: 2,
            spender: Address::ZERO,
            left: U256::from(500_000),
            needed: U256::from(1_250_000),
        };
        let told = sentence(&exceeded.abi_encode(), Some(&network()));
        assert!(told.contains("left: 0.5 uSPON, needed: 1.25 uSPON"), "{told}");
    }

    #[test]
    fn what_is_neither_stays_a_number() {
        let unknown = IEscrow::InsufficientBalance {
            account: 4,
            token: 9,
            unlocked: U256::from(5),
            needed: U256::from(6),
        };
        let told = sentence(&unknown.abi_encode(), Some(&network()));
        assert!(told.contains("token: 9, unlocked: 5, needed: 6"), "{told}");
        // `needed` is a bracket here.
        let above = IOrderBook::AboveBracket {
            resources: U256::ZERO,
            bracket: 1,
            needed: 3,
        };
        assert!(sentence(&above.abi_encode(), Some(&network())).contains("needed: 3"));
        let over = ILeases::SignatureExpired {
            deadline: U256::ZERO,
            timestamp: U256::from(1_801_396_800),
        };
        let told = sentence(&over.abi_encode(), None);
        assert!(
            told.contains("deadline: 0, timestamp: 2027-01-31 12:00:00 UTC"),
            "{told}"
        );
    }
}
