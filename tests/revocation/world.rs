//! Where tokens are revoked, and who does it.

use std::sync::{Arc, Mutex};

use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{
        ClientCredentialsLayerBuilder, RevocationEndpoint, TokenEvent, TokenHandle,
    },
};

use crate::support::server::{Server, TOKEN_URL, layer};

pub(crate) const REVOKE_URL: &str = "https://id.example/revoke";
pub(crate) const METADATA_URL: &str = "https://id.example/.well-known/oauth-authorization-server";

pub(crate) fn revocation() -> http::Uri {
    REVOKE_URL.parse().unwrap()
}

pub(crate) fn discovered_endpoint(server: &Server) -> TokenEndpoint {
    TokenEndpoint::discover("https://id.example", ClientAuth::basic("id", "secret"))
        .service(server.service())
        .revoke_on_shutdown(RevocationEndpoint::Discovered)
}

pub(crate) fn metadata(more: &str) -> String {
    format!(r#"{{"issuer":"https://id.example","token_endpoint":"{TOKEN_URL}"{more}}}"#)
}

pub(crate) type Events = Arc<Mutex<Vec<String>>>;

pub(crate) fn handle(endpoint: TokenEndpoint) -> (TokenHandle, Events) {
    with_events(layer(endpoint))
}

/// A handle, and the revocation events of its layer.
pub(crate) fn with_events(layer: ClientCredentialsLayerBuilder) -> (TokenHandle, Events) {
    let events = Events::default();
    let log = Arc::clone(&events);
    let layer = layer.on_event(move |event: &TokenEvent<'_>| match event {
        TokenEvent::Revoked { .. } => log.lock().unwrap().push("revoked".to_owned()),
        TokenEvent::RevocationFailed { error, .. } => {
            let description = error.error_description();
            let text = format!("{:?}: {error} {description:?}", error.kind());
            log.lock().unwrap().push(text);
        }
        _ => {}
    });
    (layer.build().handle(), events)
}
