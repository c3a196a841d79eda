//! Doubles of vendors, in process, so that the recipes keep the vendors' addresses and the tests a paused clock.
//!
//! A [`Vendor`] is a token endpoint, and an API that accepts its last token only. An [`Api`] enforces limits: a [`Window`]
//! or a [`Bucket`] counts, and the test writes the fields.

#![expect(clippy::disallowed_methods, reason = "a double reads the paused clock")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use jsonwebtoken::{DecodingKey, Validation, crypto::rust_crypto};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::{task::LocalSet, time::Instant};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{AccessToken, TokenError, TokenSource},
};

use crate::{Http, http};

/// A private key, whose public key the doubles know.
pub(crate) const KEY: &str = include_str!("../../../tests/keys/rsa.pem");
/// The API of the recipes whose vendor is an issuer only.
pub(crate) const API: &str = "https://api.example.com";

/// A request as the vendor receives it.
pub(crate) struct Asked {
    pub(crate) uri: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    /// A field. Empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// A parameter of the form. Empty if it is missing.
    pub(crate) fn form(&self, name: &str) -> String {
        let decoded = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let body = String::from_utf8_lossy(&self.body);
        let mut pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.find_map(|(key, value)| (decoded(key) == name).then(|| decoded(value)));
        value.unwrap_or_default()
    }

    /// `id:secret` of HTTP Basic, as it was sent. Empty if it is missing.
    pub(crate) fn basic(&self) -> String {
        let value = self.header("authorization").strip_prefix("Basic ");
        let value = value.and_then(|value| STANDARD.decode(value).ok());
        String::from_utf8(value.unwrap_or_default()).unwrap()
    }

    /// `id:secret` of the form.
    pub(crate) fn post(&self) -> String {
        format!("{}:{}", self.form("client_id"), self.form("client_secret"))
    }
}

/// Header and claims of a JWT that [`KEY`] has signed. `None` for any other text.
pub(crate) fn verified(token: &str) -> Option<(Value, Value)> {
    // An error means that another test of this process was first.
    let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
    let key = DecodingKey::from_rsa_pem(include_bytes!("../../../tests/keys/rsa.pub")).unwrap();
    let header = jsonwebtoken::decode_header(token).ok()?;
    let mut validation = Validation::new(header.alg);
    validation.validate_aud = false;
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation)
        .ok()?
        .claims;
    // As it was sent: the type of the library lacks some members.
    let sent = URL_SAFE_NO_PAD.decode(token.split('.').next()?);
    Some((serde_json::from_slice(&sent.ok()?).ok()?, claims))
}

/// The response to a token request.
pub(crate) type Answer = (u16, Value);

/// An error of RFC 6749 §5.2.
pub(crate) fn refused(status: u16, code: &str) -> Answer {
    (status, json!({ "error": code }))
}

/// A vendor's token endpoint at its documented address. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Vendor(Arc<VendorState>);

struct VendorState {
    method: Method,
    url: &'static str,
    answer: Box<dyn Fn(&Asked) -> Answer + Send + Sync>,
    requests: AtomicUsize,
    issued: Mutex<String>,
}

