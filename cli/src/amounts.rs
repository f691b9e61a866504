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
    if text.starts_with('-') {
        return Err(Failure::bad_input(format!("`{text}`: an amount is a positive number")));
    }
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

/// What a lease costs its user and whom it pays, as the contracts count it (`Fees.sol`): cumulative from the start, in units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bill {
    /// Streamed.
    pub(crate) gross: U256,
    /// What of it the supplier gets.
    pub(crate) paid: U256,
    /// What of it the gateway of a fizz node gets.
    pub(crate) gateway: U256,
    /// What of it the foundation gets.
    pub(crate) commission: U256,
    /// The second part of it that the foundation gets.
    pub(crate) provider_fee: U256,
    /// On top of it, the foundation's.
    pub(crate) user_fee: U256,
    /// Whoever brought the match in got it when the lease began; zero for a lease that came from an update.
    pub(crate) match_fee: U256,
}

const BASIS_POINTS: u64 = 10_000;

/// A share of an amount in basis points, rounded down.
fn share(of: U256, points: u16) -> U256 {
    of * U256::from(points) / U256::from(BASIS_POINTS)
}

impl Bill {
    /// After `seconds` at a rate.
    pub(crate) fn after(seconds: u32, rate: U256, schedule: &FeeSchedule, origin: Origin) -> Self {
        let gross = rate * U256::from(seconds) / U256::from(RATE_SECONDS);
        // Both are taken and rounded down together.
        let provider_fee = share(gross, schedule.providerFee);
        let commission = share(gross, schedule.commission + schedule.providerFee) - provider_fee;
        let net = gross - commission - provider_fee;
        let gateway = if origin.shared {
            share(net, schedule.gatewayShare)
        } else {
            U256::ZERO
        };
        Self {
            gross,
            paid: net - gateway,
            gateway,
            commission,
            provider_fee,
            user_fee: share(gross, schedule.userFee),
            match_fee: if origin.updated {
                U256::ZERO
            } else {
                U256::from(schedule.matchFee)
            },
        }
    }

    /// The foundation's part.
    pub(crate) fn foundation(&self) -> U256 {
        self.commission + self.provider_fee + self.user_fee
    }

    /// The foundation's part and the fee for the match.
    pub(crate) fn fees(&self) -> U256 {
        self.foundation() + self.match_fee
    }

    /// What leaves the account when the lease ends: not the fee for the match, which left when it began.
    pub(crate) fn streamed(&self) -> U256 {
        self.gross + self.user_fee
    }

    /// All that leaves the account.
    pub(crate) fn spent(&self) -> U256 {
        self.streamed() + self.match_fee
    }
}

/// Where a lease comes from and who serves it: what its bill depends on beside its schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// It replaced another lease: nobody matched it, so nobody earned a fee for that.
    pub(crate) updated: bool,
    /// A fizz node serves it, and its gateway has a share.
    pub(crate) shared: bool,
}

/// What stays locked while a lease lives.
pub(crate) fn lease_lock(duration: u32, rate: U256, schedule: &FeeSchedule) -> U256 {
    let stream = (rate * U256::from(duration)).div_ceil(U256::from(RATE_SECONDS));
    stream + (stream * U256::from(schedule.userFee)).div_ceil(U256::from(BASIS_POINTS))
}

/// What is locked while an order is open: with the fee for the match.
pub(crate) fn order_lock(duration: u32, rate: U256, schedule: &FeeSchedule) -> U256 {
    lease_lock(duration, rate, schedule) + U256::from(schedule.matchFee)
}

/// The longest extension of a lease whose lock grows by at most `amount`: seconds.
pub(crate) fn affordable_extension(duration: u32, rate: U256, schedule: &FeeSchedule, amount: U256) -> u32 {
    const LONGEST_LEASE: u32 = (1 << 29) - 1;
    let before = lease_lock(duration, rate, schedule);
    let fits = |added: u32| lease_lock(duration + added, rate, schedule) - before <= amount;
    // The lock grows with the duration: halving finds the last that fits.
    let (mut fitting, mut beyond) = (0, LONGEST_LEASE.saturating_sub(duration) + 1);
    while beyond - fitting > 1 {
        let middle = fitting + (beyond - fitting) / 2;
        if fits(middle) {
            fitting = middle
        } else {
            beyond = middle
        }
    }
    fitting
}

/// Reads `90s`, `10m` (or `10min`), `2h`, `3d`: a time that is waited for.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: u64 = 30 * 24 * 3_600;
    match seconds(text)? {
        seconds if seconds <= LONGEST => Ok(Duration::from_secs(seconds)),
        _ => Err("must be at most 30 days".to_owned()),
    }
}

/// Reads `90s`, `10m` (or `10min`), `2h`, `3d`, `2w`: a time of a lease, in seconds.
pub(crate) fn lease_time(text: &str) -> Result<u32, String> {
    const LONGEST: u64 = (1 << 29) - 1;
    match seconds(text)? {
        seconds if seconds <= LONGEST => u32::try_from(seconds).map_err(|error| error.to_string()),
        _ => Err(format!("must be at most {LONGEST}s, the longest lease there can be")),
    }
}

