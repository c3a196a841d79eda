//! A service that detects errors in the handling of readiness.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tower_service::Service;

use super::{BoxError, script::lock};

/// A test double for a service whose clones are **not** ready, as with tower's `ConcurrencyLimit` or `Buffer`.
///
/// It panics if it is called without having been polled ready. It counts the instances that are ready and not yet called,
/// so that a test can detect a wait that holds readiness.
///
/// A clone starts without readiness of its own and shares permits and counters with the original. Dropping a ready instance
/// returns its permit.
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
    /// What all clones share.
    shared: Arc<Shared<Req, Res>>,
    /// Held from a successful `poll_ready` until the call.
    ready: Option<Permit>,
}

/// Produces the response to a request.
type Handler<Req, Res> = dyn Fn(Req) -> ProbeFuture<Res> + Send + Sync;

/// The future of a response.
type ProbeFuture<Res> = Pin<Box<dyn Future<Output = Result<Res, BoxError>> + Send>>;

/// What all clones share.
struct Shared<Req, Res> {
    /// The gate. Separate, so that a permit does not depend on the types of request and response.
    gate: Arc<Mutex<Gate>>,
    /// The test's handler.
    handler: Box<Handler<Req, Res>>,
}

/// The readiness of all clones.
///
/// Invariant: unless [`Probe::permits`] lowered it meanwhile, `ready_held + in_flight <= permits`.
///
/// | step | `ready_held` | `in_flight` | `calls` |
/// |---|---|---|---|
/// | `poll_ready` returns ready | + 1 | | |
/// | `call` | − 1 | + 1 | + 1 |
/// | the response future completes or is dropped | | − 1 | |
/// | a ready instance is dropped | − 1 | | |
#[derive(Debug)]
struct Gate {
    /// Whether no instance becomes ready.
    blocked: bool,
    /// Maximum number of instances that are ready or in flight.
    permits: usize,
    /// Number of instances that are ready and not yet called.
    ready_held: usize,
    /// Number of calls that have neither completed nor been dropped.
    in_flight: usize,
    /// Number of calls so far.
    calls: usize,
    /// Wakers of the instances that were not ready.
    waiting: Vec<Waker>,
}

/// A permit of the gate. Returned on drop.
struct Permit {
    /// The gate.
    gate: Arc<Mutex<Gate>>,
    /// Whether the instance was called: the permit then counts as in flight.
    called: bool,
}

impl<Req, Res> Probe<Req, Res> {
    /// Creates a probe that responds with `handler`. By default it is always ready, for any number of callers.
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

    /// Sets how many instances may be ready or in flight at a time, as with `ConcurrencyLimit`. Default: no limit.
    #[must_use]
    pub fn permits(self, permits: usize) -> Self {
        self.change(|gate| gate.permits = permits);
        self
    }

    /// Makes instances not become ready from now on. Instances that are ready stay so.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::{Service, ServiceExt};
    /// use tower_m2m::test_util::Probe;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_m2m::BoxError> {
    /// let probe = Probe::new(|request: u32| async move { Ok(request + 1) });
    /// probe.block();
    /// let mut service = probe.clone();
    /// let call = async { service.ready().await?.call(1).await };
    ///
    /// // Makes the service ready while the call waits for it.
    /// let (response, ()) = tokio::join!(call, async { probe.unblock() });
    ///
    /// assert_eq!(response?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn block(&self) {
        lock(&self.shared.gate).blocked = true;
    }

    /// Undoes [`block`](Self::block), and wakes the waiting callers.
    pub fn unblock(&self) {
        self.change(|gate| gate.blocked = false);
    }

    /// Returns the number of instances that are ready and not yet called.
    #[must_use]
    pub fn ready_held(&self) -> usize {
        lock(&self.shared.gate).ready_held
    }

    /// Returns the number of calls that have neither completed nor been dropped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        lock(&self.shared.gate).in_flight
    }

    /// Returns the number of calls so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        lock(&self.shared.gate).calls
    }

    /// Changes the gate, and wakes the waiting callers.
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
                // A task that polls repeatedly is stored once.
                if !gate.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    gate.waiting.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
            gate.ready_held += 1;
            // Released first: the permit's `Drop` locks the gate.
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
    /// Panics if this instance has not been polled ready since it was created, cloned or last called.
    fn call(&mut self, request: Req) -> ProbeFuture<Res> {
        let Some(mut permit) = self.ready.take() else {
            panic!("Probe was called before `poll_ready` returned ready: a clone is not ready");
        };
        // Before the handler runs, which may check the counters.
        permit.start();
        let answer = (self.shared.handler)(request);
        Box::pin(async move {
            // Returned when the call completes or is dropped.
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
    /// Counts the call.
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

/// Changes the gate, and wakes the waiting callers after the lock is released, because wakers run foreign code.
fn change_and_wake(gate: &Mutex<Gate>, change: impl FnOnce(&mut Gate)) {
    let waiting = {
        let mut gate = lock(gate);
        change(&mut gate);
        // All of them: each polls again, and those without a permit register again.
        std::mem::take(&mut gate.waiting)
    };
    for waker in waiting {
        waker.wake();
    }
}
