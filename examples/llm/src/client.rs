//! The client: a stack of layers around an HTTP client.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::{client::legacy, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, ClientCredentialsLayer, Origin, RateLimitRetryLayer,
    client_credentials::AccessToken,
    rate_limit_retry::{Cost, RateLimitEvent, ReadUsageLayer, headers::read},
};

use crate::{
    answer::{Answer, AnswerReader},
    options::Options,
    report::Report,
};

/// Asks a language model. Clones share the key, the quotas and the connections.
#[derive(Clone)]
pub(crate) struct Client {
    service: BoxCloneSyncService<Request<Full<Bytes>>, Response<AnswerBody>, BoxError>,
    url: Arc<str>,
    model: Arc<str>,
    max_tokens: u64,
}

/// The body of a response, whatever the layers make of it.
type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

impl Client {
    /// # Errors
    ///
    /// The URL or the key is malformed, or the system's certificates cannot be read.
    pub(crate) fn new(
        base: &str,
        key: &str,
        options: &Options,
        report: &Arc<Report>,
    ) -> Result<Self, BoxError> {
        let url = format!("{}/chat/completions", base.trim_end_matches('/'));
        let origin = Origin::of(&url.parse()?).ok_or_else(|| {
            format!("{base} is no URL of an API; as in https://api.openai.com/v1")
        })?;
        let (events, announced) = (Arc::clone(report), Arc::clone(report));
        let limits = RateLimitRetryLayer::builder()
            // The estimate is in the request's extensions: see `request`.
            .cost(|head| head.extensions.get().cloned().unwrap_or_default())
            // Quotas of tokens may be used up for a minute or two, those of a day are an error.
            .max_wait(Duration::from_secs(300))
            .max_retries(20)
            .on_event(move |event| match event {
                RateLimitEvent::Throttled { .. } => events.throttled(),
                RateLimitEvent::Queued { .. } => events.queued(1),
                RateLimitEvent::Dequeued { .. } => events.queued(-1),
                _ => {}
            })
            .build();
        let tls = rustls::ClientConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_safe_default_protocol_versions()?
        .with_native_roots()?
        .with_no_client_auth();
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let service = ServiceBuilder::new()
            .map_response(|response: Response<_>| {
                response.map(|body| AnswerBody::new(BodyExt::map_err(body, BoxError::from)))
            })
            .layer(limits)
            .layer(ClientCredentialsLayer::builder(AccessToken::new(key), origin).build())
            // Reads what the request has cost, at the end of its answer.
            .layer(ReadUsageLayer::new())
            .map_response(move |response: Response<_>| {
                // For the table only: the layers read the limits themselves.
                announced.announced(&read(
                    response.status(),
                    response.headers(),
                    SystemTime::now(),
                ));
                response
            })
            .service(legacy::Client::builder(TokioExecutor::new()).build(https));
        Ok(Self {
            service: BoxCloneSyncService::new(service),
            url: url.into(),
            model: options.model.as_str().into(),
            max_tokens: options.max_tokens,
        })
    }

    /// Sends a prompt, and reads the answer while it is streamed.
    ///
    /// # Errors
    ///
    /// The API has rejected the prompt, its quota lasts longer than `max_wait`, or the stream has ended early.
    pub(crate) async fn ask(&self, prompt: &str) -> Result<Answer, BoxError> {
        let response = self.service.clone().oneshot(self.request(prompt)?).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(rejection(status, response.into_body()).await.into());
        }
        let began = tokio::time::Instant::now();
        let (mut reader, mut body) = (AnswerReader::default(), response.into_body());
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                reader.read(&data)?;
            }
        }
        reader.finish(began.elapsed())
    }

    /// Creates the request. Its cost is the most that the API may count, which is known before it is sent.
    fn request(&self, prompt: &str) -> Result<Request<Full<Bytes>>, BoxError> {
        let body = serde_json::json!({
            "model": &*self.model,
            "stream": true,
            "stream_options": { "include_usage": true },
            "max_completion_tokens": self.max_tokens,
            "messages": [{ "role": "user", "content": prompt }],
        });
        // About four characters are one token.
        let estimate = prompt.len().div_ceil(4) as u64 + self.max_tokens;
        let request = Request::post(&*self.url)
            .header(CONTENT_TYPE, "application/json")
            .extension(Cost::new().with("tokens", estimate));
        Ok(request.body(Full::from(serde_json::to_vec(&body)?))?)
    }
}

/// Returns what the API says about a prompt that it has rejected.
async fn rejection(status: StatusCode, mut body: AnswerBody) -> String {
    let mut text = Vec::new();
    while text.len() < MAX_ERROR
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Ok(data) = frame.into_data() {
            text.extend_from_slice(&data);
        }
    }
    let body: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    match body["error"]["message"].as_str() {
        Some(message) => format!("{status}: {message}"),
        None => status.to_string(),
    }
}

/// Length from which nothing more of an error's body is read.
const MAX_ERROR: usize = 16 * 1024;
