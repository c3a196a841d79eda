//! What tower and tower-http have.

use std::future::Ready;

use tower::{
    Layer,
    retry::{Policy, RetryLayer},
};
use tower_http::auth::AddAuthorizationLayer;

use super::{AUTHORIZATION, BARE, BOTH_OF_TOWER, Contestant, RETRY, Tower};
use crate::inner::{Answer, Inner, Plain, Sent, token};

/// A policy that copies each request and never uses the copy, as policies do when nothing goes wrong.
#[derive(Clone, Copy)]
struct Copying;

impl<E> Policy<Sent, Answer<Plain>, E> for Copying {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Sent, _: &mut Result<Answer<Plain>, E>) -> Option<Ready<()>> {
        None
    }

    fn clone_request(&mut self, request: &Sent) -> Option<Sent> {
        Some(request.clone())
    }
}

pub fn contestants(inner: &impl Inner<Plain>) -> Vec<Contestant> {
    let authorized = AddAuthorizationLayer::bearer(&token()).layer(inner.clone());
    let retried = RetryLayer::new(Copying).layer(inner.clone());
    let both = RetryLayer::new(Copying).layer(authorized.clone());
    vec![
        Contestant::new(BARE, BARE, Tower(inner.clone())),
        Contestant::new(AUTHORIZATION, AUTHORIZATION, Tower(authorized)),
        Contestant::new(RETRY, RETRY, Tower(retried)),
        Contestant::new(BOTH_OF_TOWER, BOTH_OF_TOWER, Tower(both)),
    ]
}
