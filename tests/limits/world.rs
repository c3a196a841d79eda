//! An API that rejects requests for some time.

use std::sync::{Arc, Mutex};

use http::StatusCode;
use tokio::time::Instant;

use crate::support::{Client, Inner, get, serving, spawn, status_only, throttled};

/// Responds with 429 and `Retry-After: {hint}` while `refuse` is true. Also returns the times of all requests.
pub(crate) fn limited(
    refuse: impl Fn() -> bool + Send + Sync + 'static,
    hint: &'static str,
) -> (Inner, Arc<Mutex<Vec<Instant>>>) {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrivals);
    let refuse = Arc::new(refuse);
    let (inner, _) = serving(move |_| {
        log.lock().unwrap().push(Instant::now());
        std::future::ready(if refuse() {
            throttled(hint)
        } else {
            status_only(StatusCode::OK)
        })
    });
    (inner, arrivals)
}

pub(crate) fn send_first(service: &impl Client) {
    drop(spawn(service, get("/a")));
}
