//! How many log streams are open, in all and per peer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gateway::Fingerprint;
use gateway::wire::{ErrorBody, ErrorCode};

/// Counts streams within limits.
#[derive(Debug)]
pub(super) struct Streams {
    most: usize,
    most_per_peer: usize,
    open: Mutex<HashMap<Fingerprint, usize>>,
}

/// One stream's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    streams: Arc<Streams>,
    peer: Fingerprint,
}

impl Streams {
    pub(super) fn new(most: usize, most_per_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_per_peer,
            open: Mutex::default(),
        })
    }

    pub(super) fn take(self: &Arc<Self>, peer: Fingerprint) -> Result<Place, ErrorBody> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= self.most {
            let message = "too many log streams are open at this provider; try again shortly";
            return Err(ErrorBody::new(ErrorCode::Overloaded, message).retry_after(10));
        }
        let of_peer = open.entry(peer).or_default();
        if *of_peer >= self.most_per_peer {
            let message = format!("{of_peer} log streams of this client are open, the most there may be; close some");
            return Err(ErrorBody::new(ErrorCode::RateLimited, message).retry_after(10));
        }
        *of_peer += 1;
        Ok(Place {
            streams: self.clone(),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let streams = Streams::new(3, 2);
        let (one, other) = (Fingerprint::of_public_key(b"one"), Fingerprint::of_public_key(b"other"));
        let first = streams.take(one).expect("first");
        let _second = streams.take(one).expect("second");
        assert_eq!(
            streams.take(one).expect_err("third of one peer").error,
            ErrorCode::RateLimited
        );
        let _third = streams.take(other).expect("another peer");
        assert_eq!(
            streams.take(other).expect_err("fourth in all").error,
            ErrorCode::Overloaded
        );
        drop(first);
        streams.take(one).expect("came back");
    }
}
