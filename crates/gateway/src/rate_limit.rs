//! How often one peer may ask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Fingerprint;

/// A rate per peer with a burst, for a bounded number of peers.
///
/// Per peer it keeps one instant: when its allowance will be whole again (the generic cell rate algorithm). A peer whose
/// allowance is whole needs no memory; when too many are not, the one nearest to it is forgotten.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    burst_allowance: Duration,
    peers: usize,
    whole_again: Mutex<HashMap<Fingerprint, Instant>>,
}

/// Asked too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimited {
    /// When the next request will be taken.
    pub retry_after: Duration,
}

impl RateLimiter {
    /// One request per `interval` in the long run, `burst` (at least one) at once; remembers at most `peers`.
    pub fn new(interval: Duration, burst: u32, peers: usize) -> Self {
        Self {
            interval,
            burst_allowance: interval * burst.saturating_sub(1),
            peers: peers.max(1),
            whole_again: Mutex::default(),
        }
    }

    /// Takes one request of `peer`, or says when to come back.
    pub fn check(&self, peer: Fingerprint, now: Instant) -> Result<(), RateLimited> {
        let mut whole_again = self.whole_again.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = whole_again
            .get(&peer)
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if pending > self.burst_allowance {
            return Err(RateLimited {
                retry_after: pending - self.burst_allowance,
            });
        }
        if whole_again.len() >= self.peers && !whole_again.contains_key(&peer) {
            whole_again.retain(|_, at| *at > now);
            if whole_again.len() >= self.peers
                && let Some(nearest) = whole_again.iter().min_by_key(|(_, at)| **at).map(|(peer, _)| *peer)
            {
                whole_again.remove(&nearest);
            }
        }
        whole_again.insert(peer, now + pending + self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> Fingerprint {
        Fingerprint::of_public_key(&[number])
    }

    #[test]
    fn a_burst_then_one_per_interval_and_neighbours_do_not_matter() {
        let limiter = RateLimiter::new(Duration::from_secs(1), 3, 16);
        let start = Instant::now();
        for _ in 0..3 {
            limiter.check(peer(1), start).expect("burst");
        }
        let refused = limiter.check(peer(1), start).expect_err("fourth");
        assert_eq!(refused.retry_after, Duration::from_secs(1));
        limiter.check(peer(2), start).expect("another peer");
        limiter.check(peer(1), start + refused.retry_after).expect("as told");
        limiter
            .check(peer(1), start + refused.retry_after)
            .expect_err("only one");
        for _ in 0..3 {
            limiter
                .check(peer(1), start + Duration::from_secs(60))
                .expect("whole again, and no more than whole");
        }
        limiter
            .check(peer(1), start + Duration::from_secs(60))
            .expect_err("no more than whole");
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = RateLimiter::new(Duration::from_secs(1), 1, 4);
        let start = Instant::now();
        for number in 0..100 {
            limiter.check(peer(number), start).expect("first of its peer");
        }
        assert_eq!(limiter.whole_again.lock().expect("lock").len(), 4);
    }
}
