//! What the layers add to the futures and services of hyper-util's https client, on a machine with pointers of 64 bits.
#![cfg(target_pointer_width = "64")]

use std::mem::size_of;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tower::Service;
use tower_m2m::{
    client_credentials::{self, ClientCredentials},
    rate_limit_retry::{self, RateLimitRetry},
    stack::{self, M2m},
};

type Body = Full<Bytes>;
type Https = Client<HttpsConnector<HttpConnector>, Body>;

fn beyond_the_inner_future<F>() -> usize {
    size_of::<F>() - size_of::<<Https as Service<Request<Body>>>::Future>()
}

fn beyond_the_inner_service<S>() -> usize {
    size_of::<S>() - size_of::<Https>()
}

#[test]
fn the_future_of_a_request_with_a_token_is_small() {
    let beyond = beyond_the_inner_future::<client_credentials::ResponseFuture<Https, Body>>();
    // Of which 8 for the tokens of a request's own scope, which a call keeps until it ends.
    assert!(beyond <= 80, "{beyond} bytes");
}

#[test]
fn the_future_of_a_request_under_limits_is_small() {
    let beyond = beyond_the_inner_future::<rate_limit_retry::ResponseFuture<Https, Body>>();
    assert!(beyond <= 136, "{beyond} bytes");
}

#[test]
fn the_combined_future_is_smaller_than_two_nested_ones() {
    let beyond = beyond_the_inner_future::<stack::ResponseFuture<Https, Body>>();
    assert!(beyond <= 184, "{beyond} bytes");
}

#[test]
fn a_service_is_one_word_larger_than_its_inner_service() {
    let pointer = size_of::<&u8>();
    assert_eq!(
        beyond_the_inner_service::<ClientCredentials<Https>>(),
        pointer
    );
    assert_eq!(beyond_the_inner_service::<RateLimitRetry<Https>>(), pointer);
    assert_eq!(beyond_the_inner_service::<M2m<Https>>(), pointer);
}
