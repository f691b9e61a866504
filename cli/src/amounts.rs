//! Amounts of tokens, as people write them and as contracts count them; rates and durations.

use std::time::Duration;

use alloy::primitives::U256;
use avs::words::RATE_SECONDS;
use bindings::FeeSchedule;
use chain::network::Token;
use manifest::{Decimal, decimal_text};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Whole tokens as decimal text.
pub(crate) fn whole(units: U256, decimals: u8) -> String {
    decimal_text(units, decimals)
}

/// Whole tokens with their symbol.
pub(crate) fn shown(units: U256, token: &Token) -> String {
    format!("{} {}", whole(units, token.decimals), token.symbol)
}

/// Units from whole tokens as decimal text.
pub(crate) fn units(text: &str, decimals: u8, symbol: &str) -> Result<U256, Failure> {
    let amount: Decimal = text.parse().map_err(|_| {
        Failure::bad_input(format!(
            "`{text}` is not an amount; expected whole tokens in decimal text, for example 12.5"
        ))
    })?;
    let Some(shift) = decimals.checked_sub(amount.scale()) else {
        return Err(Failure::bad_input(format!(
            "{text} is finer than {symbol} can be: it has {decimals} decimals"
        )));
    };
    U256::from(10)
        .checked_pow(U256::from(shift))
        .and_then(|power| U256::from(amount.digits()).checked_mul(power))
        .ok_or_else(|| Failure::bad_input(format!("{text} {symbol} is more than there can be")))
}

/// A rate as it is and as people read it.
pub(crate) fn rate(rate: U256, token: &Token) -> Value {
    json!({"symbol": token.symbol, "per_hour": hourly(rate, token), "units_per_36000s": rate.to_string()})
}

/// Whole tokens per hour: rates are units in ten hours.
pub(crate) fn hourly(rate: U256, token: &Token) -> String {
    decimal_text(rate, token.decimals + 1)
}

/// What a lease costs its user and brings its supplier, as the contracts count it: cumulative from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bill {
    /// Streamed.
    pub(crate) gross: U256,
    /// What of it the supplier gets.
    pub(crate) paid: U256,
    /// What of it the foundation gets, with the user's fee on top and the fee for the match.
    pub(crate) fees: U256,
    /// All that leaves the account.
    pub(crate) spent: U256,
}

const BASIS_POINTS: u64 = 10_000;

impl Bill {
    /// After `seconds` at a rate.
    pub(crate) fn after(seconds: u32, rate: U256, schedule: &FeeSchedule) -> Self {
        let gross = rate * U256::from(seconds) / U256::from(RATE_SECONDS);
        let share = |of: U256, points: u16| of * U256::from(points) / U256::from(BASIS_POINTS);
        let paid = gross - share(gross, schedule.commission) - share(gross, schedule.providerFee);
        let spent = gross + share(gross, schedule.userFee) + U256::from(schedule.matchFee);
        Self {
            gross,
            paid,
            fees: spent - paid,
            spent,
        }
    }
}

/// What stays locked while a lease lives, with the fee for the match.
pub(crate) fn worst_case(duration: u32, rate: U256, schedule: &FeeSchedule) -> U256 {
    let stream = (rate * U256::from(duration)).div_ceil(U256::from(RATE_SECONDS));
    let user_fee = (stream * U256::from(schedule.userFee)).div_ceil(U256::from(BASIS_POINTS));
    stream + user_fee + U256::from(schedule.matchFee)
}

/// Reads `90s`, `10m` (or `10min`), `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a number with s, m or h, for example 10m";
    let split = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        _ => return Err(EXPECTED.to_owned()),
    };
    const LONGEST: u64 = 30 * 24 * 3_600;
    match number.checked_mul(seconds) {
        Some(0) => Err("must be longer than zero".to_owned()),
        Some(seconds) if seconds <= LONGEST => Ok(Duration::from_secs(seconds)),
        _ => Err("must be at most 30 days".to_owned()),
    }
}

/// Seconds as people read them, in their two largest parts: `1h 5m`.
pub(crate) fn time(seconds: u64) -> String {
    const PARTS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let (mut rest, mut shown) = (seconds, Vec::new());
    for (size, unit) in PARTS {
        if rest >= size && shown.len() < 2 {
            shown.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if shown.is_empty() {
        "0s".to_owned()
    } else {
        shown.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, aliases::U96};

    use super::*;

    fn token(decimals: u8) -> Token {
        Token {
            id: 1,
            symbol: "uSPON".to_owned(),
            address: Address::ZERO,
            decimals,
        }
    }

    #[test]
    fn amounts_are_exact_or_refused() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(units(text, 6, "uSPON").ok(), expected.map(U256::from), "{text}");
        };
        check("1", Some(1_000_000));
        check("0.000001", Some(1));
        check("12.50", Some(12_500_000));
        check("0.0000001", None);
        check("-1", None);
        check("1e3", None);
        check("", None);
        assert!(units(&"9".repeat(38), 36, "X").is_ok());
        assert!(units(&"9".repeat(39), 200, "X").is_err());
    }

    #[test]
    fn rates_are_shown_by_the_hour() {
        assert_eq!(hourly(U256::from(10_000_000), &token(6)), "1");
        assert_eq!(hourly(U256::from(1), &token(6)), "0.0000001");
    }

    #[test]
    fn a_bill_adds_up_to_the_unit() {
        let schedule = FeeSchedule {
            commission: 2_000,
            userFee: 200,
            providerFee: 200,
            matchFee: U96::from(1_000),
        };
        let rate = U256::from(9_999_999);
        let bill = Bill::after(77, rate, &schedule);
        // floor(9 999 999 * 77 / 36 000) = 21 388; a fifth of it 4 277, a fiftieth 427.
        assert_eq!(bill.gross, U256::from(21_388));
        assert_eq!(bill.paid, U256::from(21_388 - 4_277 - 427));
        assert_eq!(bill.spent, U256::from(21_388 + 427 + 1_000));
        assert_eq!(bill.paid + bill.fees, bill.spent);
        assert!(worst_case(77, rate, &schedule) >= bill.spent);
    }

    #[test]
    fn times_are_read_and_shown() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("10min", 600), ("2h", 7_200)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "10",
            "m",
            "1d",
            "-1s",
            "0s",
            "1.5h",
            "99999999999999999999h",
            "10000h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (3_600, "1h"),
            (3_905, "1h 5m"),
            (90_061, "1d 1h"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }
}
