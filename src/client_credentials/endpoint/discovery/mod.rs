//! Finds the token endpoint from the issuer (RFC 8414, OpenID Connect Discovery), and keeps what it found.

mod metadata;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use tokio::time::{Instant, timeout_at};

use self::metadata::Metadata;
pub(super) use self::metadata::{Able, Choice};
use super::{response, transport::Transport};
use crate::{
    backoff::Backoff,
    client_credentials::{TokenError, TokenErrorKind, TokenEvent, context::Surroundings},
    clock::after,
    sync::{Mutex, lock},
};

/// An issuer's metadata. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Discovery {
    issuer: Arc<str>,
    /// Written by whoever fetched a document, read by every fetch of a token. A reader sees a whole document or none.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    choice: Option<Choice>,
    /// When the document is to be asked for again.
    due: Option<Instant>,
    failures: u32,
}

impl Discovery {
    pub(super) fn new(issuer: Arc<str>) -> Self {
        Self {
            issuer,
            state: Arc::default(),
        }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where to go and how to authenticate there, from the document at hand or from a new one.
    ///
    /// Once there is a document, a failure to renew it is told as an event, and changes nothing.
    pub(super) async fn choice(
        &self,
        transport: &Transport,
        able: Able,
        allow_http: bool,
        cx: &Surroundings<'_>,
    ) -> Result<Choice, TokenError> {
        let now = cx.clock().now();
        let Some((known, due)) = self.known(now) else {
            let choice = self
                .fetch(transport, allow_http, cx.clock().wall())
                .await?
                .choose(able)?;
            return Ok(self.adopt(choice, now));
        };
        if !due {
            return Ok(known);
        }
        // A slow server must not use up the time of the token request.
        let limit = after(now, LONGEST_RENEWAL).min(cx.deadline());
        let renewed = timeout_at(limit, self.fetch(transport, allow_http, cx.clock().wall()))
            .await
            .unwrap_or_else(|_| Err(TokenError::timeout(LONGEST_RENEWAL)))
            .and_then(|metadata| metadata.follow(&known, able));
        match renewed {
            Ok(choice) => Ok(self.adopt(choice, now)),
            Err(error) => {
                self.put_off(now, cx.random());
                let error = error.with_endpoint(self.issuer.to_string());
                cx.emit(|credential| TokenEvent::MetadataNotAdopted {
                    credential,
                    error: &error,
                });
                Ok(known)
            }
        }
    }

    /// What was found last, if anything was.
    pub(super) fn adopted(&self) -> Option<Choice> {
        lock(&self.state).choice.clone()
    }

    fn known(&self, now: Instant) -> Option<(Choice, bool)> {
        let mut state = lock(&self.state);
        let choice = state.choice.clone()?;
        let due = state.due.is_none_or(|due| now >= due);
        if due {
            // One at a time: whoever comes meanwhile goes on with what there is.
            state.due = Some(after(now, LONGEST_RENEWAL));
        }
        Some((choice, due))
    }

    fn adopt(&self, choice: Choice, now: Instant) -> Choice {
        let mut state = lock(&self.state);
        state.choice = Some(choice.clone());
        state.due = Some(after(now, LIFETIME));
        state.failures = 0;
        choice
    }

    fn put_off(&self, now: Instant, random: f64) {
        let mut state = lock(&self.state);
        state.failures = state.failures.saturating_add(1);
        state.due = Some(after(now, BACKOFF.wait(state.failures, random)));
    }

    /// Only a 404 leads to the next place: another answer, or none, is no reason to believe a document from elsewhere.
    async fn fetch(
        &self,
        transport: &Transport,
        allow_http: bool,
        wall: SystemTime,
    ) -> Result<Metadata, TokenError> {
        let issuer: Uri = self
            .issuer
            .parse()
            .map_err(|_| TokenError::configuration("was not sent: the issuer is not a URL"))?;
        for place in metadata::places(&issuer).into_iter().flatten() {
            let answered = transport.send(get(place.clone())).await?;
            match answered.status {
                StatusCode::NOT_FOUND => {}
                StatusCode::OK => return Metadata::read(&answered.body, &self.issuer, allow_http),
                status => {
                    let error = refused(&place, status);
                    return Err(response::with_retry_after(error, &answered.headers, wall));
                }
            }
        }
        Err(TokenError::new(
            TokenErrorKind::NoMetadata,
            false,
            "failed at discovery: the server has no metadata for this issuer (404 at both well-known places); check the \
             issuer, or name the token endpoint with `TokenEndpoint::new`",
        ))
    }
}

fn get(place: Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = place;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::ACCEPT, json);
    request
        .headers_mut()
        .insert(header::USER_AGENT, super::fetch::USER_AGENT);
    request
}

fn refused(place: &Uri, status: StatusCode) -> TokenError {
    let (kind, transient) = match status {
        StatusCode::TOO_MANY_REQUESTS => (TokenErrorKind::Throttled, true),
        status if status.is_redirection() => (TokenErrorKind::Redirected, false),
        status if status.is_server_error() => (TokenErrorKind::Server, true),
        _ => (TokenErrorKind::Refused, false),
    };
    let place = response::place(place);
    TokenError::new(kind, transient, format!("failed at discovery, at {place}")).with_status(status)
}

/// After so long a document is asked for again.
const LIFETIME: Duration = Duration::from_secs(3600);
const LONGEST_RENEWAL: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(600));