/// Seconds of a number with a unit.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a number with s, m, h, d or w, for example 10m";
    let split = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let size = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(EXPECTED.to_owned()),
    };
    match number.checked_mul(size) {
        Some(0) => Err("must be longer than zero".to_owned()),
        Some(seconds) => Ok(seconds),
        None => Err("is longer than there is time".to_owned()),
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
        let negative = units("-5", 6, "uSPON").expect_err("negative").to_string();
        assert!(negative.ends_with("an amount is a positive number"), "{negative}");
        assert!(units(&"9".repeat(38), 36, "X").is_ok());
        assert!(units(&"9".repeat(39), 200, "X").is_err());
    }

    #[test]
    fn rates_are_shown_by_the_hour() {
        assert_eq!(hourly(U256::from(10_000_000), &token(6)), "1");
        assert_eq!(hourly(U256::from(1), &token(6)), "0.0000001");
    }

    fn schedule() -> FeeSchedule {
        FeeSchedule {
            commission: 2_000,
            userFee: 200,
            providerFee: 200,
            gatewayShare: 1_500,
            matchFee: U96::from(1_000),
        }
    }

    #[test]
    fn a_bill_adds_up_to_the_unit() {
        let rate = U256::from(9_999_999);
        let bill = Bill::after(77, rate, &schedule(), Origin::default());
        // floor(9 999 999 * 77 / 36 000) = 21 388; 22 % of it together 4 705, a fiftieth of it 427.
        assert_eq!(bill.gross, U256::from(21_388));
        assert_eq!(bill.paid, U256::from(21_388 - 4_705));
        assert_eq!(bill.provider_fee + bill.commission, U256::from(4_705));
        assert_eq!(bill.spent(), U256::from(21_388 + 427 + 1_000));
        assert_eq!(bill.paid + bill.fees(), bill.spent());
        assert!(order_lock(77, rate, &schedule()) >= bill.spent());
    }

    #[test]
    fn a_gateway_gets_its_share_of_what_is_left_after_fees_and_an_update_costs_no_match() {
        let origin = Origin {
            updated: true,
            shared: true,
        };
        let bill = Bill::after(77, U256::from(9_999_999), &schedule(), origin);
        // Net 16 683, of it 15 %: 2 502.45.
        assert_eq!(bill.gateway, U256::from(2_502));
        assert_eq!(bill.paid, U256::from(16_683 - 2_502));
        assert_eq!(bill.match_fee, U256::ZERO);
        assert_eq!(bill.paid + bill.gateway + bill.fees(), bill.spent());
    }

    /// The cases of `contracts/test/market/Words.t.sol`, and its bounds on many leases.
    #[test]
    fn fees_are_the_contracts_to_the_unit() {
        let one = U256::from(1);
        let schedule = FeeSchedule {
            matchFee: U96::from(7),
            ..schedule()
        };
        assert_eq!(lease_lock(1, one, &schedule), U256::from(2));
        assert_eq!(order_lock(1, one, &schedule), U256::from(9));
        let after = |seconds, rate: u64| Bill::after(seconds, U256::from(rate), &schedule, Origin::default());
        assert_eq!(after(1, 1).gross, U256::ZERO);
        assert_eq!(after(36_000, 1).gross, one);
        assert_eq!(after(36_000, 10_000).paid, U256::from(7_800));
        assert_eq!(after(36_000, 10_049).user_fee, U256::from(200));

        // Numbers without a pattern; the same ones every time.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..2_000 {
            let (wide, narrower) = (U256::from(next()) << 20, usize::try_from(next() % 84).expect("small"));
            let rate: U256 = std::cmp::max(wide >> narrower, one);
            let duration = u32::try_from(next() % ((1 << 29) - 1)).expect("29 bits") + 1;
            let commission = u16::try_from(next() % 2_501).expect("small");
            let user_fee = u16::try_from(next() % (2_501 - u64::from(commission))).expect("small");
            let left = 2_501 - u64::from(commission) - u64::from(user_fee);
            let schedule = FeeSchedule {
                commission,
                userFee: user_fee,
                providerFee: u16::try_from(next() % left).expect("small"),
                gatewayShare: u16::try_from(next() % 5_001).expect("small"),
                matchFee: U96::from(7),
            };
            let origin = Origin {
                updated: false,
                shared: true,
            };
            let bill = Bill::after(duration, rate, &schedule, origin);
            assert_eq!(bill.paid + bill.gateway + bill.fees(), bill.spent());
            let lock = lease_lock(duration, rate, &schedule);
            assert!(bill.streamed() <= lock, "the lock covers stream and user fee");
            let exact = rate * U256::from(duration) * U256::from(10_000 + u32::from(user_fee));
            let scale = U256::from(RATE_SECONDS * BASIS_POINTS);
            assert!(lock * scale >= exact && lock * scale < exact + scale * U256::from(3));
            // What is paid never falls as the lease goes on.
            let later = Bill::after(duration + 1, rate, &schedule, origin);
            assert!(later.paid + later.gateway >= bill.paid + bill.gateway);
        }
    }

    #[test]
    fn money_buys_the_longest_extension_that_it_covers() {
        let rate = U256::from(9_999_999);
        let before = lease_lock(77, rate, &schedule());
        for amount in [0u64, 1, 277, 278, 284, 1_000_000, u64::MAX] {
            let amount = U256::from(amount);
            let added = affordable_extension(77, rate, &schedule(), amount);
            assert!(lease_lock(77 + added, rate, &schedule()) - before <= amount);
            if added < (1 << 29) - 1 - 77 {
                assert!(
                    lease_lock(77 + added + 1, rate, &schedule()) - before > amount,
                    "{amount}"
                );
            }
        }
    }

    #[test]
    fn times_are_read_and_shown() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("10min", 600), ("2h", 7_200), ("1d", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "10",
            "m",
            "1y",
            "-1s",
            "0s",
            "1.5h",
            "99999999999999999999h",
            "10000h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(lease_time("2w"), Ok(1_209_600));
        assert!(lease_time("536870912s").is_err() && lease_time("536870911s").is_ok());
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
