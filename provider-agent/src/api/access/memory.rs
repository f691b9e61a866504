//! What the chain said, for a short while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Answers by question: so many, and none longer than its lifetime.
#[derive(Debug)]
pub(super) struct Memory<Q, A> {
    most: usize,
    lifetime: Duration,
    answers: Mutex<HashMap<Q, (Instant, A)>>,
}

impl<Q: Eq + Hash, A: Clone> Memory<Q, A> {
    pub(super) fn new(most: usize, lifetime: Duration) -> Self {
        Self {
            most,
            lifetime,
            answers: Mutex::default(),
        }
    }

    /// What was answered within the lifetime.
    pub(super) fn get(&self, question: &Q) -> Option<A> {
        let answers = self.answers();
        let (at, answer) = answers.get(question)?;
        (at.elapsed() < self.lifetime).then(|| answer.clone())
    }

    /// An answer is as old as its question. Where there is no room for another, what is too old is forgotten; if that makes
    /// none, everything: the chain is asked again.
    pub(super) fn insert(&self, question: Q, asked_at: Instant, answer: A) {
        let mut answers = self.answers();
        if answers.len() >= self.most && !answers.contains_key(&question) {
            answers.retain(|_, (at, _)| at.elapsed() < self.lifetime);
            if answers.len() >= self.most {
                answers.clear();
            }
        }
        answers.insert(question, (asked_at, answer));
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Q, (Instant, A)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn an_answer_is_given_again_for_its_lifetime_counted_from_the_question() {
        let memory = Memory::new(2, LONG);
        let now = Instant::now();
        memory.insert("asked", now, 1);
        assert_eq!((memory.get(&"asked"), memory.get(&"never asked")), (Some(1), None));
        let second = Duration::from_secs(1);
        let memory = Memory::new(2, second);
        memory.insert("asked", now.checked_sub(second).expect("a second ago"), 1);
        assert_eq!(memory.get(&"asked"), None);
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let memory = Memory::new(3, LONG);
        for question in 0..100 {
            memory.insert(question, Instant::now(), question);
            assert_eq!(memory.get(&question), Some(question));
            assert!(memory.answers().len() <= 3, "{question}");
        }
        // An answer that is there already needs no room.
        let full = Memory::new(2, LONG);
        full.insert(1, Instant::now(), 1);
        full.insert(2, Instant::now(), 2);
        full.insert(2, Instant::now(), 3);
        assert_eq!((full.get(&1), full.get(&2)), (Some(1), Some(3)));
    }
}
