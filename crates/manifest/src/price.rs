//! Prices: from whole tokens an hour, as people write them, to token units per 36 000 seconds, as the chain counts.

use alloy_primitives::U256;
use avs::words::{RATE_MAXIMUM, RATE_SECONDS};
use serde::Serialize;

use crate::model::Manifest;
use crate::order::OrderError;

/// What an order locks at its maximum rate, in token units: the same sums as the escrow contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quote {
    /// The whole stream to the supplier, rounded up.
    pub stream: u128,
    /// Facilitation fee on top, rounded up.
    pub user_fee: u128,
    /// Fee for whoever posts the match.
    pub match_fee: u128,
}

impl Quote {
    /// `user_fee` in basis points and `match_fee` in token units, from the token's fee schedule. Rates have 84 bits and
    /// durations 29, so no product overflows.
    pub fn new(maximum_rate: u128, duration: u32, user_fee: u16, match_fee: u128) -> Self {
        const BASIS_POINTS: u128 = 10_000;
        let stream = (maximum_rate * u128::from(duration)).div_ceil(u128::from(RATE_SECONDS));
        let user_fee = (stream * u128::from(user_fee)).div_ceil(BASIS_POINTS);
        Self {
            stream,
            user_fee,
            match_fee,
        }
    }

    /// What must be unlocked in the account when the order is created.
    pub fn lock(&self) -> u128 {
        self.stream + self.user_fee + self.match_fee
    }
}

/// The most that all containers together may cost, as exact text: whole tokens per hour.
pub fn hourly_total(manifest: &Manifest) -> String {
    match hourly_sum(manifest) {
        Some((digits, scale)) => decimal_text(digits, scale),
        None => "more than 2^256".to_owned(),
    }
}

/// Sum of price times count, as digits and the number of them after the point.
fn hourly_sum(manifest: &Manifest) -> Option<(U256, u8)> {
    let prices = || {
        manifest
            .services
            .values()
            .map(|service| (service.hourly_price, service.count))
    };
    let scale = prices().map(|(price, _)| price.scale()).max().unwrap_or(0);
    let digits = prices().try_fold(U256::ZERO, |sum, (price, count)| {
        let shift = U256::from(10).checked_pow(U256::from(scale - price.scale()))?;
        let price = U256::from(price.digits()).checked_mul(shift)?;
        sum.checked_add(price.checked_mul(U256::from(count))?)
    })?;
    Some((digits, scale))
}

/// Token units per 36 000 seconds, rounded down: the user never offers more than the file says.
pub(crate) fn maximum_rate(manifest: &Manifest, decimals: u8) -> Result<u128, OrderError> {
    const HOUR: u64 = 3_600;
    let symbol = &manifest.requirements.token;
    let too_large = || OrderError::RateTooLarge { symbol: symbol.clone() };
    let (digits, scale) = hourly_sum(manifest).ok_or_else(too_large)?;
    let power = |exponent: u8| U256::from(10).checked_pow(U256::from(exponent));
    // The two powers of ten cancel before anything is multiplied, so that fine prices do not overflow on the way.
    let (up, down) = (decimals.saturating_sub(scale), scale.saturating_sub(decimals));
    let hours = U256::from(RATE_SECONDS / HOUR);
    let rate = power(up)
        .and_then(|up| digits.checked_mul(up))
        .and_then(|units| units.checked_mul(hours));
    let rate = rate
        .zip(power(down))
        .map(|(rate, down)| rate / down)
        .ok_or_else(too_large)?;
    if rate.is_zero() {
        return Err(OrderError::RateTooSmall {
            total: hourly_total(manifest),
            symbol: symbol.clone(),
        });
    }
    u128::try_from(rate)
        .ok()
        .filter(|rate| *rate <= RATE_MAXIMUM)
        .ok_or_else(too_large)
}

/// `digits / 10^scale` without trailing zeros.
pub fn decimal_text(digits: U256, scale: u8) -> String {
    let scale = usize::from(scale);
    let text = format!("{:0>width$}", digits.to_string(), width = scale + 1);
    let (whole, fraction) = text.split_at(text.len() - scale);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}
