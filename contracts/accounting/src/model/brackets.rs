//! How much compute a deposit entitles to: a ladder of powers of two, from 15 dollars held.

use std::collections::BTreeSet;

use super::{Amount, terms::Terms};

/// From here on an order may ask for anything.
pub const HIGHEST: u8 = 32;

/// Price of one whole token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    pub decimals: u8,
    pub heartbeat: u64,
    pub minimum: i128,
    pub maximum: i128,
    pub answer: i128,
    /// Zero: the round is not complete.
    pub updated_at: u64,
    /// It reverts.
    pub broken: bool,
}

impl Feed {
    /// Dollars with 18 decimals, unless the answer is broken, stale, from the future or out of bounds.
    pub fn price(&self, now: u64) -> Option<Amount> {
        let fresh = self.updated_at != 0 && self.updated_at <= now && now - self.updated_at <= self.heartbeat;
        let believed = self.answer > 0 && (self.minimum..=self.maximum).contains(&self.answer);
        let scale = Amount::from(10_u8).pow(u32::from(18 - self.decimals));
        (!self.broken && fresh && believed).then(|| Amount::from(self.answer.unsigned_abs()) * scale)
    }
}

/// Bracket of `held` units of a token with these decimals at this price.
pub fn of(held: &Amount, token_decimals: u8, price: &Amount) -> u8 {
    let dollars = held * price;
    let mut threshold = Amount::from(15_u8) * Amount::from(10_u8).pow(18 + u32::from(token_decimals));
    let mut bracket = 0;
    while bracket < HIGHEST && dollars >= threshold {
        bracket += 1;
        threshold *= 2_u8;
    }
    bracket
}

/// A withdrawal lowers the bracket by as many steps as the holding halves, rounded up.
pub fn lowered(bracket: u8, before: &Amount, after: &Amount) -> u8 {
    if *after == Amount::ZERO {
        return 0;
    }
    let mut steps = 0;
    let mut doubled = after.clone();
    while doubled < *before {
        doubled *= 2_u8;
        steps += 1;
    }
    bracket.saturating_sub(steps)
}

/// Whether one order may ask for this much. Units of the terms: 10 milli-CPU, 16 MiB of memory, 256 MiB of storage.
pub fn allows(bracket: u8, terms: &Terms, top_gpus: &BTreeSet<u8>) -> bool {
    if bracket >= HIGHEST {
        return true;
    }
    if bracket == 0 {
        return false;
    }
    let times = 1_u64 << (bracket - 1);
    let gib_of_memory = 64;
    let gib_of_storage = 4;
    let (cpus, memory, storage) = if terms.gpus == 0 {
        (8, 32, 512)
    } else {
        (32, 128, 1_024)
    };
    let weight = if terms.gpu_ids.iter().any(|id| top_gpus.contains(id)) {
        4
    } else {
        1
    };
    u64::from(terms.cpu) <= cpus * 100 * times
        && u64::from(terms.memory) <= memory * gib_of_memory * times
        && u64::from(terms.storage) <= storage * gib_of_storage * times
        && u64::from(terms.gpus) * weight <= times
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whitepaper's example is 15 dollars.
    #[test]
    fn the_ladder() {
        let (dollar, cent) = (Amount::from(10_u8).pow(18), 10_000_u64);
        let bracket = |cents: u64| of(&Amount::from(cents * cent), 6, &dollar);
        assert_eq!(
            [1_499, 1_500, 2_999, 3_000, 5_999, 6_000].map(bracket),
            [0, 1, 1, 2, 2, 3]
        );
        assert_eq!(of(&Amount::from(10_u8).pow(40), 6, &dollar), HIGHEST);
    }

    #[test]
    fn withdrawing_goes_down_the_ladder() {
        let after = |left: u32| lowered(5, &Amount::from(64_u8), &Amount::from(left));
        assert_eq!([64, 63, 32, 31, 16, 15, 1, 0].map(after), [5, 4, 4, 3, 3, 2, 0, 0]);
    }

    #[test]
    fn a_price_is_fresh_to_its_last_second() {
        let feed = Feed {
            decimals: 8,
            heartbeat: 60,
            minimum: 1,
            maximum: 100,
            answer: 100,
            updated_at: 1_000,
            broken: false,
        };
        assert_eq!(feed.price(1_060), Some(Amount::from(10_u8).pow(12)));
        assert_eq!(feed.price(1_061), None);
        assert_eq!(feed.price(999), None);
        assert_eq!(Feed { answer: 101, ..feed }.price(1_000), None);
    }
}
