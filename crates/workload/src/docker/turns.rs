//! Who pulls next: few pulls at a time, so that nobody keeps the others from theirs, with many services or with many leases.
//!
//! The leases of one account never hold all turns between them, the account that holds fewest goes first, of an account the
//! lease that holds fewest, and a pull that gave way goes behind those that did not. A turn that brings next to nothing ends
//! when another lease's pull waits for it: in line here, or in the engine, which downloads only a few layers at a time, whoever
//! wants them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::model::LeaseId;

/// How fast the pull of a turn has been lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Too early to say.
    Unknown,
    /// At least the least throughput.
    Enough,
    /// Less.
    Slow,
}

/// The turns of one engine.
#[derive(Debug)]
pub(super) struct Turns {
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    turns: usize,
    next_ticket: u64,
    next_grant: u64,
    waiting: Vec<Waiting>,
    held: Vec<Held>,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    lease: LeaseId,
    yields: u32,
    granted: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Held {
    ticket: u64,
    lease: LeaseId,
    yields: u32,
    /// Turns are granted in this order.
    grant: u64,
    pace: Pace,
    /// Whether the engine has not begun with any layer that is left, because it downloads others'.
    held_up: bool,
}

/// A place in line, and from [`Turns::take`]'s return on a turn. Dropping it lets the next one have it.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    ticket: u64,
}

impl Turns {
    pub(super) fn new(turns: usize) -> Self {
        let line = Line {
            turns,
            next_ticket: 0,
            next_grant: 0,
            waiting: Vec::new(),
            held: Vec::new(),
        };
        Self { line: Mutex::new(line) }
    }

    /// Waits for a turn. `yields` is how often this pull gave its turn to others before.
    pub(super) async fn take(self: &Arc<Self>, lease: LeaseId, yields: u32) -> Turn {
        let (sender, granted) = oneshot::channel();
        let turn = {
            let mut line = self.line();
            let ticket = line.next_ticket;
            line.next_ticket += 1;
            line.waiting.push(Waiting {
                ticket,
                lease,
                yields,
                granted: sender,
            });
            line.grant();
            Turn {
                turns: Arc::clone(self),
                ticket,
            }
        };
        // The sender goes unused only with the place in line, which this turn keeps.
        let _ = granted.await;
        turn
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Says how the pull goes, and learns whether it has to give way.
    pub(super) fn must_yield(&self, pace: Pace, held_up: bool) -> bool {
        let mut line = self.turns.line();
        if let Some(held) = line.held.iter_mut().find(|held| held.ticket == self.ticket) {
            held.pace = pace;
            held.held_up = held_up;
        }
        line.next_to_yield() == Some(self.ticket)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut line = self.turns.line();
        line.waiting.retain(|waiting| waiting.ticket != self.ticket);
        line.held.retain(|held| held.ticket != self.ticket);
        line.grant();
    }
}

impl Line {
    fn grant(&mut self) {
        while self.held.len() < self.turns {
            let next = (0..self.waiting.len())
                .filter(|position| self.may_have_more(self.waiting[*position].lease.account()))
                .min_by_key(|position| {
                    let waiting = &self.waiting[*position];
                    let account = self.held_by_account(waiting.lease.account());
                    (waiting.yields, account, self.held_by(waiting.lease), waiting.ticket)
                });
            let Some(position) = next else { return };
            let waiting = self.waiting.remove(position);
            self.held.push(Held {
                ticket: waiting.ticket,
                lease: waiting.lease,
                yields: waiting.yields,
                grant: self.next_grant,
                pace: Pace::Unknown,
                held_up: false,
            });
            self.next_grant += 1;
            // Whoever does not wait any more drops the turn.
            let _ = waiting.granted.send(());
        }
    }

    fn held_by(&self, lease: LeaseId) -> usize {
        self.held.iter().filter(|held| held.lease == lease).count()
    }

    fn held_by_account(&self, account: u32) -> usize {
        let its = |held: &&Held| held.lease.account() == account;
        self.held.iter().filter(its).count()
    }

    /// One turn is always left to the other accounts, where there is more than one.
    fn may_have_more(&self, account: u32) -> bool {
        self.held_by_account(account) < self.turns.saturating_sub(1).max(1)
    }

    /// Of the slow pulls that others wait for, the one that has had its turn for longest. One that the engine holds up is
    /// not slow by its own fault: it goes only if nobody else can be what holds it up.
    fn next_to_yield(&self) -> Option<u64> {
        let somebody_moves = self.held.iter().any(|held| held.pace == Pace::Enough);
        self.held
            .iter()
            .filter(|held| held.pace == Pace::Slow && self.is_waited_for(held))
            .filter(|held| !held.held_up || !somebody_moves)
            .min_by_key(|held| (held.held_up, held.grant))
            .map(|held| held.ticket)
    }

