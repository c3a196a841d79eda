//! What is not passed on: credentials of the caller's, and what concerns one connection only.

use std::sync::Arc;

use axum::body::Body;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version,
    header::{
        ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST,
        PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE, WWW_AUTHENTICATE,
    },
};
use http_body::Body as _;
use percent_encoding::percent_decode_str;
use tower_m2m::Origin;

use crate::{
    body::{CallerBody, Upload},
    location, via,
};

/// Where a tenant's requests go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) origin: Origin,
    /// The header that our credential is put into.
    pub(crate) placement: HeaderName,
}

/// The request for the upstream; `None` if it must not be forwarded. `upload` observes its body.
pub(crate) fn request(
    request: Request<Body>,
    target: &Target,
    upload: &Arc<Upload>,
) -> Option<Request<Body>> {
    let (mut head, body) = request.into_parts();
    if [Method::CONNECT, Method::TRACE].contains(&head.method) || !head.uri.path().starts_with('/')
    {
        return None;
    }
    if has_other_coding(&head.headers) {
        return None;
    }
    let mut uri = format!("{}{}", target.origin, head.uri.path());
    if let Some(query) = head.uri.query().and_then(without_token) {
        uri.push('?');
        uri.push_str(&query);
    }
    let takes_trailers = takes_trailers(head.version, &head.headers);
    remove_hop_by_hop(&mut head.headers);
    remove_credentials(&mut head.headers, &target.placement);
    for name in [EXPECT, HOST] {
        head.headers.remove(name);
    }
    let placement = target.placement.clone();
    keep_trailer_names(&mut head.headers, |name| {
        is_hop_by_hop(name) || is_credential(name, &placement)
    });
    via::add(&mut head.headers, head.version);
    if takes_trailers {
        ask_for_trailers(&mut head.headers, target.origin.is_https());
    }
    let body = if body.is_end_stream() {
        Body::empty()
    } else {
        Body::new(CallerBody::new(
            body,
            Arc::clone(upload),
            move |trailers: &mut HeaderMap| {
                remove_hop_by_hop(trailers);
                remove_credentials(trailers, &placement);
            },
        ))
    };
    // Of the rest of the head nothing is passed on: extensions belong to the caller's connection.
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = uri.parse::<Uri>().ok()?;
    *request.headers_mut() = head.headers;
    Some(request)
}

/// The response for the caller, without challenges and cookies, which concern the gateway's credential.
pub(crate) fn response<B>(response: Response<B>, target: &Target) -> Response<B> {
    let (mut head, body) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    remove_private(&mut head.headers);
    keep_trailer_names(&mut head.headers, |name| {
        is_hop_by_hop(name) || PRIVATE.contains(name)
    });
    location::rewrite(&mut head.headers, &target.origin);
    via::add(&mut head.headers, head.version);
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    *response.version_mut() = Version::HTTP_11;
    response
}

/// The same for a response's trailers.
pub(crate) fn response_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    remove_private(trailers);
}

fn remove_private(headers: &mut HeaderMap) {
    for name in &PRIVATE {
        headers.remove(name);
    }
}

fn remove_credentials(headers: &mut HeaderMap, placement: &HeaderName) {
    for name in CREDENTIALS.iter().chain([placement]) {
        headers.remove(name);
    }
}

fn is_credential(name: &HeaderName, placement: &HeaderName) -> bool {
    name == placement || CREDENTIALS.contains(name)
}

/// RFC 9110 §7.6.1: the fields that `Connection` names, and those that are known.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = options(headers)
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    // RFC 9112 §6.3: of two lengths, that of the transfer coding counts.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Whether the body has a transfer coding besides `chunked`, which is the only one that is undone on the way.
pub(crate) fn has_other_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |value: &HeaderValue| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    };
    codings.next().is_some_and(|coding| !chunked(coding)) || codings.next().is_some()
}

/// What `Connection` names; what is not a name does not hide the others.
fn options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(CONNECTION).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether the sender takes trailers (RFC 9110 §10.1.4): in HTTP/1.1, `Connection` must name `TE`.
fn takes_trailers(version: Version, headers: &HeaderMap) -> bool {
    let mut wanted = headers.get_all(TE).iter().filter_map(|te| te.to_str().ok());
    let wanted = wanted.any(|te| {
        te.split(',')
            .any(|te| te.trim().eq_ignore_ascii_case("trailers"))
    });
    let binding = version == Version::HTTP_2
        || options(headers).any(|option| option.eq_ignore_ascii_case(b"te"));
    wanted && binding
}

