//! `/livez`, `/readyz` and `/metrics`, on a listener of their own.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{app::App, connections::Connections, metrics, tenant::Tenant};

pub(crate) fn router(app: Arc<App>, callers: Arc<Connections>) -> Router {
    let metrics = get(move |state: State<Arc<App>>| async move { scrape(&state, &callers) });
    Router::new()
        // That the process answers. Nothing else: a restart would not help an issuer.
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", metrics)
        .with_state(app)
}

/// Ready if the request of any tenant with credentials could be sent, and the gateway is not about to end.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let routes = app.routes();
    let tenants: serde_json::Map<_, _> = routes
        .tenants
        .iter()
        .map(|tenant| (tenant.name.clone(), describe(tenant)))
        .collect();
    let draining = app.draining.load(Relaxed);
    let ready = !draining && any_is_ready(&routes.tenants);
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({ "ready": ready, "draining": draining, "tenants": tenants });
    let json = [(CONTENT_TYPE, "application/json")];
    (status, json, body.to_string()).into_response()
}

/// A tenant without credentials has nothing to wait for, and says nothing about the others.
fn any_is_ready(tenants: &[Arc<Tenant>]) -> bool {
    let mut credentials = tenants
        .iter()
        .filter_map(|tenant| tenant.credential.as_ref())
        .peekable();
    credentials.peek().is_none()
        || credentials.any(|credential| credential.tokens.status().is_usable())
}

/// A tenant's token and quotas. Errors are shown by their kind: more is in the log.
fn describe(tenant: &Tenant) -> Value {
    let Some(credential) = &tenant.credential else {
        return json!({ "credential": null });
    };
    let token = credential.tokens.status();
    let quotas: Vec<_> = credential
        .quotas
        .status()
        .iter()
        .map(|quota| {
            json!({
                "limit": quota.limit(),
                "remaining": quota.remaining(),
                "reset_seconds": quota.reset().map(|time| time.as_secs()),
                "held_seconds": quota.held_for().map(|time| time.as_secs()),
                "in_flight": quota.in_flight(),
                "waiting": quota.waiting(),
            })
        })
        .collect();
    json!({
        "token_usable": token.is_usable(),
        "token_expires_seconds": token.expires_in().map(|time| time.as_secs()),
        "token_failure": token.failure().map(|error| format!("{:?}", error.kind())),
        "quotas": quotas,
    })
}

fn scrape(app: &App, callers: &Connections) -> Response {
    let routes = app.routes();
    let tenants: Vec<_> = routes
        .tenants
        .iter()
        .map(|tenant| tenant.scrape())
        .collect();
    let mut page = metrics::render(&tenants, callers, app.unknown_callers.load(Relaxed));
    app.reloads.render(&mut page);
    page.push_str(&metrics::of_the_layers());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
}
