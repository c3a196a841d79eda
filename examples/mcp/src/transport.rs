//! The streamable HTTP transport of MCP over a tower service.
//!
//! The SDK passes messages to a client of its own trait. This one makes HTTP requests of them, and sends them through any
//! service: here the layers of tower-m2m around hyper. The SDK's own `auth` settings are not used, because the service
//! adds the token.

use std::{collections::HashMap, error::Error, fmt, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_client::{
        AuthRequiredError, HttpStatusError, SseError, StreamableHttpClient, StreamableHttpError,
        StreamableHttpPostResponse,
    },
};
use sse_stream::{Sse, SseStream};
use tower::{Service, ServiceExt};
use tower_m2m::BoxError;

/// A client of MCP servers over the service `S`. It is cloned for each request.
#[derive(Clone)]
pub(crate) struct TowerTransport<S>(S);

/// An error of the service, such as `TokenError` or `RateLimited`.
#[derive(Debug)]
pub(crate) struct ServiceError(BoxError);

type McpError = StreamableHttpError<ServiceError>;

impl<S> TowerTransport<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error: Into<BoxError>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    pub(crate) fn new(service: S) -> Self {
        Self(service)
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// The error of the service, or a status other than 2xx.
    async fn send(
        &self,
        method: Method,
        uri: &str,
        session: Option<Arc<str>>,
        headers: HashMap<HeaderName, HeaderValue>,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, McpError> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().map_err(failed)?;
        request.headers_mut().extend(headers);
        let accept = HeaderValue::from_static("application/json, text/event-stream");
        request.headers_mut().insert(ACCEPT, accept);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        if let Some(session) = &session {
            let session = session.parse().map_err(failed)?;
            request.headers_mut().insert(SESSION, session);
        }
        let response = self.0.clone().oneshot(request).await.map_err(failed)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND if session.is_some() => Err(McpError::SessionExpired),
            // The service has tried another token by now.
            StatusCode::UNAUTHORIZED => {
                let challenge = text(response.headers(), &WWW_AUTHENTICATE).unwrap_or_default();
                Err(McpError::AuthRequired(AuthRequiredError::new(challenge)))
            }
            status => {
                let retry_after = text(response.headers(), &RETRY_AFTER);
                Err(HttpStatusError::new(status.as_u16(), retry_after).into())
            }
        }
    }
}

impl<S> StreamableHttpClient for TowerTransport<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error: Into<BoxError>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    type Error = ServiceError;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, McpError> {
        let body = serde_json::to_vec(&message)?;
        let response = self
            .send(Method::POST, &uri, session, headers, body)
            .await?;
        let session = text(response.headers(), &SESSION);
        if matches!(
            response.status(),
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT
        ) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        match text(response.headers(), &CONTENT_TYPE)
            .as_deref()
            .map(media_type)
        {
            Some("text/event-stream") => {
                Ok(StreamableHttpPostResponse::Sse(events(response), session))
            }
            Some("application/json") => {
                let body = Limited::new(response.into_body(), MAX_MESSAGE)
                    .collect()
                    .await;
                let body = body.map_err(|error| McpError::Client(ServiceError(error)))?;
                let message: ServerJsonRpcMessage = serde_json::from_slice(&body.to_bytes())?;
                Ok(StreamableHttpPostResponse::Json(message, session))
            }
            other => Err(McpError::UnexpectedContentType(other.map(str::to_owned))),
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _: Option<String>,
        mut headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, McpError> {
        if let Some(last_event) = last_event {
            headers.insert(LAST_EVENT, last_event.parse().map_err(failed)?);
        }
        match self
            .send(Method::GET, &uri, session, headers, Vec::new())
            .await
        {
            Ok(response) => Ok(events(response)),
            // A server need not have such a stream.
            Err(McpError::HttpStatus(error)) if matches!(error.status, 404 | 405) => {
                Err(McpError::ServerDoesNotSupportSse)
            }
            Err(error) => Err(error),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), McpError> {
        match self
            .send(Method::DELETE, &uri, Some(session), headers, Vec::new())
            .await
        {
            Err(McpError::HttpStatus(error)) if error.status == 405 => Ok(()),
            response => response.map(drop),
        }
    }
}

/// Returns the events of a response.
fn events(response: Response<Incoming>) -> BoxStream<'static, Result<Sse, SseError>> {
    SseStream::new(response.into_body()).boxed()
}

/// Returns the value of a header, if it is text.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Returns a media type without its parameters.
fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn failed(error: impl Into<BoxError>) -> McpError {
    McpError::Client(ServiceError(error.into()))
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ServiceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Session of a client (MCP, streamable HTTP).
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The last event that a stream has received (HTML, server-sent events).
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 16 << 20;
