//! The whole stack in virtual time, against random sequences of events.
//!
//! Every event is logged, and each invariant is a function of the log. `MODEL_STEPS` sets the number of steps (default:
//! 4,000) and `MODEL_SEED` the sequence (default: 1). Sequences that failed before are tried first, from
//! `tests/state_machine/regressions.txt`.

mod invariants;
mod log;
mod run;
mod servers;
mod stack;
mod steps;
mod tokens;

use std::cell::Cell;

use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng, TestRunner,
};

#[test]
fn no_sequence_of_events_breaks_an_invariant() {
    let number = |name, default: u64| match std::env::var(name) {
        Ok(value) => value.parse().expect("a number"),
        Err(_) => default,
    };
    let (target, seed) = (number("MODEL_STEPS", 4_000), number("MODEL_SEED", 1));
    let mut bytes = [0_u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let taken = Cell::new(0_u64);
    let mut cases = 0;
    while taken.get() < target {
        let config = Config {
            cases: u32::try_from((target - taken.get()) / 60 + 1).unwrap_or(u32::MAX),
            failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
                "tests/state_machine/regressions.txt",
            ))),
            max_shrink_iters: 20_000,
            ..Config::default()
        };
        cases += config.cases;
        // Another sequence of numbers in each round.
        bytes[8..16].copy_from_slice(&taken.get().to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let outcome = TestRunner::new_with_rng(config, rng).run(&steps::history(), |history| {
            taken.set(taken.get() + history.steps.len() as u64);
            run::run(history).map_err(TestCaseError::fail)
        });
        if let Err(failure) = outcome {
            panic!("MODEL_SEED={seed}: {failure}");
        }
    }
    println!("{} steps in {cases} histories, seed {seed}", taken.get());
}
