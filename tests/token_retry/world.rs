//! An issuer, and who asks it.

use std::time::Duration;

use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{ClientCredentialsLayerBuilder, SecretSource, TokenHandle},
    test_util::Issuer,
};

use crate::support::origin;

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) fn issuer() -> Issuer {
    Issuer::builder().client("id", "secret").in_process()
}

pub(crate) fn endpoint(issuer: &Issuer, secret: impl SecretSource) -> TokenEndpoint {
    let uri = issuer.token_url().parse().unwrap();
    TokenEndpoint::new(uri, ClientAuth::post("id", secret))
}

pub(crate) fn layer(endpoint: TokenEndpoint) -> ClientCredentialsLayerBuilder {
    ClientCredentialsLayer::builder(endpoint, origin()).seed(7)
}

pub(crate) fn handle(issuer: &Issuer) -> TokenHandle {
    layer(endpoint(issuer, "secret").service(issuer.service()))
        .build()
        .handle()
}
