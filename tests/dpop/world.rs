//! An authorization server and an API that check every proof, and a clock that this machine and the servers read
//! differently.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tower::service_fn;
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, Clock, TokenEndpoint,
    client_credentials::{ClientCredentialsLayerBuilder, Dpop},
    test_util::{DpopProof, TestClock},
};

use crate::support::{API, Body, Inner};

pub(crate) const TOKEN_URL: &str = "https://id.example/token?tenant=1";
/// Time at which each test begins.
pub(crate) const BEGIN: u64 = 1_800_000_000;

/// Both servers. Panics if a proof is not as RFC 9449 §4.3 requires, except for what a test lets go wrong.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// Nonce that the authorization server requires.
    pub(crate) id_nonce: Option<String>,
    /// Nonce that the API requires.
    pub(crate) api_nonce: Option<String>,
    /// Whether the API announces its nonce with every response.
    pub(crate) api_announces: bool,
    /// Whether both servers replace their nonces by others than those that they send.
    pub(crate) rotates: bool,
    /// Value of `token_type`.
    pub(crate) token_type: Option<&'static str>,
    /// Seconds by which the servers' clock is ahead.
    pub(crate) ahead: i64,
    /// Whether responses have a `Date`.
    pub(crate) dated: bool,
    /// Statuses of the API instead of 200, in order; 0 is a broken connection.
    pub(crate) statuses: Vec<u16>,
    /// Tokens that the API rejects.
    pub(crate) revoked: HashSet<String>,
    /// Thumbprint of the key of each token.
    pub(crate) tokens: HashMap<String, String>,
    /// Ids of all proofs.
    ids: HashSet<String>,
    /// Proofs that came to the authorization server, and whether they were accepted.
    pub(crate) id_proofs: Vec<(DpopProof, bool)>,
    /// Proofs that came to the API, and whether they were accepted.
    pub(crate) api_proofs: Vec<(DpopProof, bool)>,
    /// Headers of the requests to the API.
    pub(crate) api_headers: Vec<HeaderMap>,
    /// Forms that came to the authorization server.
    pub(crate) forms: Vec<String>,
    /// `Some` once the test has begun.
    clock: Option<TestClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self::default();
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN);
        world.with(|state| state.clock = Some(TestClock::starting_at(begin)));
        world
    }

    /// Changes or reads the state.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// Number of tokens that were issued.
    pub(crate) fn issued(&self) -> usize {
        self.with(|state| state.tokens.len())
    }

    /// Number of requests to the API.
    pub(crate) fn sent(&self) -> usize {
        self.with(|state| state.api_headers.len())
    }

    pub(crate) fn endpoint(&self, dpop: Dpop) -> TokenEndpoint {
        let auth = ClientAuth::basic("id", "secret");
        TokenEndpoint::new(TOKEN_URL.parse().unwrap(), auth)
            .service(self.authorization_server())
            .dpop(dpop)
    }

    pub(crate) fn layer(&self, dpop: Dpop) -> ClientCredentialsLayerBuilder {
        self.layer_of(self.endpoint(dpop))
    }

    pub(crate) fn layer_of(&self, endpoint: TokenEndpoint) -> ClientCredentialsLayerBuilder {
        ClientCredentialsLayer::builder(endpoint, API.parse().unwrap())
            .clock(self.clock())
            .seed(7)
    }

    /// The clock of this machine.
    pub(crate) fn clock(&self) -> TestClock {
        self.with(|state| state.clock.unwrap())
    }

    fn authorization_server(&self) -> Inner {
        let world = self.clone();
        Inner::new(service_fn(move |request: Request<Full<Bytes>>| {
            let world = world.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let form = String::from_utf8(body.to_vec()).unwrap();
                Ok::<_, BoxError>(world.with(|state| state.grant(&parts.headers, form)))
            }
        }))
    }

    pub(crate) fn api(&self) -> Inner {
        let world = self.clone();
        Inner::new(service_fn(move |request: Request<Body>| {
            let answer = world.with(|state| state.serve(&request));
            async move { answer.ok_or_else(|| BoxError::from("connection reset")) }
        }))
    }
}

impl State {
    /// Seconds since 1970 by the servers' clock.
    fn now(&self) -> u64 {
        let now = self.clock.unwrap().wall_clock();
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_secs().saturating_add_signed(self.ahead)
    }

