//! A service that catches errors in the handling of readiness.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tower_service::Service;

use super::{BoxError, script::lock};

/// A service double whose clones are **not** ready, as with tower's `ConcurrencyLimit` or `Buffer`.
///
/// It panics when it is called without having been polled ready, and counts the instances that were made ready and not
/// called yet, so that a test can tell who waits while holding readiness.
///
/// # Examples
///
/// ```
/// # async fn example() {
/// use tower_m2m::test_util::Probe;
///
/// let probe = Probe::new(|request: u32| async move { Ok(request + 1) }).permits(1);
/// let service = probe.clone();
///
/// // ... wrap `service`, and make it wait ...
///
/// assert_eq!(probe.ready_held(), 0);
/// # }
/// ```
pub struct Probe<Req, Res> {
    shared: Arc<Shared<Req, Res>>,
    /// Held from a successful `poll_ready` until the call.
    ready: Option<Permit>,
}

type Handler<Req, Res> = dyn Fn(Req) -> ProbeFuture<Res> + Send + Sync;

type ProbeFuture<Res> = Pin<Box<dyn Future<Output = Result<Res, BoxError>> + Send>>;

struct Shared<Req, Res> {
    gate: Arc<Mutex<Gate>>,
    handler: Box<Handler<Req, Res>>,
}

#[derive(Debug)]
struct Gate {
    blocked: bool,
    permits: usize,
    ready_held: usize,
    in_flight: usize,
    calls: usize,
    waiting: Vec<Waker>,
}

/// One place at the gate, given back on drop.
struct Permit {
    gate: Arc<Mutex<Gate>>,
    called: bool,
}

impl<Req, Res> Probe<Req, Res> {
    /// Answers requests with `handler`. Ready at any time, for any number of callers, unless told otherwise.
    #[must_use]
    pub fn new<F, Fut>(handler: F) -> Self
    where
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Res, BoxError>> + Send + 'static,
    {
        Self {
            shared: Arc::new(Shared {
                gate: Arc::new(Mutex::new(Gate {
                    blocked: false,
                    permits: usize::MAX,
                    ready_held: 0,
                    in_flight: 0,
                    calls: 0,
                    waiting: Vec::new(),
                })),
                handler: Box::new(move |request| Box::pin(handler(request))),
            }),
            ready: None,
        }
    }

    /// How many instances may be ready or in flight at a time, as with `ConcurrencyLimit`. Default: any number.
    #[must_use]
    pub fn permits(self, permits: usize) -> Self {
        self.change(|gate| gate.permits = permits);
        self
    }

    /// From now on nobody becomes ready. Those who are ready stay so.
    pub fn block(&self) {
        lock(&self.shared.gate).blocked = true;
    }

    /// Undoes [`block`](Self::block) and wakes those who wait.
    pub fn unblock(&self) {
        self.change(|gate| gate.blocked = false);
    }

    /// How many instances are ready and have not been called yet.
    #[must_use]
    pub fn ready_held(&self) -> usize {
        lock(&self.shared.gate).ready_held
    }

    /// How many calls have neither ended nor been dropped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        lock(&self.shared.gate).in_flight
    }

    /// How many calls there have been.
    #[must_use]
    pub fn calls(&self) -> usize {
        lock(&self.shared.gate).calls
    }

    fn change(&self, change: impl FnOnce(&mut Gate)) {
        change_and_wake(&self.shared.gate, change);
    }
}

impl<Req, Res: Send + 'static> Service<Req> for Probe<Req, Res> {
    type Response = Res;
    type Error = BoxError;
    type Future = ProbeFuture<Res>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.ready.is_none() {
            let mut gate = lock(&self.shared.gate);
            if gate.blocked || gate.ready_held + gate.in_flight >= gate.permits {
                if !gate.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    gate.waiting.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
            gate.ready_held += 1;
            drop(gate);
            self.ready = Some(Permit {
                gate: Arc::clone(&self.shared.gate),
                called: false,
            });
        }
        Poll::Ready(Ok(()))
    }

    /// # Panics
    ///
    /// If this instance has not been polled ready since it was made, cloned or last called.
    fn call(&mut self, request: Req) -> ProbeFuture<Res> {
        let Some(mut permit) = self.ready.take() else {
            panic!("Probe was called without having been polled ready: a clone is not ready");
        };
        permit.start();
        let answer = (self.shared.handler)(request);
        Box::pin(async move {
            let _permit = permit;
            answer.await
        })
    }
}

/// The clone is not ready, even if the original is.
impl<Req, Res> Clone for Probe<Req, Res> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            ready: None,
        }
    }
}

impl<Req, Res> fmt::Debug for Probe<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gate = lock(&self.shared.gate);
        f.debug_struct("Probe")
            .field("ready", &self.ready.is_some())
            .field("blocked", &gate.blocked)
            .field("ready_held", &gate.ready_held)
            .field("in_flight", &gate.in_flight)
            .field("calls", &gate.calls)
            .finish_non_exhaustive()
    }
}

impl Permit {
    fn start(&mut self) {
        self.called = true;
        let mut gate = lock(&self.gate);
        gate.ready_held -= 1;
        gate.in_flight += 1;
        gate.calls += 1;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let called = self.called;
        change_and_wake(&self.gate, |gate| {
            if called {
                gate.in_flight -= 1;
            } else {
                gate.ready_held -= 1;
            }
        });
    }
}

/// Wakers run foreign code, so they are called after the lock is released.
fn change_and_wake(gate: &Mutex<Gate>, change: impl FnOnce(&mut Gate)) {
    let waiting = {
        let mut gate = lock(gate);
        change(&mut gate);
        std::mem::take(&mut gate.waiting)
    };
    for waker in waiting {
        waker.wake();
    }
}
