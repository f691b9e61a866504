//! Amounts and times as people read them.

use alloy::primitives::utils::format_units;
use alloy::primitives::{Address, U256};
use chain::network::Network;
use serde::Serialize;

/// An amount of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// By which the network lists the token; its address where it lists it no more.
    pub symbol: String,
    pub token: Address,
    /// In the token's smallest unit.
    #[serde(serialize_with = "decimal")]
    pub units: U256,
    #[serde(skip)]
    decimals: u8,
}

impl Amount {
    pub fn new(network: &Network, token: Address, units: U256) -> Self {
        let listed = network.tokens.iter().find(|listed| listed.address == token);
        Self {
            symbol: listed.map_or_else(|| format!("units of {token}"), |listed| listed.symbol.clone()),
            token,
            units,
            decimals: listed.map_or(0, |listed| listed.decimals),
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", in_whole(self.units, self.decimals), self.symbol)
    }
}

/// Units as whole tokens, without trailing zeros.
pub(crate) fn in_whole(units: U256, decimals: u8) -> String {
    let whole = format_units(units, decimals).unwrap_or_else(|_| units.to_string());
    match whole.split_once('.') {
        Some((whole, fraction)) => match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            fraction => format!("{whole}.{fraction}"),
        },
        None => whole,
    }
}

/// [`in_whole`] with at most six decimals, rounded down: to be read at a glance.
pub(crate) fn in_brief(units: U256, decimals: u8) -> String {
    let step = U256::from(10).pow(U256::from(decimals.saturating_sub(6)));
    match units / step {
        U256::ZERO if !units.is_zero() => "less than 0.000001".to_owned(),
        steps => in_whole(steps, decimals.min(6)),
    }
}

/// Amounts exceed what JSON readers keep exactly, so they are decimal text.
pub(crate) fn decimal<S: serde::Serializer>(amount: &U256, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

/// A Unix time as date and time of day (UTC).
pub(crate) fn utc(timestamp: u64) -> String {
    let (days, seconds) = (timestamp / 86_400, timestamp % 86_400);
    // Days since 0000-03-01, in eras of 400 years: a year that starts in March ends with its leap day.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let of_era_years = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_era_years + of_era_years / 4 - of_era_years / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + of_era_years + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        for (timestamp, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_799, "2000-02-29 23:59:59 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_709_164_800, "2024-02-29 00:00:00 UTC"),
            (2_000_000_000, "2033-05-18 03:33:20 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(timestamp), expected);
        }
    }

    #[test]
    fn amounts_have_no_trailing_zeros() {
        let amount = |units: u64, decimals| {
            Amount {
                symbol: "SPON".into(),
                token: Address::ZERO,
                units: U256::from(units),
                decimals,
            }
            .to_string()
        };
        assert_eq!(amount(1_500_000, 6), "1.5 SPON");
        assert_eq!(amount(2_000_000, 6), "2 SPON");
        assert_eq!(amount(7, 0), "7 SPON");
        assert_eq!(amount(0, 18), "0 SPON");
    }

    #[test]
    fn in_brief_there_are_six_decimals_at_most() {
        let ether = U256::from(10).pow(U256::from(18));
        assert_eq!(in_brief(ether * U256::from(32), 18), "32");
        assert_eq!(in_brief(ether / U256::from(3), 18), "0.333333");
        assert_eq!(in_brief(U256::from(1), 18), "less than 0.000001");
        assert_eq!(in_brief(U256::ZERO, 18), "0");
        assert_eq!(in_brief(U256::from(1), 6), "0.000001");
        assert_eq!(in_brief(U256::from(12), 0), "12");
    }
}
