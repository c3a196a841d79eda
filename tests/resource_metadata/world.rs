//! An API with metadata, and an authorization server with metadata, in one service.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use serde_json::{Value, json};
use tower::{service_fn, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        ClientCredentialsLayerBuilder, ProtectedResource, TokenError, TokenEvent, TokenHandle,
    },
};

use crate::support::server::FixedClock;

type Body = BoxBody<Bytes, BoxError>;

pub(crate) const API: &str = "https://api.example/mcp";
pub(crate) const ISSUER: &str = "https://id.example/a";
pub(crate) const ANNOUNCED: &str = "https://api.example/custom/metadata.json";
pub(crate) const WELL_KNOWN: &str = "https://api.example/.well-known/oauth-protected-resource/mcp";
pub(crate) const ROOT: &str = "https://api.example/.well-known/oauth-protected-resource";
pub(crate) const OAUTH: &str = "https://id.example/.well-known/oauth-authorization-server/a";
pub(crate) const TOKEN: &str = "https://id.example/a/token";

/// What each URL responds with: a status, a challenge and a body. Any other URL has a 404.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pages: Vec<(String, Page)>,
    /// URL and form of each request.
    requests: Vec<(String, String)>,
    /// Method of the request without a token.
    probe: String,
    /// Events about rejected metadata.
    rejected: Vec<String>,
}

#[derive(Clone)]
pub(crate) enum Page {
    /// A status, `WWW-Authenticate` and a body.
    Response(u16, String, String),
    /// A redirect.
    Redirect(String),
    /// Headers, and a body that never ends.
    Endless(u16, String),
    /// No response.
    Silent,
}

impl World {
    /// An API whose metadata is at the well-known URL, and its authorization server.
    pub(crate) fn new() -> Self {
        let world = Self::default();
        world.expect_probe("GET");
        world.page(API, Page::Response(404, String::new(), String::new()));
        world.json(WELL_KNOWN, &resource());
        world.json(OAUTH, &issuer());
        world.grant("token");
        world
    }

    /// The same, but the metadata is where the challenge of the API says, with further parameters of the challenge.
    pub(crate) fn announcing(parameters: &str) -> Self {
        let world = Self::new();
        world.json(WELL_KNOWN, &json!({ "resource": "https://other.example" }));
        world.json(ANNOUNCED, &resource());
        world.challenge(&format!(
            "Bearer resource_metadata=\"{ANNOUNCED}\"{parameters}"
        ));
        world
    }

    /// Sets the method of the request without a token.
    pub(crate) fn expect_probe(&self, method: &str) {
        self.0.lock().unwrap().probe = method.to_owned();
    }

    pub(crate) fn page(&self, url: &str, page: Page) {
        let mut state = self.0.lock().unwrap();
        state.pages.retain(|(known, _)| known != url);
        state.pages.push((url.to_owned(), page));
    }

    pub(crate) fn status(&self, url: &str, status: u16) {
        self.page(url, Page::Response(status, String::new(), String::new()));
    }

    pub(crate) fn json(&self, url: &str, document: &Value) {
        self.page(
            url,
            Page::Response(200, String::new(), document.to_string()),
        );
    }

    pub(crate) fn challenge(&self, challenge: &str) {
        let page = Page::Response(401, challenge.to_owned(), String::new());
        self.page(API, page);
    }

