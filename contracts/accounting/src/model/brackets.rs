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
