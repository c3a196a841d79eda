//! Rules that connect a request, its token and its 401. Independent of any service, for the layer and for combined
//! layers.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::time::Instant;

use super::{
    Challenge, TokenIdentity,
    authorize::Authorizer,
    cell::{Published, Refusal},
    challenge::{self, Verdict},
    context::Rejected,
    event::{Remedy, TokenEvent},
    tokens::Tokens,
};
use crate::{
    Attempts,
    misuse::{self, Misuse, Usage},
};

/// Tokens and rules of one layer.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The tokens of the layer.
    pub(crate) tokens: Arc<Tokens>,
    /// Rules for where the token may go.
    pub(crate) authorizer: Authorizer,
    /// Whether requests are replayed after a 401.
    pub(crate) replay: bool,
    /// Detects misuse of the layer.
    pub(crate) usage: Usage,
}

/// One call that carries a token, over all its attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthCall {
    /// Index of the destination in the list of origins. Half a word, because each request in flight holds one.
    origin: u32,
    /// Whether the request may be sent once more after a 401.
    pub(crate) may_replay: bool,
    /// Whether the next attempt, or the one in flight, is a replay after a 401.
    pub(crate) is_replay: bool,
}

/// The token that an attempt was sent with, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Hash of the token.
    pub(crate) identity: TokenIdentity,
    /// When the attempt was sent.
    pub(crate) at: Instant,
    /// Whether a success of the attempt is reported.
    pub(crate) report: bool,
}

impl AuthCall {
    /// Creates the call of a request to the allowed origin at this index.
    pub(crate) fn new(origin: usize, may_replay: bool) -> Self {
        Self {
            // No list is that long; an index that is not in the list matches no origin.
            origin: u32::try_from(origin).unwrap_or(u32::MAX),
            may_replay,
            is_replay: false,
        }
    }

    /// Returns the call with another value of `may_replay`.
    pub(crate) fn with_replay(self, may_replay: bool) -> Self {
        Self { may_replay, ..self }
    }

    /// Returns the index of the destination in the list of origins.
    pub(crate) fn origin(self) -> usize {
        self.origin as usize
    }
}

impl Sent {
    /// Creates the record of an attempt whose success is reported.
    pub(crate) fn new(identity: TokenIdentity, at: Instant) -> Self {
        let report = true;
        Self {
            identity,
            at,
            report,
        }
    }
}

