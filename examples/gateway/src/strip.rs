//! What is not passed on: credentials of the caller's, and what concerns one connection only.

use axum::body::Body;
use http::{
    HeaderMap, HeaderName, Method, Request, Response, Uri, Version,
    header::{
        AUTHORIZATION, CONNECTION, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
        SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
    },
};
use http_body::Body as _;
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;

/// Where a tenant's requests go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Scheme and authority, such as `https://api.example.com`.
    pub(crate) origin: String,
    /// The header that our credential is put into.
    pub(crate) placement: HeaderName,
}

/// The request as it goes to the upstream; `None` if it is not one that can be passed on.
pub(crate) fn request(request: Request<Body>, target: &Target) -> Option<Request<Body>> {
    let (mut head, body) = request.into_parts();
    if [Method::CONNECT, Method::TRACE].contains(&head.method) || !head.uri.path().starts_with('/')
    {
        return None;
    }
    let mut uri = format!("{}{}", target.origin, head.uri.path());
    if let Some(query) = head.uri.query().and_then(without_token) {
        uri.push('?');
        uri.push_str(&query);
    }
    remove_hop_by_hop(&mut head.headers);
    remove_credentials(&mut head.headers, &target.placement);
    for name in [EXPECT, HOST] {
        head.headers.remove(name);
    }
    let body = if body.is_end_stream() {
        Body::empty()
    } else {
        let placement = target.placement.clone();
        Body::new(body.map_frame(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                remove_credentials(trailers, &placement);
            }
            frame
        }))
    };
    // Of the rest of the head nothing is passed on: extensions belong to the caller's connection.
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = uri.parse::<Uri>().ok()?;
    *request.headers_mut() = head.headers;
    Some(request)
}

/// The response as it goes to the caller. Challenges and cookies are about our credential, not about the caller's.
pub(crate) fn response<B>(response: Response<B>) -> Response<B> {
    let (mut head, body) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    for name in [WWW_AUTHENTICATE, SET_COOKIE, AUTHENTICATION_INFO] {
        head.headers.remove(name);
    }
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    *response.version_mut() = Version::HTTP_11;
    response
}

fn remove_credentials(headers: &mut HeaderMap, placement: &HeaderName) {
    for name in [&AUTHORIZATION, &PROXY_AUTHORIZATION, &COOKIE, placement] {
        headers.remove(name);
    }
}

/// RFC 9110 §7.6.1: the fields that `Connection` names, and those that are known.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let known = [
        CONNECTION,
        HTTP2_SETTINGS,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in named.into_iter().chain(known) {
        headers.remove(name);
    }
}

/// The query without `access_token` (RFC 6750 §2.3), however it is encoded; `None` if nothing is left.
fn without_token(query: &str) -> Option<String> {
    let kept: Vec<_> = query
        .split('&')
        // Some servers take a semicolon for an ampersand.
        .filter(|pair| !pair.split(';').any(is_token))
        .collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

fn is_token(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    percent_decode_str(name).eq(b"access_token".iter().copied())
}

const AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("authentication-info");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    #[test]
    fn a_token_in_the_query_is_removed_however_it_is_encoded() {
        for (query, left) in [
            ("a=1&b=2", Some("a=1&b=2")),
            ("access_token=x", None),
            ("a=1&access_token=x&b=2", Some("a=1&b=2")),
            ("access%5Ftoken=x&a", Some("a")),
            ("%61ccess_token&a", Some("a")),
            ("b;access_token=x&a", Some("a")),
            ("my_access_token=x", Some("my_access_token=x")),
            ("a=access_token", Some("a=access_token")),
        ] {
            assert_eq!(without_token(query).as_deref(), left, "{query}");
        }
    }

    #[test]
    fn what_is_no_request_to_a_path_is_not_passed_on() {
        let target = Target {
            origin: "https://api.example.com".into(),
            placement: AUTHORIZATION,
        };
        for (method, uri) in [
            (Method::CONNECT, "other.example:443"),
            (Method::TRACE, "/"),
            (Method::OPTIONS, "*"),
        ] {
            let mut refused = Request::new(Body::empty());
            *refused.method_mut() = method;
            *refused.uri_mut() = uri.parse().unwrap();

            assert!(request(refused, &target).is_none(), "{uri}");
        }
    }

    #[tokio::test]
    async fn credentials_in_trailers_are_not_passed_on() {
        let fields = ["authorization", "cookie", "x-api-key", "x-checksum"];
        let fields = fields.map(|name| (name.parse().unwrap(), "canary".parse().unwrap()));
        let trailers = HeaderMap::from_iter(fields);
        let body = Full::<Bytes>::from("data").with_trailers(async { Some(Ok(trailers)) });
        let target = Target {
            origin: "https://api.example.com".into(),
            placement: HeaderName::from_static("x-api-key"),
        };
        let incoming = Request::post("/").body(Body::new(body)).unwrap();

        let outgoing = request(incoming, &target).unwrap().into_body();

        let all = outgoing.collect().await.unwrap();
        let names: Vec<_> = all.trailers().unwrap().keys().collect();
        assert_eq!(names, ["x-checksum"]);
    }

    #[test]
    fn a_path_cannot_change_where_the_request_goes() {
        let target = Target {
            origin: "https://api.example.com".into(),
            placement: AUTHORIZATION,
        };
        for path in ["//evil.example/", "/@evil.example", "/..//evil.example"] {
            let incoming = Request::get(path).body(Body::empty()).unwrap();

            let outgoing = request(incoming, &target).unwrap();

            assert_eq!(outgoing.uri().host(), Some("api.example.com"), "{path}");
        }
    }
}
