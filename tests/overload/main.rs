//! Many callers wait: how many may, in which order they go on, what wakes them, and what each costs.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod holds;
mod tokens;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use allocation_counter::measure;
use tokio::runtime::{Builder, Runtime};

const MANY: usize = 100_000;

/// Counts how often a future is polled.
struct Polls<F>(Pin<Box<F>>, Arc<AtomicUsize>);

impl<F: Future> Polls<F> {
    fn of(future: F) -> (Self, Arc<AtomicUsize>) {
        let polls = Arc::<AtomicUsize>::default();
        (Self(Box::pin(future), Arc::clone(&polls)), polls)
    }
}

impl<F: Future> Future for Polls<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, SeqCst);
        self.0.as_mut().poll(cx)
    }
}

/// How many bytes the heap holds per caller while [`MANY`] wait, each in a box that was polled once.
fn bytes_per_waiter<F: Future>(runtime: &Runtime, waiting: impl Fn() -> F) -> u64 {
    let mut all = Vec::with_capacity(MANY);
    let taken = measure(|| {
        runtime.block_on(async {
            for _ in 0..MANY {
                let mut caller = Box::pin(waiting());
                assert!(poll_once(&mut caller).await.is_pending());
                all.push(caller);
            }
        });
    });
    u64::try_from(taken.bytes_current).unwrap() / MANY as u64
}

async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Whose time stands still.
fn paused() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}