    pub(crate) fn grant(&self, token: &str) {
        let token = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 300 });
        self.json(TOKEN, &token);
    }

    /// The URLs of the requests so far.
    pub(crate) fn urls(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.requests.iter().map(|(url, _)| url.clone()).collect()
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap().requests.clear();
    }

    /// The form of the last token request.
    pub(crate) fn form(&self) -> String {
        let state = self.0.lock().unwrap();
        let mut requests = state.requests.iter().rev();
        let (_, form) = requests.find(|(_, form)| !form.is_empty()).unwrap();
        form.clone()
    }

    /// Errors about renewed metadata that was rejected.
    pub(crate) fn rejected(&self) -> Vec<String> {
        self.0.lock().unwrap().rejected.clone()
    }

    pub(crate) fn service(
        &self,
    ) -> BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, BoxError> {
        let world = self.clone();
        BoxCloneSyncService::new(service_fn(move |request: Request<Full<Bytes>>| {
            let world = world.clone();
            async move {
                let (head, body) = request.into_parts();
                let allowed = match &*head.uri.to_string() {
                    TOKEN => "POST",
                    API => &*world.0.lock().unwrap().probe.clone(),
                    _ => "GET",
                };
                assert_eq!(head.method, allowed, "{}", head.uri);
                assert!(
                    head.uri == TOKEN || !head.headers.contains_key(header::AUTHORIZATION),
                    "credentials for {}",
                    head.uri
                );
                let form = body.collect().await?.to_bytes();
                let url = head.uri.to_string();
                let page = world.respond(&url, String::from_utf8(form.to_vec())?);
                page.into_response().await
            }
        }))
    }

    fn respond(&self, url: &str, form: String) -> Page {
        let mut state = self.0.lock().unwrap();
        state.requests.push((url.to_owned(), form));
        let page = state.pages.iter().find(|(known, _)| known == url);
        page.map_or(
            Page::Response(404, String::new(), String::new()),
            |(_, page)| page.clone(),
        )
    }

    /// An endpoint without retries that is found by the API.
    pub(crate) fn endpoint(&self, resource: impl Into<ProtectedResource>) -> TokenEndpoint {
        TokenEndpoint::for_resource(resource, ClientAuth::basic("id", "secret"))
            .service(self.service())
            .retries(0)
    }

    pub(crate) fn layer(&self, endpoint: TokenEndpoint) -> ClientCredentialsLayerBuilder {
        let world = self.clone();
        ClientCredentialsLayer::builder(endpoint, "https://api.example".parse().unwrap())
            .clock(FixedClock)
            .seed(7)
            .on_event(move |event| {
                if let TokenEvent::MetadataRejected { error, .. } = event {
                    world.0.lock().unwrap().rejected.push(error.to_string());
                }
            })
    }

    pub(crate) fn handle(&self, endpoint: TokenEndpoint) -> TokenHandle {
        self.layer(endpoint).build().handle()
    }

    /// The error of a first token, which must not have led to a token request.
    pub(crate) async fn error(&self, resource: impl Into<ProtectedResource>) -> TokenError {
        let error = self
            .handle(self.endpoint(resource))
            .token()
            .await
            .unwrap_err();
        assert!(!self.urls().contains(&TOKEN.to_owned()), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        error
    }
}

impl Page {
    async fn into_response(self) -> Result<Response<Body>, BoxError> {
        let response = Response::builder();
        let challenged = |response: http::response::Builder, challenge: String| match challenge {
            none if none.is_empty() => response,
            challenge => response.header(header::WWW_AUTHENTICATE, challenge),
        };
        Ok(match self {
            Self::Response(status, challenge, body) => {
                challenged(response.status(status), challenge).body(text(body))?
            }
            Self::Redirect(to) => response
                .status(302)
                .header(header::LOCATION, to)
                .body(text(String::new()))?,
            Self::Endless(status, challenge) => {
                challenged(response.status(status), challenge).body(Endless.boxed())?
            }
            Self::Silent => std::future::pending().await,
        })
    }
}

fn text(body: String) -> Body {
    Full::from(body).map_err(|never| match never {}).boxed()
}

/// A body without an end.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Poll::Pending
    }
}

pub(crate) fn protected() -> ProtectedResource {
    ProtectedResource::new(API.parse().unwrap())
}

pub(crate) fn resource() -> Value {
    json!({
        "resource": API,
        "authorization_servers": [ISSUER],
        "scopes_supported": ["mcp:read", "mcp:write"],
    })
}

pub(crate) fn issuer() -> Value {
    json!({
        "issuer": ISSUER,
        "token_endpoint": TOKEN,
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    })
}

/// The document with another value for one member.
pub(crate) fn with(mut document: Value, member: &str, value: Value) -> Value {
    document[member] = value;
    document
}
