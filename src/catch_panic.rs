//! Catches panics of the user's code where they must not end a task of this crate or fail a request.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// Returns the output of `work`; `None` if it panics.
///
/// Does not poll `work` again after a panic. The panic hook still reports the panic.
///
/// `AssertUnwindSafe` is correct here: `work` is dropped with its own state, and the state that it shares is behind
/// locks that are recovered when poisoned (see [`sync`](crate::sync)). A panic while `work` is dropped is not caught.
/// In a program built with `panic = "abort"`, a panic ends the process as always.
///
/// # Cancel safety
///
/// That of `work`.
pub(crate) async fn catch_panic<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)))
            .map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}
