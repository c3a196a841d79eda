//! A double of Didit on loopback, after its documentation: both token endpoints, registration, the application's
//! credentials, and the API with its limits.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{ServiceExt, service_fn};
use tower_m2m::{
    BoxError,
    test_util::{
        AcceptedAuth, Answer, Api, ApiBody, ApiService, Dialect, Grant, Issuer, IssuerService,
        Quota, TokenRegistry,
    },
};

use super::{Body, X_API_KEY};

/// Didit's minute, shortened. What it allows per minute is divided by ten.
const MINUTE: Duration = Duration::from_secs(2);
const READS: u32 = 30;
const WRITES: u32 = 30;
const SESSIONS: u32 = 60;

const CLIENT_ID: &str = "ZG91YmxlLW9mLWRpZGl0Cg";
const API_KEY: &str = "a-key_of.the+double/0123456789=";
const ORG: &str = "a0a0a0a0-0000-4000-8000-000000000001";
const APP: &str = "a0a0a0a0-0000-4000-8000-000000000002";
const ACCOUNT_TOKEN: &str = "the-token-of-the-account";
const CODE: &str = "D1D1T7";
const DAY: Duration = Duration::from_secs(86_400);

/// Runs as long as the runtime.
pub(crate) struct Double {
    pub(crate) auth: String,
    pub(crate) api: String,
    mailbox: Mailbox,
}

type Mailbox = Arc<Mutex<Option<&'static str>>>;

/// Who answers, by path.
#[derive(Clone)]
enum Host {
    Auth {
        tokens: IssuerService,
        registration: ApiService,
        account: ApiService,
    },
    Verification(ApiService),
}

impl Double {
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let mailbox = Mailbox::default();
        let issuer = Issuer::builder()
            .client(CLIENT_ID, API_KEY)
            .path("/auth/v2/oauth2/token")
            .accept([AcceptedAuth::Post])
            .endpoint("/auth/v2/token/", [AcceptedAuth::BasicRaw])
            .expires_in(DAY)
            .answer(Answer::custom(token_answer))
            .in_process();
        let verification = Api::builder()
            .tokens(issuer.tokens())
            .api_key(X_API_KEY, API_KEY)
            .quota_for(
                "generic-get",
                |method, _| method == Method::GET,
                minute(READS),
            )
            .quota_for(
                "generic-write",
                |method, _| method != Method::GET,
                minute(WRITES),
            )
            .quota_for(
                "session-v2-create",
                |method, path| method == Method::POST && path == "/v2/session/",
                minute(SESSIONS),
            )
            .dialect(Dialect::DiditOnlyOn429)
            .route(Method::GET, "/v2/sessions", |_| {
                answer(
                    StatusCode::OK,
                    &json!({ "count": 0, "next": null, "previous": null, "results": [] }),
                )
            })
            .route(Method::POST, "/v2/session/", |_| {
                answer(
                    StatusCode::CREATED,
                    &json!({ "session_id": APP, "status": "Not Started" }),
                )
            })
            .in_process();
        let auth = Host::Auth {
            tokens: issuer.service(),
            registration: registration(&mailbox).service(),
            account: account().service(),
        };
        Ok(Self {
            auth: serve(auth).await?,
            api: serve(Host::Verification(verification.service())).await?,
            mailbox,
        })
    }

    /// What the person reads who owns the mailbox.
    pub(crate) fn code_in_the_mailbox(&self) -> Option<String> {
        let code = *self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        code.map(str::to_owned)
    }
}

fn registration(mailbox: &Mailbox) -> Api {
    let mailbox = Arc::clone(mailbox);
    let register = move |request: &Request<Bytes>| {
        *mailbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(CODE);
        let message = "Registration successful. Check your email for the verification code.";
        let email = &read(request)["email"];
        answer(
            StatusCode::CREATED,
            &json!({ "message": message, "email": email }),
        )
    };
    let verify = |request: &Request<Bytes>| {
        if read(request)["code"] != CODE {
            return answer(
                StatusCode::BAD_REQUEST,
                &json!({ "detail": "Invalid code." }),
            );
        }
        let account = json!({
            "access_token": ACCOUNT_TOKEN,
            "refresh_token": "never used here",
            "expires_in": DAY.as_secs(),
            "organization": { "uuid": ORG, "name": "developer" },
            "application": { "uuid": APP, "name": "developer", "client_id": CLIENT_ID, "api_key": API_KEY },
        });
        answer(StatusCode::OK, &account)
    };
    Api::builder()
        .route(Method::POST, "/auth/v2/programmatic/register/", register)
        .route(Method::POST, "/auth/v2/programmatic/verify-email/", verify)
        .in_process()
}

/// Knows the account's token and no other.
fn account() -> Api {
    let book = TokenRegistry::new();
    book.insert(ACCOUNT_TOKEN, DAY);
    let path = format!("/auth/v2/organizations/me/{ORG}/applications/{APP}/");
    Api::builder()
        .tokens(book)
        .route(Method::GET, path, |_| {
            let application = json!({
                "uuid": APP, "name": "developer", "client_id": CLIENT_ID, "api_key": API_KEY,
            });
            answer(StatusCode::OK, &application)
        })
        .in_process()
}

/// No `token_type`; `iat` and `exp` are from 2021 and nine days apart, so that `expires_in` is what counts.
fn token_answer(grant: &Grant<'_>) -> String {
    json!({
        "iss": "https://didit.me",
        "iat": 1_617_220_000,
        "sub": APP,
        "client_id": grant.client_id,
        "organization_id": ORG,
        "expires_in": grant.expires_in.as_secs(),
        "exp": 1_618_084_000,
        "access_token": grant.access_token,
    })
    .to_string()
}

impl Host {
    async fn answer<B>(self, request: Request<B>) -> Result<Response<Body>, BoxError>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(Into::into)?.to_bytes();
        let by_key = parts.headers.contains_key(X_API_KEY);
        let path = parts.uri.path().to_owned();
        let request = Request::from_parts(parts, Body::new(body));
        match self {
            Self::Auth { registration, .. } if path.starts_with("/auth/v2/programmatic/") => {
                whole(registration.oneshot(request).await?).await
            }
            Self::Auth { account, .. } if path.starts_with("/auth/v2/organizations/") => {
                whole(account.oneshot(request).await?).await
            }
            Self::Auth { tokens, .. } => tokens.oneshot(request).await,
            Self::Verification(api) => {
                let response = api.oneshot(request).await?;
                if by_key && response.status() == StatusCode::UNAUTHORIZED {
                    let detail = "You do not have permission to perform this action.";
                    return Ok(answer(StatusCode::FORBIDDEN, &json!({ "detail": detail })));
                }
                whole(response).await
            }
        }
    }
}

/// A response with its whole body.
async fn whole(response: Response<ApiBody>) -> Result<Response<Body>, BoxError> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(parts, Body::new(body)))
}

async fn serve(host: Host) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let host = host.clone();
            tokio::spawn(async move {
                let service = TowerToHyperService::new(service_fn(move |request| {
                    host.clone().answer(request)
                }));
                // An error here is the peer's.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(origin)
}

fn minute(limit: u32) -> Quota {
    Quota::sliding_window(limit, MINUTE)
}

fn read(request: &Request<Bytes>) -> Value {
    serde_json::from_slice(request.body()).unwrap_or_default()
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
