//! `middle`: a task renews the token, requests take the header from a `std` lock.

use std::sync::Arc;

use http::HeaderValue;
use middle::{Authorizer, BasicClientCredentialAuthorizer};

use super::{
    AUTHORIZATION, Contestant, Tower,
    by_hand::{Authorize, Shared},
};
use crate::inner::{Inner, Plain};

impl Shared for BasicClientCredentialAuthorizer {
    fn header(&self) -> HeaderValue {
        Arc::unwrap_or_clone(self.authorization_header().expect("a token"))
    }
}

pub async fn contestant(issuer: &str, inner: &impl Inner<Plain>) -> Contestant {
    let endpoint = issuer.parse().expect("a URL");
    let authorizer = BasicClientCredentialAuthorizer::basic_builder("id", "secret", endpoint);
    let authorizer = authorizer.build().await.expect("a token");
    let service = Authorize::new(authorizer, inner);
    Contestant::new("middle, by hand", AUTHORIZATION, Tower(service))
}
