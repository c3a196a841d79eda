//! Random numbers: seedable jitter, and identifiers that are unique across processes.
//!
//! Neither is used for secrets.
//!
//! | number | from | used for |
//! |---|---|---|
//! | [`Random::unit`] | the layer's generator, seedable | jitter of back-offs, of refresh times and of waits |
//! | [`unique`] | the operating system | lease ids, process ids, `jti` of assertions (RFC 7519 §4.1.7) |
//!
//! Secrets, such as the nonces of encrypted entries, come from the crates that use them.

use std::sync::Arc;

use crate::sync::{Mutex, lock};

/// A random number generator for jitter: one sequence per layer, so that a seed makes a run repeatable. Clones share the
/// sequence.
///
/// The lock is held for one step of the generator. It is not on the path of a request that is sent at once.
#[derive(Clone, Debug)]
pub(crate) struct Random(Arc<Mutex<fastrand::Rng>>);

impl Random {
    /// Creates a generator with `seed`, or with a seed from the operating system.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| {
            // The lower half of the 128 bits.
            let [.., a, b, c, d, e, f, g, h] = unique().to_be_bytes();
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        });
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// Returns a number in `0.0..1.0`.
    pub(crate) fn unit(&self) -> f64 {
        lock(&self.0).f64()
    }
}

/// Returns a number that no other call returns, in any process. Never 0.
///
/// It comes from the operating system, because a fork or a snapshot of the machine copies the state of a generator in this
/// process.
pub(crate) fn unique() -> u128 {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_be_bytes(bytes).max(1),
        // The number must be unique but need not be secret.
        Err(_) => fastrand::u128(1..),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_unique_even_with_a_repeating_generator() {
        let draw = || {
            fastrand::seed(7);
            (unique(), fastrand::u64(..))
        };

        let (one, other) = (draw(), draw());

        assert_eq!(one.1, other.1);
        assert_ne!(one.0, other.0);
    }

    #[test]
    fn clones_share_one_sequence_and_a_seed_repeats_it() {
        let random = Random::new(Some(7));
        let clone = random.clone();
        let of_both = [random.unit(), clone.unit()];

        let again = Random::new(Some(7));

        assert_eq!(of_both, [again.unit(), again.unit()]);
        assert_ne!(of_both[0], of_both[1]);
    }
}
