//! What one source may have in flight: requests, the bytes of their bodies, and, behind one address, requests in one
//! operator's name. Beyond that it comes again, while others still find room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use avs::quorum::OperatorId;

use crate::collect::Source;

/// Limits for each source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceLimits {
    /// Submissions that are not answered yet.
    pub(crate) requests: usize,
    /// Those of them in one operator's name.
    pub(crate) requests_per_operator: usize,
    /// Bodies of them all.
    pub(crate) kibibytes: usize,
}

/// Who has how much in flight.
#[derive(Debug)]
pub(crate) struct Sources {
    limits: SourceLimits,
    held: Mutex<BTreeMap<Source, Held>>,
}

#[derive(Debug, Default)]
struct Held {
    requests: usize,
    kibibytes: usize,
    operators: BTreeMap<OperatorId, usize>,
}

/// One request's part; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    sources: Arc<Sources>,
    source: Source,
    kibibytes: usize,
    operator: Option<OperatorId>,
}

/// The source has as much in flight as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Sources {
    pub(crate) fn new(limits: SourceLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            held: Mutex::default(),
        })
    }

    /// A request begins.
    pub(crate) fn enter(self: &Arc<Self>, source: Source) -> Result<Share, TooMany> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.entry(source).or_default();
        if own.requests >= self.limits.requests {
            return Err(TooMany);
        }
        own.requests += 1;
        Ok(Share {
            sources: self.clone(),
            source,
            kibibytes: 0,
            operator: None,
        })
    }
}

impl Share {
    /// Some more of its body arrived.
    pub(crate) fn grow(&mut self, kibibytes: usize) -> Result<(), TooMany> {
        let mut held = self.sources.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.entry(self.source).or_default();
        if own.kibibytes + kibibytes > self.sources.limits.kibibytes {
            return Err(TooMany);
        }
        own.kibibytes += kibibytes;
        self.kibibytes += kibibytes;
        Ok(())
    }

    /// It speaks in this operator's name.
    pub(crate) fn speak_for(&mut self, operator: OperatorId) -> Result<(), TooMany> {
        let mut held = self.sources.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.entry(self.source).or_default();
        let count = own.operators.entry(operator).or_default();
        if *count >= self.sources.limits.requests_per_operator {
            return Err(TooMany);
        }
        *count += 1;
        self.operator = Some(operator);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.sources.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = held.get_mut(&self.source) else { return };
        own.requests -= 1;
        own.kibibytes -= self.kibibytes;
        if let Some(operator) = self.operator
            && let Some(count) = own.operators.get_mut(&operator)
        {
            *count -= 1;
            if *count == 0 {
                own.operators.remove(&operator);
            }
        }
        if own.requests == 0 {
            held.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn sources() -> Arc<Sources> {
        Sources::new(SourceLimits {
            requests: 3,
            requests_per_operator: 2,
            kibibytes: 10,
        })
    }

    fn source(number: u8) -> Source {
        Source::from(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn one_source_or_operator_leaves_room_for_others() {
        let sources = sources();
        let operator = OperatorId::repeat_byte;
        let mut first = sources.enter(source(1)).expect("first");
        let mut second = sources.enter(source(1)).expect("second");
        let mut third = sources.enter(source(1)).expect("third");
        assert_eq!(sources.enter(source(1)).expect_err("a fourth"), TooMany);
        sources.enter(source(2)).expect("somebody else");
        first.speak_for(operator(1)).expect("first");
        second.speak_for(operator(1)).expect("second");
        assert_eq!(third.speak_for(operator(1)), Err(TooMany));
        third
            .speak_for(operator(2))
            .expect("another operator behind the same address");
        first.grow(8).expect("within");
        assert_eq!(second.grow(3), Err(TooMany));
        second.grow(2).expect("within");
    }

    #[test]
    fn what_ends_leaves_nothing() {
        let sources = sources();
        let mut share = sources.enter(source(1)).expect("first");
        share.grow(10).expect("within");
        share.speak_for(OperatorId::repeat_byte(1)).expect("first");
        drop(share);
        assert!(sources.held.lock().expect("not poisoned").is_empty());
    }
}
