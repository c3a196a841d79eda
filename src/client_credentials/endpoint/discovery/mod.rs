//! Finds the token endpoint from the issuer (RFC 8414, OpenID Connect Discovery), and keeps what it found.

mod issuer;
mod metadata;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use tokio::time::{Instant, timeout_at};

pub(super) use self::metadata::{Able, Choice};
use self::{
    issuer::Issuer,
    metadata::{Metadata, Unread},
};
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
    issuer: Issuer,
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
            issuer: Issuer::new(issuer),
            state: Arc::default(),
        }
    }

    pub(super) fn issuer(&self) -> &str {
        self.issuer.name()
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
                let error = error.with_endpoint(self.issuer().to_owned());
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

    /// A place that has no metadata leads to the next one. A server that fails or throttles, or metadata of another
    /// issuer, does not: that is no reason to believe a document from elsewhere.
    async fn fetch(
        &self,
        transport: &Transport,
        allow_http: bool,
        wall: SystemTime,
    ) -> Result<Metadata, TokenError> {
        let places = self.issuer.places();
        if places.is_empty() {
            return Err(TokenError::configuration(
                "was not sent: the issuer is not a URL",
            ));
        }
        let mut tried = Tried::default();
        for place in places {
            let answered = match transport.send(get(place.clone())).await {
                Err(error) if error.kind() == TokenErrorKind::TooLarge => {
                    tried.odd(&place, "more than 1 MiB");
                    continue;
                }
                answered => answered?,
            };
            let status = answered.status;
            if status.is_success() {
                match Metadata::read(&answered.body, &self.issuer, allow_http) {
                    Ok(metadata) => return Ok(metadata),
                    Err(Unread::Refused(error)) => return Err(error),
                    Err(Unread::NoMetadata(what)) => tried.odd(&place, what),
                }
            } else if has_no_metadata(status) {
                tried.nothing(&place, status);
            } else {
                let error = refused(&place, status, &tried);
                return Err(response::with_retry_after(error, &answered.headers, wall));
            }
        }
        Err(tried.error())
    }
}

/// Whether the answer means that there is no metadata at a place. Login pages, redirects to them and methods that are not
/// known stand for a 404 at some servers.
fn has_no_metadata(status: StatusCode) -> bool {
    match status {
        StatusCode::TOO_MANY_REQUESTS => false,
        StatusCode::NOT_IMPLEMENTED => true,
        status => status.is_client_error() || status.is_redirection(),
    }
}

/// The places without metadata, and what each of them said.
#[derive(Default)]
struct Tried {
    said: Vec<String>,
    /// One of them answered as if there was something.
    odd: bool,
}

impl Tried {
    fn nothing(&mut self, place: &Uri, status: StatusCode) {
        let place = response::place(place);
        self.said.push(format!("{place} said {}", status.as_u16()));
    }

    fn odd(&mut self, place: &Uri, what: &str) {
        let place = response::place(place);
        self.said.push(format!("{place} said {what}"));
        self.odd = true;
    }

    fn error(&self) -> TokenError {
        TokenError::new(
            TokenErrorKind::NoMetadata,
            self.odd,
            format!(
                "failed at discovery: the server has no metadata for this issuer ({}); check the issuer, or name the token \
                 endpoint with `TokenEndpoint::new`",
                self.said.join(", ")
            ),
        )
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

fn refused(place: &Uri, status: StatusCode, tried: &Tried) -> TokenError {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => TokenErrorKind::Throttled,
        status if status.is_server_error() => TokenErrorKind::Server,
        // Neither a success nor a failure.
        _ => TokenErrorKind::Malformed,
    };
    let place = response::place(place);
    let mut text = format!("failed at discovery, at {place}");
    if !tried.said.is_empty() {
        text.push_str(&format!(", after {}", tried.said.join(", ")));
    }
    TokenError::new(kind, true, text).with_status(status)
}

/// After so long a document is asked for again.
const LIFETIME: Duration = Duration::from_secs(3600);
const LONGEST_RENEWAL: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(600));
