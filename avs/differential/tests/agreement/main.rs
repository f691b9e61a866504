//! Rust, Solidity and Python agree on every case.
//!
//! `DIFFERENTIAL_CASES` says how many cases (3000 unless told), `DIFFERENTIAL_SEED` which (another sequence every time unless
//! told), `DIFFERENTIAL_FIRST` from which number on: a failure prints all three for the case that failed.

mod solidity;

use std::{
    env, fmt,
    num::NonZero,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use differential::{Answer, Case, Python, answer_of_rust};
use solidity::Solidity;

const DEFAULT_CASES: u64 = 3000;

/// Which cases are asked.
#[derive(Debug, Clone, Copy)]
struct Run {
    seed: u64,
    first: u64,
    cases: u64,
}

impl Run {
    fn from_environment() -> Self {
        let clock = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("the clock is after 1970").as_nanos() as u64
        };
        Self {
            seed: number_from("DIFFERENTIAL_SEED").unwrap_or_else(clock),
            first: number_from("DIFFERENTIAL_FIRST").unwrap_or(0),
            cases: number_from("DIFFERENTIAL_CASES").unwrap_or(DEFAULT_CASES),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, first, cases } = self;
        write!(
            formatter,
            "DIFFERENTIAL_SEED={seed} DIFFERENTIAL_FIRST={first} DIFFERENTIAL_CASES={cases}"
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

/// What the cases were, so that a generator that no longer hits anything is noticed.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    cases: u64,
    bids: u64,
    /// Cases with bids, of which none is valid.
    nobody: u64,
    ranks: u64,
    /// Cases that rank fewer than there were asked for, and as many.
    short: u64,
    whole: u64,
    most_gas: u64,
}

impl Tally {
    fn note(&mut self, case: &Case, answer: &Answer, gas: u64) {
        let ranks = answer.ranks.len();
        self.cases += 1;
        self.bids += case.bids.len() as u64;
        self.ranks += ranks as u64;
        self.nobody += u64::from(ranks == 0 && !case.bids.is_empty());
        self.whole += u64::from(ranks == usize::from(case.parameters.rank_limit()));
        self.short += u64::from(ranks > 0 && ranks < usize::from(case.parameters.rank_limit()));
        self.most_gas = self.most_gas.max(gas);
    }

    fn and(self, other: Self) -> Self {
        Self {
            cases: self.cases + other.cases,
            bids: self.bids + other.bids,
            nobody: self.nobody + other.nobody,
            ranks: self.ranks + other.ranks,
            short: self.short + other.short,
            whole: self.whole + other.whole,
            most_gas: self.most_gas.max(other.most_gas),
        }
    }
}

/// Asks all three, case by case, while there are any that no other worker took.
fn ask_all(run: Run, next: &AtomicU64) -> Tally {
    let mut solidity = Solidity::deploy().unwrap_or_else(|error| panic!("{}", chain_of(&error)));
    let mut python = Python::start().unwrap_or_else(|error| panic!("{}", chain_of(&error)));
    let mut tally = Tally::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= run.first + run.cases {
            return tally;
        }
        let again = Run {
            first: number,
            cases: 1,
            ..run
        };
        let case = Case::new(run.seed, number);
        // It thinks while the others do.
        python
            .ask(&case)
            .unwrap_or_else(|error| panic!("{again}: {}", chain_of(&error)));
        let rust = answer_of_rust(&case);
        let (from_solidity, gas) = solidity
            .answer(&case)
            .unwrap_or_else(|error| panic!("{again}: {}\n{}", chain_of(&error), case.to_json()));
        let from_python = python
            .answer()
            .unwrap_or_else(|error| panic!("{again}: {}", chain_of(&error)));
        assert!(
            rust == from_solidity && rust == from_python,
            "{again}: not all agree\nRust:     {rust:?}\nSolidity: {from_solidity:?}\nPython:   {from_python:?}\n{}",
            case.to_json()
        );
        tally.note(&case, &rust, gas);
    }
}

/// An error with its causes.
fn chain_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[test]
fn rust_solidity_and_python_agree() {
    let run = Run::from_environment();
    println!("{run}");
    let started = Instant::now();
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicU64::new(run.first);
    let tally = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| ask_all(run, &next))).collect();
        threads
            .into_iter()
            .fold(Tally::default(), |tally, thread| match thread.join() {
                Ok(more) => tally.and(more),
                Err(panic) => std::panic::resume_unwind(panic),
            })
    });
    println!(
        "{} cases agree in {:.1} s: {tally:?}",
        tally.cases,
        started.elapsed().as_secs_f64()
    );
    assert_eq!(tally.cases, run.cases);
    // A few cases of one's own choice need not be a fair sample.
    if run.cases >= 1000 {
        let share = |part: u64| 100 * part / tally.cases;
        assert!(tally.bids > 4 * tally.cases, "cases have bids: {tally:?}");
        assert!(
            (5..50).contains(&share(tally.nobody)),
            "some orders get nobody: {tally:?}"
        );
        assert!(share(tally.whole) > 10, "many get as many as they may: {tally:?}");
        assert!(share(tally.short) > 10, "many get fewer: {tally:?}");
    }
}
