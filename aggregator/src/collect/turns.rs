//! Whose turn it is: work that outsiders can cause is done source by source, and within a source operator by operator, so
//! that nobody who sends much delays those who send little.

use std::collections::{BTreeMap, VecDeque};

use avs::quorum::OperatorId;

use super::message::Source;

/// A bounded queue that takes turns. When it is full, the longest line gives up its newest entry for a shorter one.
#[derive(Debug)]
pub(super) struct Turns<T> {
    limit: usize,
    length: usize,
    sources: BTreeMap<Source, Line<T>>,
    last: Option<Source>,
}

#[derive(Debug)]
struct Line<T> {
    length: usize,
    operators: BTreeMap<OperatorId, VecDeque<T>>,
    last: Option<OperatorId>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            length: 0,
            operators: BTreeMap::new(),
            last: None,
        }
    }
}

impl<T> Turns<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            length: 0,
            sources: BTreeMap::new(),
            last: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Entries of one source.
    pub(super) fn len_of(&self, source: Source) -> usize {
        self.sources.get(&source).map_or(0, |line| line.length)
    }

    /// Puts `entry` at the end of its operator's line. Returns what had to give way for it: itself, when nobody has more.
    pub(super) fn push(&mut self, source: Source, operator: OperatorId, entry: T) -> Option<T> {
        let mut displaced = None;
        if self.length >= self.limit {
            displaced = self.give_way(source, operator);
            if displaced.is_none() {
                return Some(entry);
            }
        }
        let line = self.sources.entry(source).or_default();
        line.length += 1;
        line.operators.entry(operator).or_default().push_back(entry);
        self.length += 1;
        displaced
    }

    /// The newest entry of the longest line, unless the newcomer's own would be as long.
    fn give_way(&mut self, source: Source, operator: OperatorId) -> Option<T> {
        let (&longest, line) = self.sources.iter().max_by_key(|(_, line)| line.length)?;
        let own = self.len_of(source);
        let victim = if line.length > own + 1 { longest } else { source };
        let line = self.sources.get(&victim)?;
        let (&most, entries) = line.operators.iter().max_by_key(|(_, entries)| entries.len())?;
        if victim == source {
            let own = line.operators.get(&operator).map_or(0, VecDeque::len);
            if entries.len() <= own + 1 {
                return None;
            }
        }
        let newest = entries.len() - 1;
        self.take(victim, most, newest)
    }

    /// Who is next.
    pub(super) fn pop(&mut self) -> Option<T> {
        let source = after(&self.sources, self.last)?;
        self.last = Some(source);
        let line = self.sources.get_mut(&source)?;
        let operator = after(&line.operators, line.last)?;
        line.last = Some(operator);
        self.take(source, operator, 0)
    }

    /// Takes an entry out of the middle, if it is there.
    pub(super) fn remove(&mut self, source: Source, operator: OperatorId, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let entries = self.sources.get(&source)?.operators.get(&operator)?;
        let at = entries.iter().position(wanted)?;
        self.take(source, operator, at)
    }

    fn take(&mut self, source: Source, operator: OperatorId, at: usize) -> Option<T> {
        let line = self.sources.get_mut(&source)?;
        let entries = line.operators.get_mut(&operator)?;
        let entry = entries.remove(at)?;
        if entries.is_empty() {
            line.operators.remove(&operator);
        }
        line.length -= 1;
        if line.length == 0 {
            self.sources.remove(&source);
        }
        self.length -= 1;
        Some(entry)
    }
}

/// The key after `last`, around the end.
fn after<K: Ord + Copy, V>(map: &BTreeMap<K, V>, last: Option<K>) -> Option<K> {
    let next = last.and_then(|last| {
        use std::ops::Bound;
        map.range((Bound::Excluded(last), Bound::Unbounded)).next()
    });
    next.or_else(|| map.first_key_value()).map(|(key, _)| *key)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(number: u8) -> Source {
        Source::from(IpAddr::from([192, 0, 2, number]))
    }

    fn operator(number: u8) -> OperatorId {
        OperatorId::repeat_byte(number)
    }

    #[test]
    fn sources_take_turns_and_so_do_operators_behind_one() {
        let mut turns = Turns::new(100);
        for number in 0..4 {
            assert!(turns.push(source(1), operator(1), number).is_none());
        }
        assert!(turns.push(source(1), operator(2), 10).is_none());
        assert!(turns.push(source(2), operator(3), 20).is_none());
        let order: Vec<i32> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, [0, 20, 10, 1, 2, 3]);
        assert_eq!((turns.len(), turns.sources.len()), (0, 0));
    }

    #[test]
    fn who_fills_the_queue_makes_way_for_who_does_not() {
        let mut turns = Turns::new(6);
        for number in 0..6 {
            assert!(turns.push(source(1), operator(1), number).is_none());
        }
        assert_eq!(turns.push(source(1), operator(1), 6), Some(6), "nobody has more");
        assert_eq!(
            turns.push(source(1), operator(2), 7),
            Some(5),
            "another operator behind the same address"
        );
        assert_eq!(turns.push(source(2), operator(3), 8), Some(4));
        assert_eq!(turns.push(source(2), operator(3), 9), Some(3));
        assert_eq!(turns.push(source(2), operator(3), 10), Some(2));
        assert_eq!(
            turns.push(source(2), operator(3), 11),
            Some(11),
            "now both have as much"
        );
        assert_eq!(
            (turns.len(), turns.len_of(source(1)), turns.len_of(source(2))),
            (6, 3, 3)
        );
    }

    #[test]
    fn an_entry_is_taken_out_of_the_middle() {
        let mut turns = Turns::new(6);
        for number in 0..3 {
            assert!(turns.push(source(1), operator(1), number).is_none());
        }
        assert_eq!(turns.remove(source(1), operator(1), |entry| *entry == 1), Some(1));
        assert_eq!(turns.remove(source(1), operator(1), |entry| *entry == 1), None);
        assert_eq!(turns.remove(source(2), operator(1), |entry| *entry == 0), None);
        assert_eq!((turns.pop(), turns.pop(), turns.pop()), (Some(0), Some(2), None));
    }
}
