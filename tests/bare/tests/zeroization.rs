//! Freed memory contains no secret: an allocator inspects each block before it is freed. The text that it searches for
//! is in the program's image only; any occurrence on the heap is a copy.
//!
//! In a package of its own, because an allocator needs unsafe code.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{AccessToken, TokenHandle},
};

/// Of the token and of the client secret.
const CANARY: &str = "c4nary-0f-4-s3cret-th4t-n0body-m4y-find";
/// What `base64("id:" + CANARY)` has for most of it.
const IN_BASE64: &str = "YzRuYXJ5LTBmLTQtczNjcmV0LXRoNHQtbjBib2R5LW00eS1maW5k";
static GRANTED: &str = r#"{"access_token":"c4nary-0f-4-s3cret-th4t-n0body-m4y-find","token_type":"Bearer","expires_in":300}"#;

struct ScanningAllocator;

static FOUND: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static SCANNING: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: everything is left to the system's allocator; a block is read only while it is still allocated.
unsafe impl GlobalAlloc for ScanningAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised to this function. Zeros, so that what others left there is not found again.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if SCANNING.try_with(Cell::get).unwrap_or_default() {
            // SAFETY: the block is the caller's until it is freed below, and all of it was initialised above.
            let block = unsafe { std::slice::from_raw_parts(pointer, layout.size()) };
            for secret in [CANARY, IN_BASE64] {
                if block
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes())
                {
                    FOUND.fetch_add(1, SeqCst);
                }
            }
        }
        // SAFETY: as promised to this function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: ScanningAllocator = ScanningAllocator;

/// How many blocks with a secret are given back while `work` is done, on this thread.
fn freed_with_secret(work: impl FnOnce()) -> usize {
    static SERIAL: Mutex<()> = Mutex::new(());
    let one = SERIAL.lock();
    FOUND.store(0, SeqCst);
    SCANNING.set(true);
    work();
    SCANNING.set(false);
    let found = FOUND.load(SeqCst);
    drop(one);
    found
}

fn run<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(work)
}

/// An API, or a client for it, that keeps nothing of its requests.
async fn accept(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert!(request.headers().contains_key("authorization"));
    drop(request);
    Ok(Response::default())
}

/// A client for token requests whose answer lies in the program's image.
async fn grant(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    drop(request);
    let body = Full::new(Bytes::from_static(GRANTED.as_bytes()));
    Ok(Response::new(body))
}

async fn send_with(layer: ClientCredentialsLayer) -> TokenHandle {
    let service = layer.layer(service_fn(accept));
    for _ in 0..3 {
        let request = Request::get("https://api.example.com/a").body(Full::default());
        let answer = service.clone().oneshot(request.unwrap()).await.unwrap();
        assert!(answer.status().is_success());
    }
    layer.handle().clone()
}

#[test]
fn the_allocator_detects_a_freed_copy() {
    assert_eq!(freed_with_secret(|| drop(CANARY.to_owned())), 1);
    assert_eq!(freed_with_secret(|| drop(IN_BASE64.to_owned())), 1);
}

#[test]
fn a_token_is_zeroized_before_it_is_freed() {
    let found = freed_with_secret(|| {
        let token = AccessToken::new(CANARY).expires_in(Duration::from_secs(300));
        run(async {
            let origin = "https://api.example.com".parse().unwrap();
            let layer = ClientCredentialsLayer::builder(token, origin).build();
            let handle = send_with(layer).await;
            handle.invalidate();
        });
    });
    assert_eq!(found, 0);
}

#[test]
fn client_secrets_and_token_responses_are_zeroized_before_they_are_freed() {
    for auth in [
        ClientAuth::basic("id", CANARY),
        ClientAuth::post("id", CANARY),
    ] {
        let found = freed_with_secret(move || {
            let endpoint = "https://issuer.example.com/token".parse().unwrap();
            let source = TokenEndpoint::new(endpoint, auth).service(service_fn(grant));
            run(async {
                let origin = "https://api.example.com".parse().unwrap();
                let layer = ClientCredentialsLayer::builder(source, origin).build();
                send_with(layer).await.refresh_now().await.unwrap();
            });
        });
        assert_eq!(found, 0);
    }
}
