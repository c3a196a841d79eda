//! Requests to both servers, and what is read from their answers.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tower::{Service, ServiceExt as _};

pub(crate) type Body = Full<Bytes>;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const POSTED: &str =
    "grant_type=client_credentials&client_id=id&client_secret=s%2Be%20c";

pub(crate) fn token_request(url: &str, body: &'static str) -> Request<Body> {
    Request::post(url)
        .header(
            header::CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=utf-8",
        )
        .body(Body::from(body))
        .unwrap()
}

pub(crate) async fn send<S, B>(service: S, request: Request<Body>) -> Response<B>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
{
    service.oneshot(request).await.unwrap()
}

pub(crate) async fn json<B>(response: Response<B>) -> Value
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

pub(crate) fn get(path: &str, token: &str) -> Request<Body> {
    Request::get(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::default())
        .unwrap()
}

pub(crate) fn number<B>(response: &Response<B>, name: &str) -> Option<u64> {
    let value = response.headers().get(name)?;
    Some(value.to_str().unwrap().parse().unwrap())
}
