//! Servers of axum's, on loopback.

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{Next, from_fn},
    response::IntoResponse,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tower_m2m::test_util::TokenBook;

/// A running server; stops when it is dropped.
pub(crate) struct Served(JoinHandle<()>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves `router` on loopback, by HTTP/1.1 and HTTP/2; and its URL.
pub(crate) async fn serve(router: Router) -> (String, Served) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    (url, Served(task))
}

/// `router` behind a check of tokens.
pub(crate) fn guarded(router: Router, tokens: TokenBook) -> Router {
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