impl Exchange {
    /// Adds the token to the request. Reports a nested layer if it replaces another layer's token.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap, token: HeaderValue) {
        let former = self.authorizer.authorize(headers, token);
        // These layers mark their tokens as sensitive.
        if former.is_some_and(|former| former.is_sensitive()) && misuse::credentials_are_nested() {
            self.report(self.usage.once(Misuse::Nested));
        }
    }

    /// Emits [`TokenEvent::Misused`] if there is a `misuse`.
    pub(crate) fn report(&self, misuse: Option<Misuse>) {
        if let Some(misuse) = misuse {
            let credential = self.tokens.cell.settings().credential.as_deref();
            let event = TokenEvent::Misused { credential, misuse };
            self.tokens.sinks.emit(&event);
        }
    }

    /// Returns a [`Refusal`] if the response rejects the token of its request. Records a response that is not a 401 as
    /// final.
    ///
    /// A 401 that offers only other schemes counts if the origin has accepted a token before; the token cache decides
    /// about it.
    pub(crate) fn refusal<RB>(
        &self,
        response: &Response<RB>,
        call: AuthCall,
        sent: Sent,
    ) -> Option<Refusal> {
        if response.status() != StatusCode::UNAUTHORIZED {
            self.on_final(response, call, sent);
            return None;
        }
        // A service inside has sent the request again, which may be a misuse.
        if Attempts::of(response) > 1 {
            self.report(self.usage.sent_again_inside());
        }
        let scheme = self.tokens.cell.settings().scheme.as_deref();
        let verdict = challenge::verdict(response.headers(), scheme);
        let is_refusal = match verdict {
            Verdict::TokenRefused => true,
            // Such a challenge can be about the token only if the origin accepts tokens at all.
            Verdict::OtherScheme => self.tokens.cell.was_accepted_at(call.origin()),
            Verdict::NotOurs => false,
        };
        is_refusal.then(|| Refusal {
            rejected: Rejected {
                identity: sent.identity,
                challenges: self.challenges(response, sent.identity),
            },
            origin: call.origin(),
            sent_at: sent.at,
            for_other_scheme: verdict == Verdict::OtherScheme,
        })
    }

    /// Returns whether `request` may be sent once more after a 401. Not if an outer retry layer sends the call again
    /// and it was already replayed.
    pub(crate) fn may_replay<B>(&self, request: &Request<B>) -> bool {
        self.replay && !Attempts::is_token_replaced(request.extensions())
    }

    /// Records a response that does not reject the token. A 2xx status shows that the origin accepts the token.
    #[inline]
    pub(crate) fn on_final<RB>(&self, response: &Response<RB>, call: AuthCall, sent: Sent) {
        if response.status().is_success() {
            let cell = &self.tokens.cell;
            cell.accepted(call.origin(), sent.identity, sent.report.then_some(sent.at));
        }
    }

    /// Returns the challenges of a 401, with the rejected token replaced in them. Empty for a token that is no longer
    /// cached: its value is unknown here, so that it could not be replaced.
    fn challenges<RB>(&self, response: &Response<RB>, refused: TokenIdentity) -> Vec<Challenge> {
        let current = self.tokens.cell.glance(self.tokens.clock.moment()).current;
        let current = current.filter(|token| token.identity == refused);
        current.map_or_else(Vec::new, |token| {
            challenge::challenges(response.headers(), token.token.expose())
        })
    }

    /// Waits for another token than the rejected one. `None` if there is none or it is too soon to request one. Emits
    /// [`TokenEvent::Refused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers, and no event is emitted. The fetch continues.
    pub(crate) async fn replacement(&self, refusal: Refusal) -> Option<Arc<Published>> {
        let origin = refusal.origin;
        let token = self.tokens.replacement(refusal).await;
        let remedy = if token.is_some() {
            Remedy::Replay
        } else {
            Remedy::Stands
        };
        self.tell_refused(origin, remedy);
        token
    }

    /// Starts to replace the rejected token without waiting, for a request that cannot be sent again. Emits
    /// [`TokenEvent::Refused`].
    pub(crate) fn renew_beside(&self, refusal: Refusal) {
        let origin = refusal.origin;
        let remedy = if self.tokens.renew_beside(refusal) {
            Remedy::NotReplayable
        } else {
            Remedy::Stands
        };
        self.tell_refused(origin, remedy);
    }

    /// Records that the token of a replay was rejected too. The request is not replayed again. Emits
    /// [`TokenEvent::Refused`].
    pub(crate) fn refused_again(&self, refusal: &Refusal) {
        let now = self.tokens.clock.moment();
        self.tokens.cell.refused_again(refusal, now);
        self.tell_refused(refusal.origin, Remedy::Stands);
    }

    /// Emits [`TokenEvent::Refused`].
    fn tell_refused(&self, origin: usize, remedy: Remedy) {
        if let Some(origin) = self.authorizer.origin(origin) {
            self.tokens.sinks.emit(&TokenEvent::Refused {
                credential: self.tokens.cell.settings().credential.as_deref(),
                origin,
                remedy,
            });
        }
    }
}

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use http::header::WWW_AUTHENTICATE;

    use super::*;
    use crate::{
        Clock, SystemClock,
        client_credentials::{AccessToken, ClientCredentialsLayer},
        sync::{Mutex, lock},
    };

    /// The exchange of a layer whose token is `key`, and what it tells about refusals.
    async fn exchange() -> (Arc<Exchange>, Arc<Mutex<Vec<Remedy>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), origin);
        let layer = layer.on_event(move |event| {
            if let TokenEvent::Refused { remedy, .. } = event {
                lock(&log).push(*remedy);
            }
        });
        let exchange = layer.build().into_exchange();
        exchange.tokens.obtain().await.unwrap();
        (exchange, told)
    }

    /// The answer to a request that was sent with the token `name`.
    fn refused(exchange: &Exchange, name: &str, challenge: &'static str) -> Option<Refusal> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = HeaderValue::from_static(challenge);
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        let identity = AccessToken::new(name.to_owned()).identity();
        let call = AuthCall::new(0, true);
        exchange.refusal(&response, call, Sent::new(identity, SystemClock.now()))
    }

    #[tokio::test(start_paused = true)]
    async fn challenges_are_read_only_for_the_current_token() {
        let (exchange, _) = exchange().await;
        for (name, expected) in [("key", Some("invalid_token")), ("older", None)] {
            let refusal = refused(&exchange, name, "Bearer error=invalid_token").unwrap();

            let challenges = refusal.rejected.challenges();
            let error = challenges.first().and_then(Challenge::error);
            assert_eq!(error, expected, "{name}");
            assert_eq!(challenges.len(), usize::from(expected.is_some()));
        }
        assert!(refused(&exchange, "key", "Basic realm=api").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_replay_is_reported_as_returned() {
        let (exchange, told) = exchange().await;
        let refusal = refused(&exchange, "key", "Bearer").unwrap();

        exchange.refused_again(&refusal);

        assert_eq!(*lock(&told), [Remedy::Stands]);
    }
}
