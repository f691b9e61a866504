//! The contracts and the model agree: on what every step does, on what it must not do, and on every balance after it.
//!
//! `ACCOUNTING_TRACES` says how many traces of 50 steps (500 unless told), `ACCOUNTING_SEED` which (another sequence every time
//! unless told), `ACCOUNTING_FIRST` from which number on. A failure prints the shortest list of steps that still fails.

mod abi;
mod calls;
mod cast;
mod chain;
mod compare;
mod deployment;
mod feed;
mod market;
mod minimise;
mod trace;
mod words;

use std::{
    env, fmt,
    num::NonZero,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use accounting::{Source, generator::Generator};

use crate::{
    market::{Beginning, all_windows, begin},
    trace::{STEPS, Tally, Trace, report_steps_that_break_off_once},
};

const DEFAULT_TRACES: u64 = 500;
/// What a run that long led to nowhere is looked for in so many more of it: the rarest of what is to happen comes five times in
/// [`DEFAULT_TRACES`], and by chance in none of them once in some hundred runs.
const MOST_RUNS: u64 = 10;

/// Which traces are run.
#[derive(Debug, Clone, Copy)]
struct Run {
    seed: u64,
    first: u64,
    traces: u64,
}

impl Run {
    fn from_environment() -> Self {
        let clock = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("the clock is after 1970").as_nanos() as u64
        };
        Self {
            seed: number_from("ACCOUNTING_SEED").unwrap_or_else(clock),
            first: number_from("ACCOUNTING_FIRST").unwrap_or(0),
            traces: number_from("ACCOUNTING_TRACES").unwrap_or(DEFAULT_TRACES),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, first, traces } = self;
        write!(
            formatter,
            "ACCOUNTING_SEED={seed} ACCOUNTING_FIRST={first} ACCOUNTING_TRACES={traces}"
        )
    }
}

fn number_from(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, it must be a whole number")),
    )
}

/// The market under each set of windows, its accounts opened and funded.
fn beginnings() -> Vec<Beginning> {
    let begun = all_windows().into_iter().map(|windows| {
        let mut beginning = begin(&windows).unwrap_or_else(|error| panic!("{}", chain_of(&error)));
        let mut trace = Trace::from(&beginning);
        for step in Generator::prelude() {
            trace
                .step(&step)
                .unwrap_or_else(|failure| panic!("{step:?}: {failure}"));
            assert!(
                trace.last_succeeded(),
                "{step:?} is refused: {:?}",
                trace.last_refusal()
            );
        }
        (beginning.state, beginning.model) = trace.into_state();
        beginning
    });
    begun.collect()
}

/// Runs traces while there are any that no other worker took.
fn run_all(run: Run, next: &AtomicU64, beginnings: &[Beginning]) -> Tally {
    let mut tally = Tally::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= run.first + run.traces {
            return tally;
        }
        let beginning = &beginnings[number as usize % beginnings.len()];
        let mut generator = Generator::new(Source::new(run.seed, number));
        let mut trace = Trace::from(beginning);
        let mut steps = Vec::new();
        for _ in 0..STEPS {
            let step = generator.step(trace.model());
            steps.push(step.clone());
            if let Err(failure) = trace.step(&step) {
                let again = Run {
                    first: number,
                    traces: 1,
                    ..run
                };
                let (shortest, its_failure) = minimise::minimise(beginning, steps);
                panic!("{again}\n{failure}\nshortest list of steps that fails:\n{shortest}{its_failure}");
            }
            tally.note(&step, &trace);
        }
    }
}

/// An error with its causes.
fn chain_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[test]
fn contracts_and_model_agree() {
    let run = Run::from_environment();
    println!("{run}");
    report_steps_that_break_off_once();
    let started = Instant::now();
    let beginnings = beginnings();
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    // A few traces of one's own choice need not reach everything.
    let reaches_all = run.traces >= DEFAULT_TRACES;
    let mut tally = Tally::default();
    let mut traces = 0;
    for part in 0..MOST_RUNS {
        let first = run.first + part * run.traces;
        tally = tally.and(run_in_threads(Run { first, ..run }, workers, &beginnings));
        traces += run.traces;
        if !reaches_all || tally.never_happened().is_empty() {
            break;
        }
    }
    println!(
        "{traces} traces of {STEPS} steps agree in {:.1} s\n{tally}",
        started.elapsed().as_secs_f64()
    );
    assert_eq!(tally.steps(), traces * STEPS as u64, "every step was taken");
    if reaches_all {
        assert_eq!(tally.never_happened(), Vec::<&str>::new(), "happened in no trace");
    }
}

fn run_in_threads(run: Run, workers: usize, beginnings: &[Beginning]) -> Tally {
    let next = AtomicU64::new(run.first);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| scope.spawn(|| run_all(run, &next, beginnings)))
            .collect();
        threads
            .into_iter()
            .fold(Tally::default(), |tally, thread| match thread.join() {
                Ok(more) => tally.and(more),
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })
}