fn ask_for_trailers(headers: &mut HeaderMap, may_be_http2: bool) {
    headers.insert(TE, HeaderValue::from_static("trailers"));
    // HTTP/2 has no `Connection`, and hyper would remove what it names.
    if !may_be_http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// `Trailer` without the fields that are removed from the trailers.
fn keep_trailer_names(headers: &mut HeaderMap, removed: impl Fn(&HeaderName) -> bool) {
    if !headers.contains_key(TRAILER) {
        return;
    }
    let names: Vec<HeaderName> = headers
        .get_all(TRAILER)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !removed(name))
        .collect();
    headers.remove(TRAILER);
    let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
    if let (false, Ok(value)) = (names.is_empty(), HeaderValue::try_from(names.join(", "))) {
        headers.insert(TRAILER, value);
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

/// The caller's own credentials.
const CREDENTIALS: [HeaderName; 4] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("cookie2"),
];

/// What an upstream says about our credential, or about its own origin.
const PRIVATE: [HeaderName; 5] = [
    WWW_AUTHENTICATE,
    SET_COOKIE,
    HeaderName::from_static("set-cookie2"),
    HeaderName::from_static("authentication-info"),
    ALT_SVC,
];

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

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
    fn only_requests_in_origin_form_are_forwarded() {
        let target = Target {
            origin: "https://api.example.com".parse().unwrap(),
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

            assert!(
                request(refused, &target, &Arc::default()).is_none(),
                "{uri}"
            );
        }
    }

    #[tokio::test]
    async fn credentials_in_trailers_are_not_forwarded() {
        let fields = ["authorization", "cookie", "x-api-key", "x-checksum"];
        let fields = fields.map(|name| (name.parse().unwrap(), "canary".parse().unwrap()));
        let trailers = HeaderMap::from_iter(fields);
        let body = Full::<Bytes>::from("data").with_trailers(async { Some(Ok(trailers)) });
        let target = Target {
            origin: "https://api.example.com".parse().unwrap(),
            placement: HeaderName::from_static("x-api-key"),
        };
        let incoming = Request::post("/").body(Body::new(body)).unwrap();

        let outgoing = request(incoming, &target, &Arc::default())
            .unwrap()
            .into_body();

        let all = outgoing.collect().await.unwrap();
        let names: Vec<_> = all.trailers().unwrap().keys().collect();
        assert_eq!(names, ["x-checksum"]);
    }

    #[test]
    fn a_path_cannot_change_where_the_request_goes() {
        let target = Target {
            origin: "https://api.example.com".parse().unwrap(),
            placement: AUTHORIZATION,
        };
        for path in ["//evil.example/", "/@evil.example", "/..//evil.example"] {
            let incoming = Request::get(path).body(Body::empty()).unwrap();

            let outgoing = request(incoming, &target, &Arc::default()).unwrap();

            assert_eq!(outgoing.uri().host(), Some("api.example.com"), "{path}");
        }
    }

    #[test]
    fn headers_named_by_connection_are_removed_and_invalid_names_ignored() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"x-priv, \xff, keep-alive ,,x-too").unwrap();
        headers.insert(CONNECTION, value);
        for name in ["x-priv", "x-too", "x-kept"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }

        remove_hop_by_hop(&mut headers);

        let names: Vec<_> = headers.keys().collect();
        assert_eq!(names, ["x-kept"]);
    }

    #[test]
    fn the_trailer_header_lists_only_forwarded_trailers() {
        let mut headers = HeaderMap::new();
        headers.insert(TRAILER, HeaderValue::from_static("x-sum, Set-Cookie"));
        headers.append(TRAILER, HeaderValue::from_static("x-more"));

        keep_trailer_names(&mut headers, |name| PRIVATE.contains(name));
        assert_eq!(headers[TRAILER], "x-sum, x-more");
        keep_trailer_names(&mut headers, |_| true);

        assert!(headers.is_empty());
    }

    #[test]
    fn te_trailers_is_sent_if_the_caller_accepts_trailers() {
        for (version, connection, te, takes) in [
            (Version::HTTP_11, "TE", "trailers", true),
            (
                Version::HTTP_11,
                "close, te",
                "deflate;q=0.5, trailers",
                true,
            ),
            (Version::HTTP_11, "close", "trailers", false),
            (Version::HTTP_11, "te", "deflate", false),
            (Version::HTTP_2, "", "trailers", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert(TE, HeaderValue::from_static(te));

            assert_eq!(
                takes_trailers(version, &headers),
                takes,
                "{connection} {te}"
            );
        }
    }
}
