//! The callers: each makes one call after another, and some give up on theirs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fastrand::Rng;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tokio::task::JoinSet;
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};
use tower_m2m::{
    client_credentials::TokenError,
    rate_limit_retry::{DeadlineExceeded, RateLimited},
};

use crate::server::CALL;

pub(crate) type Stack =
    BoxCloneSyncService<Request<Full<Bytes>>, Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

/// What the callers share.
pub(crate) struct Work {
    pub(crate) url: String,
    /// How many calls there are at most.
    pub(crate) calls: usize,
    pub(crate) next: AtomicUsize,
    /// No more calls are begun.
    pub(crate) over: AtomicBool,
    pub(crate) succeeded: AtomicU64,
    pub(crate) left: AtomicU64,
    pub(crate) failed: Mutex<BTreeMap<String, u64>>,
}

impl Work {
    pub(crate) fn started(&self) -> usize {
        self.next.load(Relaxed).min(self.calls)
    }

    pub(crate) fn failed(&self) -> BTreeMap<String, u64> {
        let failed = self.failed.lock();
        failed.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self) -> Option<usize> {
        if self.over.load(Relaxed) {
            return None;
        }
        let number = self.next.fetch_add(1, Relaxed);
        (number < self.calls).then_some(number)
    }
}

/// Makes calls until there are none left.
pub(crate) async fn work(work: Arc<Work>, stack: Stack, mut random: Rng) {
    while let Some(number) = work.take() {
        let patience = match random.u8(0..100) {
            0..3 => Duration::from_millis(random.u64(0..30)),
            _ => Duration::MAX,
        };
        let call = Box::pin(call(stack.clone(), request(&work.url, number, &mut random)));
        match tokio::time::timeout(patience, call).await {
            Err(_) => drop(work.left.fetch_add(1, Relaxed)),
            Ok(Ok(())) => drop(work.succeeded.fetch_add(1, Relaxed)),
            Ok(Err(reason)) => {
                {
                    let mut failed = work.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    *failed.entry(reason).or_default() += 1;
                }
                // As a program would that is not written to make things worse.
                let pause = Duration::from_millis(random.u64(50..250));
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// How long it takes until `calls` by each stack, sent at once, all succeed, if they ever do.
pub(crate) async fn recover(stacks: [Stack; 2], url: &str, calls: usize) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < RECOVERY {
        let mut random = Rng::new();
        let mut under_way = JoinSet::new();
        for stack in &stacks {
            for _ in 0..calls {
                // Without a number: no ledger counts them.
                let mut request = request(url, 0, &mut random);
                request.headers_mut().remove(CALL);
                under_way.spawn(Box::pin(call(stack.clone(), request)));
            }
        }
        if under_way.join_all().await.iter().all(Result::is_ok) {
            return Some(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    None
}

fn request(url: &str, number: usize, random: &mut Rng) -> Request<Full<Bytes>> {
    let method = match random.u8(0..20) {
        0..14 => Method::GET,
        14 => Method::PUT,
        _ => Method::POST,
    };
    let length = match (&method, random.u8(0..50)) {
        (&Method::GET, _) => 0,
        // Larger than what fits into the buffers of a connection, to be broken off in the middle.
        (_, 0) => LARGE.len(),
        _ => 100,
    };
    let mut request = Request::new(Full::new(Bytes::from_static(&LARGE[..length])));
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().unwrap_or_default();
    request.headers_mut().insert(CALL, number.into());
    request
}

/// One call, its response read in full; or why it failed.
async fn call(stack: Stack, request: Request<Full<Bytes>>) -> Result<(), String> {
    let response = stack.oneshot(request).await.map_err(|e| reason(&e))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await;
    if !head.status.is_success() {
        return Err(format!("status {}", head.status.as_u16()));
    }
    let body = body.map_err(|_| "response truncated")?;
    if !body.to_bytes().starts_with(b"{\"ok\":true") {
        return Err("response not sent by the API".into());
    }
    Ok(())
}

fn reason(error: &BoxError) -> String {
    if let Some(error) = error.downcast_ref::<TokenError>() {
        return format!("no token: {:?}", error.kind());
    }
    if let Some(error) = error.downcast_ref::<DeadlineExceeded>() {
        return match error.possibly_processed() {
            true => "deadline, may have been processed".into(),
            false => "deadline, not sent".into(),
        };
    }
    if error.is::<RateLimited>() {
        return "hold too long".into();
    }
    "connection".into()
}

/// Back-offs for tokens are the longest that there is to wait for.
const RECOVERY: Duration = Duration::from_secs(60);
static LARGE: [u8; 512 * 1024] = [b'x'; 512 * 1024];
