//! The shortest list of steps that still fails.

use std::fmt::Write;

use accounting::Step;

use crate::{market::Beginning, trace::Trace};

/// Leaves out steps as long as the rest still fails, in whatever way. The list, with what became of each step, and how it fails.
pub(crate) fn minimise(beginning: &Beginning, steps: Vec<Step>) -> (String, String) {
    let mut shortest = steps;
    let mut index = shortest.len();
    while index > 0 {
        index -= 1;
        let mut shorter = shortest.clone();
        shorter.remove(index);
        if let Some(length) = fails_after(beginning, &shorter) {
            shorter.truncate(length);
            shortest = shorter;
            index = index.min(shortest.len());
        }
    }
    describe(beginning, &shortest)
}

/// How many steps it takes until model and chain differ.
fn fails_after(beginning: &Beginning, steps: &[Step]) -> Option<usize> {
    let mut trace = Trace::from(beginning);
    steps
        .iter()
        .position(|step| trace.step(step).is_err())
        .map(|index| index + 1)
}

fn describe(beginning: &Beginning, steps: &[Step]) -> (String, String) {
    let mut trace = Trace::from(beginning);
    let mut list = String::new();
    for step in steps {
        let failure = trace.step(step).err();
        let outcome = trace.last_refusal().map_or("done", |refusal| refusal.0);
        writeln!(list, "  {step:?} ({outcome})").expect("a string takes what is written");
        if let Some(failure) = failure {
            return (list, failure);
        }
    }
    (list, "the steps do not fail any more".to_owned())
}
