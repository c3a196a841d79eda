//! Servers of axum's, on loopback.

use std::convert::Infallible;

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tower::Service;
use tower_m2m::test_util::TokenRegistry;

/// A running server; stops when it is dropped.
pub(crate) struct Served(JoinHandle<()>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves `app` on loopback, by HTTP/1.1 and HTTP/2; and its URL.
pub(crate) async fn serve<M, S>(app: M) -> (String, Served)
where
    M: for<'a> Service<IncomingStream<'a, TcpListener>, Response = S, Error = Infallible>
        + Send
        + 'static,
    for<'a> <M as Service<IncomingStream<'a, TcpListener>>>::Future: Send,
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    (url, Served(task))
}

/// `router` behind a check of tokens.
pub(crate) fn guarded(router: Router, tokens: TokenRegistry) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let value = request.headers().get(AUTHORIZATION);
        let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let valid = token.is_some_and(|token| tokens.is_valid(token));
        async move {
            if valid {
                next.run(request).await
            } else {
                StatusCode::UNAUTHORIZED.into_response()
            }
        }
    }))
}
