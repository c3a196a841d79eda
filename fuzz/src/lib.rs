//! What the fuzz targets share.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use tokio::runtime::{Builder, Runtime};
use tower::{Service, service_fn};
use tower_m2m::BoxError;

/// No answer that fuzzers make up holds it by accident, and no error may ever show it.
pub const SECRET: &str = "cAnArY-7d1f0b52-0e0c";

/// When everything happens: 2026-11-21 08:00:00 UTC.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_248_000)
}

/// The status that a byte stands for.
pub fn status(byte: u8) -> StatusCode {
    const KNOWN: [u16; 16] = [
        200, 201, 301, 307, 400, 401, 403, 404, 408, 413, 418, 425, 429, 500, 502, 503,
    ];
    StatusCode::from_u16(KNOWN[usize::from(byte) % KNOWN.len()]).unwrap()
}

/// Lines of `name: value`; others are left out.
pub fn headers(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let name = HeaderName::from_bytes(name.trim_ascii());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// One header, if its value can be sent at all.
pub fn header(name: HeaderName, value: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(name, value);
    }
    headers
}

/// Cuts off what comes before the first line break.
pub fn cut(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

/// Runs a future in virtual time.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// A server in memory.
pub fn server<F>(
    answer: F,
) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Fn(&Uri) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    service_fn(move |request: Request<Full<Bytes>>| {
        let response = answer(request.uri());
        async move { Ok(response) }
    })
}

/// An answer with a body.
pub fn answer(status: StatusCode, headers: HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(Bytes::copy_from_slice(body)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A good answer to a token request.
pub fn token() -> Response<Full<Bytes>> {
    let json = header(header::CONTENT_TYPE, b"application/json");
    let body = br#"{"access_token":"token","token_type":"Bearer","expires_in":300}"#;
    answer(StatusCode::OK, json, body)
}

/// A place to which a closure can take something out.
#[derive(Clone, Debug)]
pub struct Kept<T>(Arc<Mutex<Vec<T>>>);

impl<T> Kept<T> {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    pub fn push(&self, item: T) {
        self.0.lock().unwrap().push(item);
    }

    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self::new()
    }
}
