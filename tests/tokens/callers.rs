//! Callers who each send one request, and what they get.

use http::{Response, StatusCode};
use tower_m2m::{BoxError, client_credentials::TokenError};

use crate::support::{Body, Client, get, send, spawn};

pub(crate) async fn send_owned(service: impl Client) -> StatusCode {
    send(&service, get("/")).await.unwrap().status()
}

/// The responses to `count` concurrent requests.
async fn outcomes(service: &impl Client, count: usize) -> Vec<Result<Response<Body>, BoxError>> {
    let calls: Vec<_> = (0..count).map(|_| spawn(service, get("/"))).collect();
    let mut outcomes = Vec::with_capacity(count);
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    outcomes
}

pub(crate) async fn statuses(service: &impl Client, count: usize) -> Vec<StatusCode> {
    let outcomes = outcomes(service, count).await.into_iter();
    outcomes.map(|outcome| outcome.unwrap().status()).collect()
}

pub(crate) async fn errors_of(service: &impl Client, count: usize) -> Vec<TokenError> {
    let outcomes = outcomes(service, count).await.into_iter();
    outcomes
        .map(|outcome| *outcome.unwrap_err().downcast().unwrap())
        .collect()
}