impl Vendor {
    /// Expects a form in a POST, as RFC 6749 does.
    pub(crate) fn new(
        url: &'static str,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::at(Method::POST, url, move |asked| {
            match asked.header("content-type") {
                "application/x-www-form-urlencoded" => answer(asked),
                _ => refused(400, "invalid_request"),
            }
        })
    }

    /// Expects `method`.
    pub(crate) fn at(
        method: Method,
        url: &'static str,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(VendorState {
            method,
            url,
            answer: Box::new(answer),
            requests: AtomicUsize::new(0),
            issued: Mutex::default(),
        }))
    }

    /// The number of requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.0.requests.load(SeqCst)
    }

    /// A client that reaches this vendor only.
    pub(crate) fn http(&self) -> Http {
        let vendor = self.clone();
        http(service_fn(move |request| vendor.clone().respond(request)))
    }

    async fn respond(
        self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, BoxError> {
        self.0.requests.fetch_add(1, SeqCst);
        let (head, body) = request.into_parts();
        let asked = Asked {
            uri: head.uri.to_string(),
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        };
        let (status, body) = match asked.uri == self.0.url && head.method == self.0.method {
            true => (self.0.answer)(&asked),
            false => (404, json!({})),
        };
        for name in ["access_token", "token"] {
            if let Some(token) = body[name].as_str() {
                *self.0.issued.lock().unwrap() = token.to_owned();
            }
        }
        let response = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, "application/json");
        Ok(response.body(body.to_string().into())?)
    }

    /// Sends three requests to an API with tokens of `endpoint`, which sends its requests to this vendor. One token request
    /// must be enough. Returns the token.
    pub(crate) async fn serves(&self, endpoint: TokenEndpoint) -> AccessToken {
        self.serves_source(endpoint.service(self.http())).await
    }

    /// Does the same with a source that reaches this vendor by itself.
    pub(crate) async fn serves_source(&self, source: impl TokenSource) -> AccessToken {
        let layer = ClientCredentialsLayer::builder(source, API.parse().unwrap()).build();
        self.serves_layer(&layer, API, ("authorization", "Bearer "))
            .await
    }

    /// Does the same with a layer, an API and a field for the token.
    pub(crate) async fn serves_layer(
        &self,
        layer: &ClientCredentialsLayer,
        api: &str,
        (field, scheme): (&'static str, &'static str),
    ) -> AccessToken {
        let vendor = self.clone();
        let client = layer.layer(service_fn(move |request: Request<Empty<Bytes>>| {
            let expected = format!("{scheme}{}", vendor.0.issued.lock().unwrap());
            let accepted = request
                .headers()
                .get(field)
                .is_some_and(|sent| *sent == expected);
            let mut response = Response::new(Empty::<Bytes>::new());
            if !accepted {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            async { Ok::<_, BoxError>(response) }
        }));
        let before = self.requests();
        for _ in 0..3 {
            let request = Request::get(api).body(Empty::new()).unwrap();
            let response = client.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
        assert_eq!(self.requests() - before, 1, "token requests");
        layer.handle().token().await.unwrap()
    }

    /// The error with which this vendor refuses the requests of `endpoint`.
    pub(crate) async fn refuses(&self, endpoint: TokenEndpoint) -> TokenError {
        let endpoint = endpoint.service(self.http());
        let layer = ClientCredentialsLayer::builder(endpoint, API.parse().unwrap()).build();
        layer.handle().token().await.unwrap_err()
    }

    /// The OAuth error code of [`refuses`](Self::refuses).
    pub(crate) async fn refuses_with(&self, endpoint: TokenEndpoint) -> String {
        let error = self.refuses(endpoint).await;
        error.oauth_error().unwrap_or_default().to_owned()
    }
}

/// An endpoint at the same address without any of the recipe's settings.
pub(crate) fn plain(vendor: &Vendor, auth: ClientAuth) -> TokenEndpoint {
    TokenEndpoint::new(vendor.0.url.parse().unwrap(), auth)
}

/// What an [`Api`] responds: a status, fields and a body.
pub(crate) struct Reply(
    pub(crate) u16,
    pub(crate) Vec<(&'static str, String)>,
    pub(crate) String,
);

/// An API with limits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<ApiState>);

struct ApiState {
    began: Instant,
    rejected: AtomicUsize,
    reply: Box<Respond>,
}

/// Makes the response to a request at a time.
type Respond = dyn Fn(&Parts, Duration) -> Reply + Send + Sync;

impl Api {
    /// `reply` gets the head of a request, and the time since the start of the test.
    pub(crate) fn new(reply: impl Fn(&Parts, Duration) -> Reply + Send + Sync + 'static) -> Self {
        Self(Arc::new(ApiState {
            began: Instant::now(),
            rejected: AtomicUsize::new(0),
            reply: Box::new(reply),
        }))
    }

    /// How many requests were rejected.
    pub(crate) fn rejected(&self) -> usize {
        self.0.rejected.load(SeqCst)
    }

    /// The time since the start of the test.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// A client that reaches this API.
    fn http(&self) -> Http {
        let api = self.clone();
        http(service_fn(move |request| api.clone().respond(request)))
    }

    async fn respond(
        self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, BoxError> {
        let now = self.elapsed();
        let (head, _) = request.into_parts();
        let Reply(status, fields, body) = (self.0.reply)(&head, now);
        if status >= 400 || body.contains("THROTTLED") {
            self.0.rejected.fetch_add(1, SeqCst);
        }
        let mut response = Response::builder()
            .status(status)
            .header(header::DATE, httpdate::fmt_http_date(date(now)))
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in fields {
            response = response.header(name, value);
        }
        tokio::time::sleep(LATENCY).await;
        Ok(response.body(body.into())?)
    }

    /// Sends all requests at the same time through `layer`. Returns their status codes; 0 stands for an error of
    /// the layer, such as a wait that is too long.
    pub(crate) async fn send<L, B>(
        &self,
        layer: &L,
        requests: impl IntoIterator<Item = Request<Full<Bytes>>>,
    ) -> Vec<u16>
    where
        L: Layer<Http>,
        L::Service: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + 'static,
        B: Body<Error: std::fmt::Debug> + 'static,
    {
        let client = layer.layer(self.http());
        let tasks = LocalSet::new();
        let spawn = |request| {
            let call = client.clone().oneshot(request);
            tasks.spawn_local(async {
                let Ok(response) = call.await else {
                    return 0;
                };
                let status = response.status().as_u16();
                // The end of the body reports what the request has cost.
                response.into_body().collect().await.unwrap();
                status
            })
        };
        let sent: Vec<_> = requests.into_iter().map(spawn).collect();
        tasks.await;
        let mut statuses = Vec::new();
        for sent in sent {
            statuses.push(sent.await.unwrap());
        }
        statuses
    }
}

/// The vendor's clock at `now`.
pub(crate) fn date(now: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_083_200) + now
}

/// A request to the path of an API.
pub(crate) fn request(method: Method, url: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(url);
    request.body(Full::default()).unwrap()
}

/// `count` requests with GET.
pub(crate) fn gets(url: &str, count: usize) -> impl Iterator<Item = Request<Full<Bytes>>> {
    (0..count).map(move |_| request(Method::GET, url))
}

/// What is left of a quota after a request.
pub(crate) struct Left {
    pub(crate) accepted: bool,
    pub(crate) remaining: u64,
    /// Time until the quota is full again.
    pub(crate) reset: Duration,
}

/// A quota that is full again at fixed times.
pub(crate) struct Window {
    limit: u64,
    period: Duration,
    /// Number of the window, and what is used of it.
    state: Mutex<(u128, u64)>,
}

impl Window {
    /// `used`: what other clients have used of the first window.
    pub(crate) fn new(limit: u64, period: Duration, used: u64) -> Self {
        Self {
            limit,
            period,
            state: Mutex::new((0, used)),
        }
    }

    /// Charges a request at `now`.
    pub(crate) fn charge(&self, now: Duration, cost: u64) -> Left {
        let mut state = self.state.lock().unwrap();
        let number = now.as_nanos() / self.period.as_nanos();
        if number > state.0 {
            *state = (number, 0);
        }
        let accepted = state.1 + cost <= self.limit;
        if accepted {
            state.1 += cost;
        }
        let end = self.period * u32::try_from(number + 1).unwrap();
        Left {
            accepted,
            remaining: self.limit - state.1,
            reset: end - now,
        }
    }
}

/// A quota that refills continuously.
pub(crate) struct Bucket {
    capacity: f64,
    per_second: f64,
    /// Time of the last request, and what was left after it.
    state: Mutex<(Duration, f64)>,
}

impl Bucket {
    pub(crate) fn new(capacity: f64, per_second: f64, left: f64) -> Self {
        Self {
            capacity,
            per_second,
            state: Mutex::new((Duration::ZERO, left)),
        }
    }

    /// Charges a request at `now`.
    pub(crate) fn charge(&self, now: Duration, cost: u64) -> Left {
        let mut state = self.state.lock().unwrap();
        let refilled = (now - state.0).as_secs_f64() * self.per_second;
        *state = (now, (state.1 + refilled).min(self.capacity));
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let cost = cost as f64;
        let accepted = cost <= state.1;
        if accepted {
            state.1 -= cost;
        }
        Left {
            accepted,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small numbers"
            )]
            remaining: state.1 as u64,
            reset: Duration::from_secs_f64((self.capacity - state.1) / self.per_second),
        }
    }
}

/// Duration of every response, so that requests overlap.
const LATENCY: Duration = Duration::from_millis(20);
