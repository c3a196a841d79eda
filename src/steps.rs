//! Counts the steps of parsers of untrusted input, so that tests can compare them with the length of the input.
//!
//! A parser that examines a byte a bounded number of times passes the test for any input; one that starts again at each
//! separator counts quadratically many steps, and fails it without a measurement of time.

/// Records that `count` bytes or items were examined. Does nothing outside of tests.
#[inline]
pub(crate) fn count_steps(count: usize) {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + count));
    #[cfg(not(test))]
    let _ = count;
}

/// Returns how many bytes and items `work` examines on this thread.
#[cfg(test)]
pub(crate) fn steps_of(work: impl FnOnce()) -> usize {
    let before = STEPS.with(std::cell::Cell::get);
    work();
    STEPS.with(std::cell::Cell::get) - before
}

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