    fn respond(&self, status: u16, nonce: Option<&str>, body: String) -> Response<Body> {
        let mut response = Response::builder().status(status);
        if status == 429 {
            response = response.header(header::RETRY_AFTER, 30);
        }
        if let Some(nonce) = nonce {
            response = response.header("dpop-nonce", nonce);
        }
        if self.dated {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(self.now());
            response = response.header(header::DATE, httpdate::fmt_http_date(now));
        }
        response.body(Body::from(body)).unwrap()
    }

    /// Checks a proof. Returns the error code of a server that rejects it.
    fn check(
        &mut self,
        headers: &HeaderMap,
        method: &str,
        url: &str,
        nonce: Option<&str>,
    ) -> (DpopProof, Option<&'static str>) {
        let mut proofs = headers.get_all("dpop").iter();
        let proof = proofs.next().expect("a proof").to_str().unwrap();
        assert!(proofs.next().is_none(), "more than one proof");
        let verified = DpopProof::verify(proof).unwrap();
        assert_eq!(verified.claim("htm"), Some(method));
        assert_eq!(verified.claim("htu"), Some(url));
        let id = verified.claim("jti").unwrap().to_owned();
        assert!(id.len() >= 16);
        assert!(self.ids.insert(id), "a proof was sent twice");
        let issued_at = verified.claims["iat"].as_u64().unwrap();
        let error = if issued_at.abs_diff(self.now()) > 60 {
            Some("invalid_dpop_proof")
        } else if nonce.is_some() && verified.claim("nonce") != nonce {
            Some("use_dpop_nonce")
        } else {
            None
        };
        (verified, error)
    }

    fn grant(&mut self, headers: &HeaderMap, form: String) -> Response<Body> {
        let nonce = self.id_nonce.clone();
        let (proof, error) = self.check(
            headers,
            "POST",
            "https://id.example/token",
            nonce.as_deref(),
        );
        assert_eq!(proof.claim("ath"), None);
        self.forms.push(form);
        self.id_proofs.push((proof.clone(), error.is_none()));
        let nonce = match self.rotates {
            true => Some(format!("nonce-{}", self.id_proofs.len())),
            false => nonce,
        };
        if let Some(error) = error {
            return self.respond(400, nonce.as_deref(), json!({ "error": error }).to_string());
        }
        let token = format!("token-{}", self.tokens.len() + 1);
        self.tokens.insert(token.clone(), proof.thumbprint);
        let token = json!({
            "access_token": token,
            "token_type": self.token_type.unwrap_or("DPoP"),
            "expires_in": 300,
        });
        self.respond(200, nonce.as_deref(), token.to_string())
    }

    fn serve(&mut self, request: &Request<Body>) -> Option<Response<Body>> {
        let headers = request.headers();
        self.api_headers.push(headers.clone());
        let authorization = headers[header::AUTHORIZATION].to_str().unwrap();
        let Some(token) = authorization.strip_prefix("DPoP ") else {
            // A bearer token.
            assert!(!headers.contains_key("dpop"));
            return Some(self.respond(200, None, String::new()));
        };
        let token = token.to_owned();
        let uri = request.uri();
        let url = format!("{API}{}", uri.path());
        let nonce = self.api_nonce.clone();
        let (proof, mut error) =
            self.check(headers, request.method().as_str(), &url, nonce.as_deref());
        assert_eq!(proof.claim("ath"), Some(ath(&token).as_str()));
        assert_eq!(self.tokens.get(&token), Some(&proof.thumbprint));
        if error.is_none() && self.revoked.contains(&token) {
            error = Some("invalid_token");
        }
        self.api_proofs.push((proof, error.is_none()));
        let nonce = match self.rotates {
            true => Some(format!("nonce-{}", self.api_proofs.len())),
            false => self.api_nonce.clone(),
        };
        if let Some(error) = error {
            let mut response = self.respond(401, nonce.as_deref(), String::new());
            let challenge = format!("DPoP error=\"{error}\", algs=\"ES256\"");
            let challenge = challenge.parse().unwrap();
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            return Some(response);
        }
        let status = match self.statuses.is_empty() {
            true => 200,
            false => self.statuses.remove(0),
        };
        let announced = nonce.filter(|_| self.api_announces);
        (status != 0).then(|| self.respond(status, announced.as_deref(), String::new()))
    }
}

/// Hash of a token, by jsonwebtoken's provider.
fn ath(token: &str) -> String {
    let digest = jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER
        .key_utils
        .compute_digest;
    let hash = digest(token.as_bytes(), jsonwebtoken::jwk::ThumbprintHash::SHA256);
    URL_SAFE_NO_PAD.encode(hash.unwrap())
}
