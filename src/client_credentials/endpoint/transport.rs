//! The HTTP service that sends token requests: the default https client or a service of the user.
//!
//! All bodies are read to the end, within a limit: a response is a small JSON document, and its connection can then be
//! reused.
//!
//! The erased form is a closure that clones the service for each request. So an endpoint is `Sync` without a lock, and
//! the type of the service does not appear in the types of the endpoint and of the layer.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower_service::Service;
use zeroize::Zeroizing;

use crate::{
    BoxError,
    client_credentials::{CertificateThumbprint, TokenError, TokenErrorKind},
};

/// Transport for the requests of one fetch.
///
/// Created for each fetch, so that all its attempts use the same client and certificate.
pub(super) struct ReadyClient {
    /// The transport.
    pub(super) transport: Transport,
    /// Why an earlier certificate is in use, if the current one could not be read.
    pub(super) stale_reason: Option<TokenError>,
    /// Thumbprint of the certificate that it presents, if it is known.
    pub(super) certificate: Option<CertificateThumbprint>,
}

impl From<Transport> for ReadyClient {
    fn from(transport: Transport) -> Self {
        Self {
            transport,
            stale_reason: None,
            certificate: None,
        }
    }
}

/// The certificate that a client presents.
///
/// Only [`Known`](Self::Known) certificates make a certificate-bound token shareable.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Certificate {
    /// No certificate.
    None,
    /// The certificate with this thumbprint.
    #[cfg_attr(not(feature = "https"), expect(dead_code))]
    Known(CertificateThumbprint),
    /// Possibly one, which only the HTTP client knows.
    Unknown,
}

/// A response, with its body read to the end.
///
/// Trailers are not kept. The headers are those of the final response; informational ones are the client's concern.
pub(super) struct HttpResponse {
    /// Status of the response.
    pub(super) status: StatusCode,
    /// Headers of the response.
    pub(super) headers: HeaderMap,
    /// Body of the response, zeroized on drop because it contains a token.
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// A boxed future with a response.
type HttpFuture = Pin<Box<dyn Future<Output = Result<HttpResponse, TokenError>> + Send>>;

/// A type-erased service. It is cloned for each request.
///
/// Cheap to clone. Readiness is awaited within each request, so that a service with a limit delays only the fetch.
#[derive(Clone)]
pub(super) struct Transport(
    Arc<dyn Fn(Request<Full<Bytes>>, ReadBody) -> HttpFuture + Send + Sync>,
);

/// Whether the body of a response is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ReadBody {
    /// It is read to the end.
    Yes,
    /// It is dropped.
    No,
}

impl Transport {
    /// Erases the type of `service`.
    pub(super) fn new<S, RB>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: Body + Send + 'static,
        RB::Data: Send,
        RB::Error: Into<BoxError>,
    {
        Self(Arc::new(move |request, read| {
            Box::pin(round_trip(service.clone(), request, read))
        }))
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    ///
    /// A transient error, if the connection fails, or the body ends early or exceeds the limit; a permanent one, if a
    /// certificate is the cause.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request, and with HTTP/1.1 its connection. The server may have processed it.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<HttpResponse, TokenError> {
        (self.0)(request, ReadBody::Yes).await
    }

    /// Sends a request and drops the body of the response, which may be endless. The result has an empty body.
    ///
    /// # Errors
    ///
    /// A transient error, if the connection fails; a permanent one, if a certificate is the cause.
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send).
    pub(super) async fn send_for_headers(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<HttpResponse, TokenError> {
        (self.0)(request, ReadBody::No).await
    }
}

/// Sends a request through `service` and reads the whole response, or only its head.
///
/// Has no time limit: the caller's deadline drops the future.
///
/// # Errors
///
/// As for [`Transport::send`].
async fn round_trip<S, RB>(
    service: S,
    request: Request<Full<Bytes>>,
    read: ReadBody,
) -> Result<HttpResponse, TokenError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    // Determines which mistakes an error may suggest: TLS on a plain port, or the reverse.
    let https = request.uri().scheme_str() != Some("http");
    let response = service
        .oneshot(request)
        .await
        .map_err(|error| broken("could not be sent, or the connection broke", error, https))?;
    let (parts, body) = response.into_parts();
    Ok(HttpResponse {
        status: parts.status,
        headers: parts.headers,
        body: match read {
            ReadBody::Yes => read_to_end(body, https).await?,
            ReadBody::No => Zeroizing::default(),
        },
    })
}

/// Reads a body of at most [`MAX_RESPONSE_BYTES`] bytes.
///
/// A body with a `Content-Length` beyond the limit is read up to the limit all the same: the header may be wrong.
async fn read_to_end<RB>(body: RB, https: bool) -> Result<Zeroizing<Vec<u8>>, TokenError>
where
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    // Enough for a usual response, so that most are read without a reallocation.
    let mut read = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            broken(
                "received a truncated response: the connection broke before the body ended",
                error,
                https,
            )
        })?;
        // Trailers are ignored.
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        while bytes::Buf::has_remaining(&data) {
            let chunk = bytes::Buf::chunk(&data);
            // Checked before the chunk is copied, so that the buffer never exceeds the limit.
            if read.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(TokenError::new(
                    TokenErrorKind::InvalidResponse,
                    true,
                    "returned more than 1 MiB; check the token endpoint's URL",
                ));
            }
            append(&mut read, chunk);
            let length = chunk.len();
            bytes::Buf::advance(&mut data, length);
        }
    }
    Ok(read)
}

/// Appends `chunk`. Reallocates explicitly, so that the previous buffer is zeroized.
///
/// Doubles the capacity, so that the copies are linear in the length of the body.
fn append(buffer: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    if buffer.capacity() - buffer.len() < chunk.len() {
        let wanted = (buffer.capacity() * 2).max(buffer.len() + chunk.len());
        let mut larger = Zeroizing::new(Vec::with_capacity(wanted));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(chunk);
}

/// Creates the error of a failed request, as specific as the cause allows: TLS setup, certificate, or transport.
///
/// The original error stays the source, without its URL.
fn broken(what: &'static str, error: impl Into<BoxError>, https: bool) -> TokenError {
    let error = without_url(error.into());
    #[cfg(feature = "https")]
    if let Some(error) = super::tls::SetupError::find(&*error) {
        return error.clone();
    }
    #[cfg(feature = "https")]
    if let Some(what) = super::certificate::problem(&*error) {
        return TokenError::new(TokenErrorKind::Certificate, false, what).with_source(error);
    }
    let what = super::cause::describe(&*error, https).unwrap_or(what);
    TokenError::new(TokenErrorKind::Transport, true, what).with_source(error)
}

/// Removes the URL from an error of reqwest, which would otherwise print it with its query.
///
/// Other clients do not print URLs, or print them without a query.
fn without_url(error: BoxError) -> BoxError {
    #[cfg(feature = "reqwest")]
    let error = match error.downcast::<reqwest::Error>() {
        Ok(error) => (*error).without_url().into(),
        Err(error) => error,
    };
    error
}

/// Value of `Accept`.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Value of `User-Agent`.
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tower-m2m/", env!("CARGO_PKG_VERSION")));
/// Maximum size of a response body, in bytes.
const MAX_RESPONSE_BYTES: usize = 1 << 20;