    /// Those that gave way more often wait until it is over.
    fn is_waited_for(&self, slow: &Held) -> bool {
        let in_line = self.waiting.iter().any(|waiting| {
            let account = waiting.lease.account();
            // With its own account's turn given back, it may have that one.
            let may_have_it = account == slow.lease.account() || self.may_have_more(account);
            waiting.lease != slow.lease && waiting.yields <= slow.yields && may_have_it
        });
        let in_the_engine = self
            .held
            .iter()
            .any(|held| held.lease != slow.lease && held.yields <= slow.yields && held.held_up);
        in_line || in_the_engine
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const GREEDY: LeaseId = lease(1, 1);
    const OTHER: LeaseId = lease(2, 1);
    const THIRD: LeaseId = lease(3, 1);
    const FOURTH: LeaseId = lease(4, 1);
    const FIFTH: LeaseId = lease(5, 1);

    const fn lease(account: u64, nonce: u64) -> LeaseId {
        LeaseId(account << 32 | nonce)
    }

    /// A turn that is to be had at once.
    fn now(turns: &Arc<Turns>, lease: LeaseId, yields: u32) -> Turn {
        turns.take(lease, yields).now_or_never().expect("a turn is free")
    }

    #[test]
    fn one_account_never_holds_all_turns() {
        let turns = Arc::new(Turns::new(3));
        let _held = (now(&turns, GREEDY, 0), now(&turns, GREEDY, 0));
        let mut third = Box::pin(turns.take(GREEDY, 0));
        assert!((&mut third).now_or_never().is_none());
        drop(now(&turns, OTHER, 0));
        assert!((&mut third).now_or_never().is_none());

        let only = Arc::new(Turns::new(1));
        let turn = now(&only, GREEDY, 0);
        assert!(only.take(OTHER, 0).now_or_never().is_none());
        drop(turn);
        drop(now(&only, OTHER, 0));
    }

    #[test]
    fn those_that_hold_none_go_first_and_those_that_gave_way_last() {
        let turns = Arc::new(Turns::new(3));
        let (first, _second) = (now(&turns, GREEDY, 0), now(&turns, GREEDY, 0));
        let _third = now(&turns, THIRD, 0);
        let mut gave_way = Box::pin(turns.take(FOURTH, 1));
        let mut again = Box::pin(turns.take(THIRD, 0));
        let mut other = Box::pin(turns.take(OTHER, 0));
        for waiting in [&mut gave_way, &mut again, &mut other] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(first);
        assert!((&mut gave_way).now_or_never().is_none());
        assert!((&mut again).now_or_never().is_none());
        let turn = (&mut other).now_or_never().expect("it held none");
        drop(turn);
        assert!((&mut gave_way).now_or_never().is_none());
        let turn = (&mut again).now_or_never().expect("it never gave way");
        drop(turn);
        gave_way.now_or_never().expect("the last one");
    }

    #[test]
    fn many_leases_of_one_account_have_no_more_turns_than_one() {
        let turns = Arc::new(Turns::new(3));
        let (first, _second) = (now(&turns, lease(1, 1), 0), now(&turns, lease(1, 2), 0));
        let mut third = Box::pin(turns.take(lease(1, 3), 0));
        assert!((&mut third).now_or_never().is_none(), "one turn is left to others");
        let other = now(&turns, OTHER, 0);
        let mut further = Box::pin(turns.take(THIRD, 0));
        assert!((&mut further).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "its account holds a turn");
        let _further = further.now_or_never().expect("its account held none");

        // Of one account too, who holds none goes first.
        let mut again = Box::pin(turns.take(lease(1, 2), 0));
        assert!((&mut again).now_or_never().is_none());
        let mut fourth = Box::pin(turns.take(lease(1, 4), 0));
        assert!((&mut fourth).now_or_never().is_none());
        drop(third);
        drop(other);
        assert!((&mut again).now_or_never().is_none());
        fourth.now_or_never().expect("it held none");
    }

    #[test]
    fn a_slow_pull_gives_way_to_another_lease_of_its_account() {
        let turns = Arc::new(Turns::new(3));
        let (slow, _fast) = (now(&turns, lease(1, 1), 0), now(&turns, lease(1, 2), 0));
        let mut third = Box::pin(turns.take(lease(1, 3), 0));
        assert!((&mut third).now_or_never().is_none());
        assert!(slow.must_yield(Pace::Slow, false));
        drop(slow);
        third.now_or_never().expect("its turn");
    }

    #[test]
    fn who_does_not_wait_any_more_keeps_nobody_waiting() {
        let turns = Arc::new(Turns::new(1));
        let turn = now(&turns, GREEDY, 0);
        let mut gone = Box::pin(turns.take(OTHER, 0));
        assert!((&mut gone).now_or_never().is_none());
        let mut next = Box::pin(turns.take(THIRD, 0));
        assert!((&mut next).now_or_never().is_none());
        drop(turn);
        // Granted, and never looked at.
        drop(gone);
        next.now_or_never().expect("the turn came back");
    }

    #[test]
    fn a_slow_pull_gives_way_only_to_others_and_one_at_a_time() {
        let turns = Arc::new(Turns::new(3));
        let (first, second) = (now(&turns, GREEDY, 0), now(&turns, GREEDY, 0));
        let fast = now(&turns, OTHER, 0);
        assert!(!fast.must_yield(Pace::Enough, false));
        assert!(!first.must_yield(Pace::Slow, false), "nobody waits");
        assert!(!second.must_yield(Pace::Slow, false), "nobody waits");

        let mut waiting = Box::pin(turns.take(THIRD, 0));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(!fast.must_yield(Pace::Enough, false));
        assert!(!second.must_yield(Pace::Slow, false), "the first one does");
        assert!(first.must_yield(Pace::Slow, false));
        drop(first);
        let _third = waiting.now_or_never().expect("its turn");
        assert!(!second.must_yield(Pace::Slow, false), "nobody waits any more");
    }

    #[test]
    fn a_slow_pull_gives_way_neither_to_its_own_lease_nor_to_one_that_may_have_no_more() {
        let turns = Arc::new(Turns::new(3));
        let slow = now(&turns, GREEDY, 0);
        let _others = (now(&turns, OTHER, 0), now(&turns, THIRD, 0));
        let mut own = Box::pin(turns.take(GREEDY, 0));
        assert!((&mut own).now_or_never().is_none());
        assert!(!slow.must_yield(Pace::Slow, false), "its own lease waits");
        let mut other = Box::pin(turns.take(OTHER, 0));
        assert!((&mut other).now_or_never().is_none());
        assert!(slow.must_yield(Pace::Slow, false));

        let turns = Arc::new(Turns::new(3));
        let _most = (now(&turns, GREEDY, 0), now(&turns, GREEDY, 0));
        let slow = now(&turns, OTHER, 0);
        let mut third = Box::pin(turns.take(GREEDY, 0));
        assert!((&mut third).now_or_never().is_none());
        assert!(!slow.must_yield(Pace::Slow, false), "the other lease has most turns");
    }

    #[test]
    fn a_slow_pull_does_not_give_way_to_what_gave_way_more_often() {
        let turns = Arc::new(Turns::new(1));
        let slow = now(&turns, OTHER, 0);
        let mut worse = Box::pin(turns.take(GREEDY, 1));
        assert!((&mut worse).now_or_never().is_none());
        assert!(!slow.must_yield(Pace::Slow, false));
        let mut equal = Box::pin(turns.take(THIRD, 0));
        assert!((&mut equal).now_or_never().is_none());
        assert!(slow.must_yield(Pace::Slow, false));

        let turns = Arc::new(Turns::new(3));
        let (slow, worse) = (now(&turns, OTHER, 0), now(&turns, GREEDY, 1));
        assert!(!worse.must_yield(Pace::Slow, true));
        assert!(!slow.must_yield(Pace::Slow, false), "held up, but its turn is later");
        let equal = now(&turns, THIRD, 0);
        assert!(!equal.must_yield(Pace::Slow, true));
        assert!(slow.must_yield(Pace::Slow, false));
    }

    #[test]
    fn a_slow_pull_gives_way_to_one_that_the_engine_holds_up() {
        let turns = Arc::new(Turns::new(3));
        let (slow, held_up) = (now(&turns, GREEDY, 0), now(&turns, OTHER, 0));
        assert!(!held_up.must_yield(Pace::Unknown, true));
        assert!(slow.must_yield(Pace::Slow, false));
        // By then it looks slow itself, and others wait.
        let _third = now(&turns, THIRD, 0);
        let mut waiting = Box::pin(turns.take(FOURTH, 0));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(!held_up.must_yield(Pace::Slow, true));
        assert!(slow.must_yield(Pace::Slow, false));
        drop(slow);
        let fast = (&mut waiting).now_or_never().expect("its turn");
        let mut next = Box::pin(turns.take(FIFTH, 0));
        assert!((&mut next).now_or_never().is_none());
        assert!(
            held_up.must_yield(Pace::Slow, true),
            "nothing moves: it may be what holds the others up"
        );
        assert!(!fast.must_yield(Pace::Enough, false));
        assert!(!held_up.must_yield(Pace::Slow, true), "what moves holds it up");
    }

    #[test]
    fn what_the_engine_holds_up_goes_last_and_troubles_only_other_leases() {
        let turns = Arc::new(Turns::new(3));
        let (held_up, slow) = (now(&turns, OTHER, 0), now(&turns, OTHER, 0));
        assert!(!held_up.must_yield(Pace::Slow, true));
        assert!(!slow.must_yield(Pace::Slow, false), "it holds up its own lease only");
        let third = now(&turns, THIRD, 0);
        let mut waiting = Box::pin(turns.take(GREEDY, 0));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(!third.must_yield(Pace::Unknown, false));
        assert!(
            !held_up.must_yield(Pace::Slow, true),
            "a younger one is slow by its own fault"
        );
        assert!(slow.must_yield(Pace::Slow, false));
    }
}
