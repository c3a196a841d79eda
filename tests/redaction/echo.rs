//! A token endpoint that repeats what it was sent: in which form, and where.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{service_fn, util::BoxCloneSyncService};
use tower_m2m::BoxError;

use super::{
    search::{SHORT_TOKEN, TOKEN, percent, percent_lower},
    support::{Body, status_only},
};

pub(crate) type Answer = fn(&str) -> Response<Body>;

/// How a server may repeat a secret.
pub(crate) const ECHOES: [fn(&RecordedRequest, &str) -> String; 8] = [
    |_, secret| secret.to_owned(),
    |_, secret| format!("the secret {secret} is wrong"),
    |_, secret| percent(secret),
    |_, secret| percent_lower(secret),
    |_, secret| STANDARD.encode(secret),
    |_, secret| URL_SAFE_NO_PAD.encode(secret),
    |asked, _| asked.authorization.clone(),
    |asked, _| asked.form.clone(),
];

/// Where it may repeat it.
pub(crate) const ANSWERS: [(&str, Answer); 19] = [
    ("error_description", |echo| {
        json(
            401,
            &json!({ "error": "invalid_client", "error_description": echo }),
        )
    }),
    ("error", |echo| json(400, &json!({ "error": echo }))),
    ("error of a success", |echo| {
        json(200, &json!({ "error": echo }))
    }),
    ("error in words", |echo| {
        json(400, &json!({ "error": format!("not found: {echo}!") }))
    }),
    ("message", |echo| json(403, &json!({ "message": echo }))),
    ("detail", |echo| json(400, &json!({ "detail": echo }))),
    ("description of a 500", |echo| {
        json(
            500,
            &json!({ "error": "server_error", "error_description": echo }),
        )
    }),
    ("description of a 429", |echo| {
        json(
            429,
            &json!({ "error": "slow_down", "error_description": echo }),
        )
    }),
    ("token_type", |echo| {
        json(200, &json!({ "access_token": TOKEN, "token_type": echo }))
    }),
    ("token_type and token", |_| {
        json(200, &json!({ "access_token": TOKEN, "token_type": TOKEN }))
    }),
    ("token_type and short token", |_| {
        json(
            200,
            &json!({ "access_token": SHORT_TOKEN, "token_type": SHORT_TOKEN }),
        )
    }),
    ("token in a refusal", |_| {
        json(
            200,
            &json!({ "access_token": SHORT_TOKEN, "error": SHORT_TOKEN, "message": SHORT_TOKEN }),
        )
    }),
    ("lifetime", |echo| {
        json(
            200,
            &json!({ "access_token": 5, "expires_in": echo, "scope": [5, echo] }),
        )
    }),
    ("page of a refusal", |echo| page(401, echo)),
    ("page of a success", |echo| page(200, echo)),
    ("page of a failure", |echo| page(502, echo)),
    ("form", |echo| {
        response(
            400,
            format!("error=invalid_client&error_description={echo}"),
        )
    }),
    ("place of a redirect", |echo| {
        let mut response = response(307, String::new());
        let place = format!("https://elsewhere.example/login/{echo}?secret={echo}");
        if let Ok(place) = HeaderValue::try_from(place) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        response
    }),
    ("headers", |echo| {
        let mut response = json(401, &json!({ "error": "invalid_client" }));
        for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER, header::DATE] {
            if let Ok(value) = HeaderValue::try_from(format!("Bearer error=\"{echo}\"")) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }),
];

/// What a token request held.
pub(crate) struct RecordedRequest {
    pub(crate) authorization: String,
    pub(crate) form: String,
}

pub(crate) fn server(
    answer: impl Fn(&RecordedRequest) -> Response<Body> + Clone + Send + Sync + 'static,
) -> BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, BoxError> {
    BoxCloneSyncService::new(service_fn(move |request: Request<Full<Bytes>>| {
        let answer = answer.clone();
        async move {
            let (parts, body) = request.into_parts();
            let authorization = parts.headers.get(header::AUTHORIZATION);
            let authorization = authorization.map_or("", |value| value.to_str().unwrap());
            let form = body.collect().await?.to_bytes();
            Ok::<_, BoxError>(answer(&RecordedRequest {
                authorization: authorization.to_owned(),
                form: String::from_utf8(form.to_vec())?,
            }))
        }
    }))
}

pub(crate) fn json(status: u16, value: &Value) -> Response<Body> {
    response(status, value.to_string())
}

pub(crate) fn page(status: u16, echo: &str) -> Response<Body> {
    response(status, format!("<html><title>{echo}</title>{echo}</html>"))
}

fn response(status: u16, body: String) -> Response<Body> {
    let mut response = status_only(status.try_into().unwrap());
    *response.body_mut() = body.into();
    response
}
