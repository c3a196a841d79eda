//! One request of a client.

use std::{future::poll_fn, str::FromStr};

use bytes::Bytes;
use http::{
    Extensions, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_TYPE, USER_AGENT},
    uri::PathAndQuery,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tower_service::Service;

use super::{Client, ClientError, ClientErrorKind, RequestBody, Response};
use crate::BoxError;

/// A request that is being built. Mistakes are reported by [`send`](Self::send).
///
/// # Examples
///
/// ```no_run
/// use tower_m2m::{Client, client::ClientError};
///
/// # async fn example(client: Client) -> Result<(), ClientError> {
/// let response = client
///     .post("https://api.example.com/orders")
///     .header("idempotency-key", "order-17")
///     .json(&[("article", 17)])
///     .send()
///     .await?;
/// println!("{}", response.status());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a request is sent by `send`"]
pub struct RequestBuilder {
    /// What sends it.
    client: Client,
    /// Method and URL, for errors.
    name: String,
    /// The request, or the first mistake.
    request: Result<Request<RequestBody>, BoxError>,
}

impl RequestBuilder {
    /// Starts a request.
    pub(super) fn new(client: Client, method: Method, url: &str) -> Self {
        let uri = Uri::from_str(url).map_err(BoxError::from);
        let uri = uri.and_then(|uri| match (uri.scheme(), uri.authority()) {
            (Some(_), Some(_)) => Ok(uri),
            _ => Err("the URL has no scheme and host".into()),
        });
        // Neither a password nor a key in a query belongs into an error.
        let shown = uri.as_ref().map_or_else(
            |_| "a wrong URL".to_owned(),
            |uri| {
                let host = uri.host().unwrap_or_default();
                let port = uri.port().map(|port| format!(":{port}"));
                let scheme = uri.scheme_str().unwrap_or_default();
                format!(
                    "{scheme}://{host}{}{}",
                    port.unwrap_or_default(),
                    uri.path()
                )
            },
        );
        let name = format!("{method} {shown}");
        let request = uri.map(|uri| {
            let mut request = Request::new(RequestBody::empty());
            (*request.method_mut(), *request.uri_mut()) = (method, uri);
            request.headers_mut().insert(USER_AGENT, OWN_USER_AGENT);
            request
        });
        Self {
            client,
            name,
            request,
        }
    }

    /// Changes the request, if there is no mistake so far.
    fn change(
        mut self,
        change: impl FnOnce(&mut Request<RequestBody>) -> Result<(), BoxError>,
    ) -> Self {
        if let Ok(request) = &mut self.request
            && let Err(error) = change(request)
        {
            self.request = Err(error);
        }
        self
    }

    /// Sets a header. Replaces an earlier value, and the default `User-Agent`.
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.change(|request| {
            let name = HeaderName::from_str(name.as_ref())?;
            let value = HeaderValue::from_str(value.as_ref())?;
            request.headers_mut().insert(name, value);
            Ok(())
        })
    }

    /// Adds parameters to the query of the URL, percent-encoded (RFC 3986 §2.1).
    pub fn query<N, V>(self, parameters: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        self.change(|request| {
            let mut parts = request.uri().clone().into_parts();
            let known = parts.path_and_query.as_ref();
            let mut path = known.map_or_else(|| "/".to_owned(), ToString::to_string);
            for (name, value) in parameters {
                path.push(if path.contains('?') { '&' } else { '?' });
                path.extend(utf8_percent_encode(name.as_ref(), ENCODED));
                path.push('=');
                path.extend(utf8_percent_encode(value.as_ref(), ENCODED));
            }
            parts.path_and_query = Some(PathAndQuery::try_from(path)?);
            *request.uri_mut() = Uri::from_parts(parts)?;
            Ok(())
        })
    }

    /// Sets the body to JSON, and `Content-Type` unless it is set already.
    pub fn json<T: Serialize + ?Sized>(self, body: &T) -> Self {
        self.change(|request| {
            let json = serde_json::to_vec(body)?;
            request
                .headers_mut()
                .entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/json"));
            *request.body_mut() = Bytes::from(json).into();
            Ok(())
        })
    }

    /// Sets the body: bytes, text, or a [stream](RequestBody::stream).
    pub fn body(self, body: impl Into<RequestBody>) -> Self {
        self.change(|request| {
            *request.body_mut() = body.into();
            Ok(())
        })
    }

    /// Adds an extension for the layers, such as a
    /// [`TokenScope`](crate::client_credentials::TokenScope).
    pub fn extension<T: Clone + Send + Sync + 'static>(self, extension: T) -> Self {
        self.change(|request| {
            let extensions: &mut Extensions = request.extensions_mut();
            extensions.insert(extension);
            Ok(())
        })
    }

    /// Sends the request. Waits for a token and for its quota, and repeats it as the layers do.
    ///
    /// # Errors
    ///
    /// A mistake of the request; no token; no quota in time; a failure of the connection. A response with any status is
    /// no error: see [`Response::error_for_status`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not have been processed.
    pub async fn send(self) -> Result<Response, ClientError> {
        let name = self.name;
        let request = match self.request {
            Ok(request) => request,
            Err(error) => {
                return Err(ClientError::new(
                    ClientErrorKind::Request,
                    name,
                    Some(error),
                ));
            }
        };
        let mut service = self.client.service;
        let sent = async {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(request).await
        };
        match sent.await {
            Ok(response) => Ok(Response::new(name, response)),
            Err(error) => Err(ClientError::from_layers(name, error)),
        }
    }
}

/// Characters that are encoded in a query: all but the unreserved ones (RFC 3986 §2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The value of `User-Agent`, which some APIs require.
const OWN_USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tower-m2m/", env!("CARGO_PKG_VERSION")));
