//! An issuer that publishes metadata, and who asks it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{TokenError, TokenErrorKind as Kind, TokenEvent},
};

use crate::support::server::{GRANTED, Server, handle, layer};

pub(crate) const ISSUER: &str = "https://id.example/realms/m2m";
pub(crate) const OAUTH: &str =
    "https://id.example/.well-known/oauth-authorization-server/realms/m2m";
pub(crate) const OPENID: &str = "https://id.example/realms/m2m/.well-known/openid-configuration";
pub(crate) const OPENID_INSERTED: &str =
    "https://id.example/.well-known/openid-configuration/realms/m2m";
pub(crate) const TOKEN: &str = "https://id.example/realms/m2m/token";

pub(crate) fn metadata() -> Value {
    json!({
        "issuer": ISSUER,
        "token_endpoint": TOKEN,
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    })
}

/// The document with another value for one member; `null` takes it out.
pub(crate) fn with(mut document: Value, member: &str, value: Value) -> Value {
    document[member] = value;
    document
}

pub(crate) fn publishing(place: &'static str, document: Value) -> Server {
    let server = Server::granting();
    publish(&server, place, document);
    server
}

/// The document at `place`, tokens at every URL that is not well known, and 404 elsewhere.
pub(crate) fn publish(server: &Server, place: &'static str, document: Value) {
    server.answer(move |url| match url {
        _ if url == place => (200, document.to_string()),
        _ if url.contains(".well-known") => (404, String::new()),
        _ => (200, GRANTED.to_owned()),
    });
}

pub(crate) fn discover(server: &Server, auth: ClientAuth) -> TokenEndpoint {
    TokenEndpoint::discover(ISSUER, auth).service(server.service())
}

pub(crate) async fn token(server: &Server, auth: ClientAuth) -> Result<(), TokenError> {
    let outcome = handle(discover(server, auth)).token().await;
    outcome.map(drop)
}

pub(crate) type Events = Arc<Mutex<Vec<Kind>>>;

/// With the reasons why metadata was rejected.
pub(crate) fn with_events(
    endpoint: TokenEndpoint,
) -> (tower_m2m::client_credentials::TokenHandle, Events) {
    let events = Events::default();
    let log = Arc::clone(&events);
    let layer = layer(endpoint)
        .on_event(move |event| {
            if let TokenEvent::MetadataRejected { error, .. } = event {
                log.lock().unwrap().push(error.kind());
            }
        })
        .build();
    (layer.handle(), events)
}

pub(crate) const METHODS: &str = "token_endpoint_auth_methods_supported";
