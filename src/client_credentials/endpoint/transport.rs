//! The HTTP service that carries token requests: the crate's own https client, or one of yours.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower_service::Service;
use zeroize::Zeroizing;

use crate::{
    BoxError,
    client_credentials::{TokenError, TokenErrorKind},
};

/// What carries token requests.
#[derive(Clone)]
pub(super) enum Client {
    Service(Transport),
    #[cfg(feature = "https")]
    Own {
        config: Option<Box<rustls::ClientConfig>>,
        /// Made at the first use, and made again after a failure.
        made: Arc<crate::sync::Mutex<Option<Transport>>>,
    },
    #[cfg(not(feature = "https"))]
    None,
}

impl Client {
    #[cfg(feature = "https")]
    pub(super) fn own(config: rustls::ClientConfig) -> Self {
        Self::Own {
            config: Some(Box::new(config)),
            made: Arc::default(),
        }
    }

    pub(super) fn transport(&self) -> Result<Transport, TokenError> {
        match self {
            Self::Service(transport) => Ok(transport.clone()),
            #[cfg(feature = "https")]
            Self::Own { config, made } => {
                if let Some(transport) = &*crate::sync::lock(made) {
                    return Ok(transport.clone());
                }
                // Made outside the lock: it reads files.
                let transport = own::client(config.as_deref().cloned())?;
                Ok(crate::sync::lock(made).insert(transport).clone())
            }
            #[cfg(not(feature = "https"))]
            Self::None => Err(TokenError::configuration(
                "was not sent: this build has no https client; pass yours with `.service(..)`, or enable the feature \
                 `ring`",
            )),
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        #[cfg(feature = "https")]
        return Self::Own {
            config: None,
            made: Arc::default(),
        };
        #[cfg(not(feature = "https"))]
        return Self::None;
    }
}

/// An answer, read in full.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

type Exchange = Pin<Box<dyn Future<Output = Result<Answered, TokenError>> + Send>>;

/// A service, erased once and cloned for each fetch.
#[derive(Clone)]
pub(super) struct Transport(Arc<dyn Fn(Request<Full<Bytes>>) -> Exchange + Send + Sync>);

impl Transport {
    pub(super) fn new<S, RB>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: Body + Send + 'static,
        RB::Data: Send,
        RB::Error: Into<BoxError>,
    {
        Self(Arc::new(move |request| {
            Box::pin(exchange(service.clone(), request))
        }))
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answered, TokenError> {
        (self.0)(request).await
    }
}

async fn exchange<S, RB>(service: S, request: Request<Full<Bytes>>) -> Result<Answered, TokenError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let response = service
        .oneshot(request)
        .await
        .map_err(|error| broken("could not be sent, or the connection broke", error))?;
    let (parts, body) = response.into_parts();
    Ok(Answered {
        status: parts.status,
        headers: parts.headers,
        body: read_to_end(body).await?,
    })
}

async fn read_to_end<RB>(body: RB) -> Result<Zeroizing<Vec<u8>>, TokenError>
where
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let mut read = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| broken("was answered by half: the connection broke", error))?;
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        while bytes::Buf::has_remaining(&data) {
            let chunk = bytes::Buf::chunk(&data);
            if read.len() + chunk.len() > LARGEST_ANSWER {
                return Err(TokenError::new(
                    TokenErrorKind::TooLarge,
                    true,
                    "was answered with more than 1 MiB; check the token endpoint's URL",
                ));
            }
            append(&mut read, chunk);
            let length = chunk.len();
            bytes::Buf::advance(&mut data, length);
        }
    }
    Ok(read)
}

/// Grows by hand, so that the old buffer is wiped.
fn append(buffer: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    if buffer.capacity() - buffer.len() < chunk.len() {
        let wanted = (buffer.capacity() * 2).max(buffer.len() + chunk.len());
        let mut larger = Zeroizing::new(Vec::with_capacity(wanted));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(chunk);
}

fn broken(what: &'static str, error: impl Into<BoxError>) -> TokenError {
    let error = without_url(error.into());
    #[cfg(feature = "https")]
    if let Some(what) = super::certificate::problem(&*error) {
        return TokenError::new(TokenErrorKind::Certificate, false, what).with_source(error);
    }
    TokenError::new(TokenErrorKind::Transport, true, what).with_source(error)
}

/// reqwest's errors repeat the URL with its query.
fn without_url(error: BoxError) -> BoxError {
    #[cfg(feature = "reqwest")]
    let error = match error.downcast::<reqwest::Error>() {
        Ok(error) => (*error).without_url().into(),
        Err(error) => error,
    };
    error
}

/// The crate's own client: HTTP/1.1 and h2 over rustls, never a redirect.
#[cfg(feature = "https")]
pub(super) mod own {
    use hyper_rustls::HttpsConnectorBuilder;
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    use rustls::ClientConfig;

    use super::{TokenError, Transport};

    /// The client with the configuration given, or else with the platform's roots and the provider built in.
    pub(crate) fn client(config: Option<ClientConfig>) -> Result<Transport, TokenError> {
        let config = config.map_or_else(platform, Ok)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .build();
        Ok(Transport::new(
            Client::builder(TokioExecutor::new()).build(connector),
        ))
    }

    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    fn platform() -> Result<ClientConfig, TokenError> {
        let builder = super::super::tls::builder()?;
        let roots = super::super::tls::platform_roots()?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }

    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    fn platform() -> Result<ClientConfig, TokenError> {
        Err(TokenError::configuration(
            "was not sent: this build has no crypto provider; enable the feature `ring` or `aws-lc-rs`, or pass a \
             configuration with `.tls_config(..)`",
        ))
    }
}

const LARGEST_ANSWER: usize = 1 << 20;
