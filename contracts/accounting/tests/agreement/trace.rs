//! Model and chain side by side.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    panic::{self, AssertUnwindSafe},
};

use accounting::{
    Step,
    model::{Market, OUTCOMES, REFUSALS, Refusal},
};

use crate::{
    calls::Calls,
    chain::{Chain, Refused, State},
    compare::differences,
    market::{Addresses, Beginning},
};

thread_local! {
    static IN_A_STEP: Cell<bool> = const { Cell::new(false) };
}

/// What breaks off in a step is told with the step, not where it happens: a minimisation tries many that do.
pub(crate) fn report_steps_that_break_off_once() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !IN_A_STEP.get() {
            report(panic);
        }
    }));
}

/// Of a trace.
pub(crate) const STEPS: usize = 50;

pub(crate) struct Trace<'a> {
    chain: Chain,
    addresses: &'a Addresses,
    model: Market,
    last: Result<(), Refusal>,
}

impl<'a> Trace<'a> {
    pub(crate) fn from(beginning: &'a Beginning) -> Self {
        Self {
            chain: Chain::new(beginning.state.clone()),
            addresses: &beginning.addresses,
            model: beginning.model.clone(),
            last: Ok(()),
        }
    }

    pub(crate) fn model(&self) -> &Market {
        &self.model
    }

    pub(crate) fn last_succeeded(&self) -> bool {
        self.last.is_ok()
    }

    pub(crate) fn last_refusal(&self) -> Option<Refusal> {
        self.last.err()
    }

    pub(crate) fn into_state(self) -> (State, Market) {
        (self.chain.state(), self.model)
    }

    /// Does a step in both.
    ///
    /// # Errors
    /// How they differ, or what the model's own numbers violate.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), String> {
        // A view that reverts, or numbers of the model that fall below zero, are differences like any other.
        IN_A_STEP.set(true);
        let compared = panic::catch_unwind(AssertUnwindSafe(|| self.step_in_both(step)));
        IN_A_STEP.set(false);
        compared.unwrap_or_else(|reason| {
            let text = reason.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| reason.downcast_ref::<&str>().copied());
            Err(format!("breaks off: {}", text.unwrap_or("without a reason")))
        })
    }

    fn step_in_both(&mut self, step: &Step) -> Result<(), String> {
        let before = self.model.clone();
        self.last = self.model.apply(step);
        self.chain.set_block(self.model.block, self.model.now);
        let calls = Calls {
            addresses: self.addresses,
            model: &before,
        };
        match (self.last, calls.run(&mut self.chain, step)) {
            (Ok(()), Ok(())) | (Err(_), Err(Refused::Error(_))) => {}
            (Ok(()), Err(refused)) => {
                return Err(format!("the chain refuses what the model does: {}", refused.explain()));
            }
            (Err(refusal), Ok(())) => {
                return Err(format!("the model refuses what the chain does: {}", refusal.0));
            }
            (Err(refusal), Err(fault)) => {
                return Err(format!(
                    "the model refuses ({}), the chain fails: {}",
                    refusal.0,
                    fault.explain()
                ));
            }
        }
        let differences = differences(&mut self.chain, self.addresses, &self.model);
        if !differences.is_empty() {
            let outcome = if self.last.is_ok() { "done" } else { "refused" };
            return Err(format!("{outcome} by both, but\n  {}", differences.join("\n  ")));
        }
        self.model.broken_invariant().map_or(Ok(()), Err)
    }
}

/// How often each kind of step was done and refused, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    kinds: BTreeMap<usize, (u64, u64)>,
    outcomes: BTreeMap<&'static str, u64>,
    refusals: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn note(&mut self, step: &Step, trace: &Trace<'_>) {
        let counts = self.kinds.entry(step.kind()).or_default();
        match trace.last {
            Ok(()) => {
                counts.0 += 1;
                for outcome in &trace.model.outcomes {
                    *self.outcomes.entry(outcome).or_default() += 1;
                }
            }
            Err(refusal) => {
                counts.1 += 1;
                *self.refusals.entry(refusal.0).or_default() += 1;
            }
        }
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        for (kind, (done, refused)) in other.kinds {
            let counts = self.kinds.entry(kind).or_default();
            counts.0 += done;
            counts.1 += refused;
        }
        for (outcome, times) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += times;
        }
        for (refusal, times) in other.refusals {
            *self.refusals.entry(refusal).or_default() += times;
        }
        self
    }

    pub(crate) fn steps(&self) -> u64 {
        self.kinds.values().map(|(done, refused)| done + refused).sum()
    }

    /// What a run that is worth anything leads to, and this one did not.
    pub(crate) fn never_happened(&self) -> Vec<&'static str> {
        let kinds = Step::KINDS.iter().enumerate();
        let undone = kinds.filter(|(kind, _)| self.kinds.get(kind).is_none_or(|(done, _)| *done == 0));
        let unseen = OUTCOMES.iter().filter(|outcome| !self.outcomes.contains_key(*outcome));
        let unmet = REFUSALS.iter().filter(|refusal| !self.refusals.contains_key(*refusal));
        let undone = undone.map(|(_, name)| *name);
        undone.chain(unseen.copied()).chain(unmet.copied()).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:<44} {:>9} {:>9}", "step", "done", "refused")?;
        for (kind, (done, refused)) in &self.kinds {
            writeln!(formatter, "{:<44} {done:>9} {refused:>9}", Step::KINDS[*kind])?;
        }
        writeln!(formatter, "what came of them")?;
        for (outcome, times) in &self.outcomes {
            writeln!(formatter, "{outcome:<44} {times:>9}")?;
        }
        writeln!(formatter, "why they were refused")?;
        for (refusal, times) in &self.refusals {
            writeln!(formatter, "{refusal:<44} {times:>9}")?;
        }
        Ok(())
    }
}
