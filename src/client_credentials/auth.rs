//! Rules that connect a request, its token and its 401. Independent of any service, for the layer and for combined
//! layers.
//!
//! A call passes through these functions in order: `Authorizer::check` before anything is sent, [`Auth::authorize`] for
//! each attempt, then either [`Auth::on_final`] or [`Auth::rejection`] with one of `refresh_and_wait`,
//! `refresh_in_background` and `on_replay_rejected`. Each 401 that rejects the token emits exactly one
//! [`TokenEvent::Rejected`].
//!
//! Proofs are signed and their rejections recorded in `prove`.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::time::Instant;

use super::{
    CertificateThumbprint, Challenge, TokenFingerprint,
    authorize::Authorizer,
    cache::{CachedToken, Rejection},
    challenge::{self, Verdict},
    context::RejectedToken,
    event::{RejectionAction, TokenEvent},
    proof::{MAX_PROOF_RETRIES, MAX_UNSENT_PROOFS, Proof},
    proof_servers::ProofServers,
    prover::DPOP_SCHEME,
    refresher::Refresher,
};
use crate::{
    Attempts,
    misuse::{self, Misuse, Usage},
};

/// Tokens and rules of one layer.
///
/// Built once by [`ClientCredentialsLayer`](super::ClientCredentialsLayer) and shared by the policies of all threads
/// and by combined layers. Nothing in it changes after that, except the state behind `refresher` and `usage`.
#[derive(Debug)]
pub(crate) struct Auth {
    /// The tokens of the layer.
    pub(crate) refresher: Arc<Refresher>,
    /// Rules for where the token may go.
    pub(crate) authorizer: Authorizer,
    /// Whether requests are replayed after a 401.
    pub(crate) replay: bool,
    /// Whether further scopes are requested after a challenge that names them.
    pub(crate) step_up: bool,
    /// Detects misuse of the layer.
    pub(crate) usage: Usage,
    /// Nonces and clocks of the APIs, for tokens that are bound to a key.
    pub(crate) proof_servers: ProofServers,
}

/// One call that carries a token, over all its attempts.
///
/// Small, because each request in flight holds one, also on the fast path. The token itself is not part of it: a call
/// that waits may be sent with a token that was issued later.
///
/// | `may_replay` | `is_replay` | state of the call |
/// |---|---|---|
/// | `true` | `false` | first attempt; a copy of the request is kept |
/// | `false` | `false` | first attempt; a 401 is returned, and the token refreshed for others |
/// | any | `true` | second attempt; a further 401 is returned and extends the cooldown |
#[derive(Clone, Debug)]
pub(crate) struct AuthCall {
    /// Tokens for the scope of the request. `None` for those of the layer.
    scoped: Option<Arc<Refresher>>,
    /// Index of the destination in the list of origins. Small, because each request in flight holds one.
    origin: u16,
    /// Whether the request may be sent once more after a 401.
    pub(crate) may_replay: bool,
    /// Whether the next attempt, or the one in flight, is a replay after a 401.
    pub(crate) is_replay: bool,
    /// Whether the token is bound to a key, so that each attempt needs a proof. Known once the call was admitted.
    pub(crate) is_bound: bool,
    /// Number of sends so far, including those of inner layers.
    pub(crate) sends: u8,
    /// Number of further attempts because of rejected proofs.
    pub(crate) proof_retries: u8,
    /// Number of proofs for the next attempt that were not sent.
    pub(crate) unsent_proofs: u8,
}

/// The token that an attempt was sent with, and when.
///
/// A response is judged by the token that its own attempt carried, never by the one that is cached when the response
/// arrives. Otherwise a late 401 for an old token would discard its successor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentWith {
    /// Hash of the token.
    pub(crate) fingerprint: TokenFingerprint,
    /// When the attempt was sent.
    pub(crate) at: Instant,
    /// Whether a success of the attempt is reported.
    pub(crate) report: bool,
    /// State of the server that the proof was made with; 0 for a bearer token.
    pub(crate) proof: u32,
}

impl AuthCall {
    /// Creates the call of a request to the allowed origin at this index.
    pub(crate) fn new(origin: usize, may_replay: bool) -> Self {
        Self {
            scoped: None,
            // No list is that long; an index that is not in the list matches no origin.
            origin: u16::try_from(origin).unwrap_or(u16::MAX),
            may_replay,
            is_replay: false,
            is_bound: false,
            sends: 0,
            proof_retries: 0,
            unsent_proofs: 0,
        }
    }

    /// Sets the tokens for the scope of the request.
    pub(crate) fn set_tokens(&mut self, tokens: Arc<Refresher>) {
        self.scoped = Some(tokens);
    }

    /// Returns whether the request has a scope of its own.
    #[inline]
    pub(crate) fn is_scoped(&self) -> bool {
        self.scoped.is_some()
    }

    /// Returns the tokens for the request: its own, or those of the layer.
    #[inline]
    pub(crate) fn tokens<'a>(&'a self, auth: &'a Auth) -> &'a Arc<Refresher> {
        self.scoped.as_ref().unwrap_or(&auth.refresher)
    }

    /// Returns the call with another value of `may_replay`.
    ///
    /// For combined layers, in which the limits decide as well whether the request may be sent once more.
    pub(crate) fn with_replay(self, may_replay: bool) -> Self {
        Self { may_replay, ..self }
    }

    /// Returns the index of the destination in the list of origins.
    pub(crate) fn origin(&self) -> usize {
        self.origin.into()
    }

    /// Returns whether the request may be sent once more because its proof was rejected.
    pub(crate) fn may_prove_again(&self) -> bool {
        self.is_bound && self.proof_retries < MAX_PROOF_RETRIES
    }
}

impl SentWith {
    /// Creates the record of an attempt whose success is reported.
    pub(crate) fn new(identity: TokenFingerprint, at: Instant) -> Self {
        let report = true;
        Self {
            fingerprint: identity,
            at,
            report,
            proof: 0,
        }
    }
}

impl Auth {
    /// Adds the token to the request. Reports a nested layer if it replaces another layer's token.
    ///
    /// Called for each attempt, after the destination was checked. The value must be marked sensitive, so that HTTP
    /// clients neither log nor index it.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap, token: HeaderValue) {
        let former = self.authorizer.authorize(headers, token);
        // These layers mark their tokens as sensitive.
        if former.is_some_and(|former| former.is_sensitive()) && misuse::has_nested_credentials() {
            self.report(self.usage.report_once(Misuse::Nested));
        }
    }

    /// Emits [`TokenEvent::Misused`] if there is a `misuse`.
    ///
    /// Takes an `Option`, because the checks for misuse return a mistake at most once per layer.
    pub(crate) fn report(&self, misuse: Option<Misuse>) {
        if let Some(misuse) = misuse {
            let credential = self.refresher.cache.settings().credential.as_deref();
            let event = TokenEvent::Misused { credential, misuse };
            self.refresher.sinks.emit(&event);
        }
    }

    /// Returns a [`Rejection`] if the response rejects the token of its request. Records a response that is not a 401
    /// as final.
    ///
    /// A 401 that offers only other schemes counts if the origin has accepted a token before; the token cache decides
    /// about it.
    ///
    /// `None` for every response that is returned as it is: any other status, and a 401 that is about something else.
    /// The challenges are parsed twice, once for the verdict and once for the error texts; both happen only for a 401.
    pub(crate) fn rejection<RB>(
        &self,
        response: &Response<RB>,
        call: &AuthCall,
        sent: SentWith,
    ) -> Option<Rejection> {
        let needs_scope = self.step_up && self.learn_scopes(response, call, sent);
        if response.status() != StatusCode::UNAUTHORIZED && !needs_scope {
            self.on_final(response, call, sent);
            return None;
        }
        // A service inside has sent the request again, which may be a misuse.
        if Attempts::of(response) > 1 {
            self.report(self.usage.on_inner_retry());
        }
        let verdict = match needs_scope {
            true => Verdict::TokenRejected,
            false => challenge::verdict(response.headers(), self.scheme(sent)),
        };
        let tokens = call.tokens(self);
        let is_refusal = match verdict {
            Verdict::TokenRejected => true,
            // Such a challenge can be about the token only if the origin accepts tokens at all.
            Verdict::OtherScheme => tokens.cache.was_accepted_at(call.origin()),
            Verdict::Unrelated => false,
        };
        if is_refusal {
            emit_mismatch(tokens, response, sent.fingerprint);
        }
        is_refusal.then(|| Rejection {
            rejected: RejectedToken {
                fingerprint: sent.fingerprint,
                challenges: challenges(tokens, response, sent.fingerprint),
            },
            origin: call.origin(),
            sent_at: sent.at,
            for_other_scheme: verdict == Verdict::OtherScheme,
        })
    }

    /// Returns the authentication scheme that an attempt was sent with.
    fn scheme(&self, sent: SentWith) -> Option<&str> {
        match sent.proof {
            0 => self.refresher.cache.settings().scheme.as_deref(),
            _ => Some(DPOP_SCHEME),
        }
    }

    /// Learns the scopes that a challenge names (RFC 6750 §3.1). Returns whether another token may have them.
    fn learn_scopes<RB>(&self, response: &Response<RB>, call: &AuthCall, sent: SentWith) -> bool {
        let tokens = call.tokens(self);
        let is_challenge = matches!(
            response.status(),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED
        );
        let Some(learned) = tokens.learned.as_ref().filter(|_| is_challenge) else {
            return false;
        };
        let scheme = self.scheme(sent);
        let Some(wanted) = challenge::insufficient_scope(response.headers(), scheme) else {
            return false;
        };
        let current = current(tokens, sent.fingerprint);
        let granted = current.as_ref().and_then(|token| token.token.scope());
        learned.learn(&wanted, granted)
    }

    /// Returns the header with the usable token and the record of an attempt that is sent now on the slow path. `None`
    /// if there is no token, or `proof` does not belong to it.
    pub(crate) fn started(
        &self,
        call: &mut AuthCall,
        now: Instant,
        proof: Option<&Proof>,
    ) -> Option<(HeaderValue, SentWith)> {
        let (token, _) = call.tokens(self).get_cached(now)?;
        let mut sent = SentWith::new(token.fingerprint, now);
        if token.token.prover().is_some() {
            let proof = proof.filter(|proof| proof.fingerprint == token.fingerprint)?;
            // If the inner service is always slow, an older proof is sent rather than none.
            if !proof.is_recent(now) && call.unsent_proofs < MAX_UNSENT_PROOFS {
                call.unsent_proofs += 1;
                return None;
            }
            call.unsent_proofs = 0;
            sent.proof = proof.generation;
        } else if proof.is_some() {
            return None;
        }
        Some((token.header.clone(), sent))
    }

    /// Returns whether `request` may be sent once more after a 401. Not if an outer retry layer sends the call again
    /// and it was already replayed.
    ///
    /// A request that carries such a mark has been replayed in an earlier attempt of the outer layer. Replaying it
    /// again would multiply the attempts of both layers.
    pub(crate) fn may_replay<B>(&self, request: &Request<B>) -> bool {
        self.replay && !Attempts::is_token_replaced(request.extensions())
    }

    /// Records a response that does not reject the token. A 2xx status shows that the origin accepts the token.
    ///
    /// Records nothing for other statuses: a 403 or a 500 may come from a gateway that did not check the token.
    #[inline]
    pub(crate) fn on_final<RB>(&self, response: &Response<RB>, call: &AuthCall, sent: SentWith) {
        if response.status().is_success() {
            let cache = &call.tokens(self).cache;
            cache.on_accepted(
                call.origin(),
                sent.fingerprint,
                sent.report.then_some(sent.at),
            );
        }
    }

    /// Waits for another token than the rejected one. `None` if there is none or it is too soon to request one. Emits
    /// [`TokenEvent::Rejected`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers, and no event is emitted. The fetch continues.
    pub(crate) async fn refresh_and_wait(
        &self,
        call: &AuthCall,
        refusal: Rejection,
    ) -> Option<Arc<CachedToken>> {
        let origin = refusal.origin;
        let tokens = call.tokens(self);
        let token = tokens.refresh_and_wait(refusal).await;
        let action = if token.is_some() {
            RejectionAction::Replayed
        } else {
            RejectionAction::Returned
        };
        self.emit_rejected(tokens, origin, action);
        token
    }

    /// Starts to replace the rejected token without waiting, for a request that cannot be sent again. Emits
    /// [`TokenEvent::Rejected`].
    pub(crate) fn refresh_in_background(&self, call: &AuthCall, refusal: Rejection) {
        let origin = refusal.origin;
        let tokens = call.tokens(self);
        let action = if tokens.refresh_in_background(refusal) {
            RejectionAction::RefreshedOnly
        } else {
            RejectionAction::Returned
        };
        self.emit_rejected(tokens, origin, action);
    }

    /// Records that the token of a replay was rejected too. The request is not replayed again. Emits
    /// [`TokenEvent::Rejected`].
    pub(crate) fn on_replay_rejected(&self, call: &AuthCall, refusal: &Rejection) {
        let tokens = call.tokens(self);
        let now = tokens.clock.moment();
        tokens.cache.on_replay_rejected(refusal, now);
        self.emit_rejected(tokens, refusal.origin, RejectionAction::Returned);
    }

    /// Emits [`TokenEvent::Rejected`].
    fn emit_rejected(&self, tokens: &Refresher, origin: usize, action: RejectionAction) {
        if let Some(origin) = self.authorizer.origin(origin) {
            tokens.sinks.emit(&TokenEvent::Rejected {
                credential: tokens.cache.settings().credential.as_deref(),
                origin,
                action,
            });
        }
    }
}

/// Returns the challenges of a 401, with the rejected token replaced in them. Empty for a token that is no longer
/// cached: its value is unknown here, so that it could not be replaced.
fn challenges<RB>(
    tokens: &Refresher,
    response: &Response<RB>,
    rejected: TokenFingerprint,
) -> Vec<Challenge> {
    current(tokens, rejected).map_or_else(Vec::new, |token| {
        challenge::challenges(response.headers(), token.token.expose())
    })
}

/// Emits [`TokenEvent::CertificateMismatch`], if the client of the API says that it presented another certificate than
/// the rejected token is bound to.
fn emit_mismatch<RB>(tokens: &Refresher, response: &Response<RB>, rejected: TokenFingerprint) {
    let Some(presented) = response.extensions().get::<CertificateThumbprint>() else {
        return;
    };
    let bound = current(tokens, rejected).and_then(|token| token.token.certificate());
    if bound.is_some_and(|bound| bound != *presented) {
        let credential = tokens.cache.settings().credential.as_deref();
        tokens
            .sinks
            .emit(&TokenEvent::CertificateMismatch { credential });
    }
}

/// Returns the cached token, if it is the one with this hash.
fn current(tokens: &Refresher, fingerprint: TokenFingerprint) -> Option<Arc<CachedToken>> {
    let current = tokens.cache.status(tokens.clock.moment()).current;
    current.filter(|token| token.fingerprint == fingerprint)
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

    /// Returns the rules of a layer whose token is `key`, and the actions that it reports after rejections.
    async fn auth() -> (Arc<Auth>, Arc<Mutex<Vec<RejectionAction>>>) {
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&events);
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), origin);
        let layer = layer.on_event(move |event| {
            if let TokenEvent::Rejected { action, .. } = event {
                lock(&log).push(*action);
            }
        });
        let auth = layer.build().into_auth();
        auth.refresher.get().await.unwrap();
        (auth, events)
    }

    /// Returns the rejection of a request that was sent with the token `name`, if the 401 is one.
    fn rejected(auth: &Auth, name: &str, challenge: &'static str) -> Option<Rejection> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = HeaderValue::from_static(challenge);
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        let identity = AccessToken::new(name.to_owned()).fingerprint();
        let call = AuthCall::new(0, true);
        auth.rejection(&response, &call, SentWith::new(identity, SystemClock.now()))
    }

    #[tokio::test(start_paused = true)]
    async fn challenges_are_read_only_for_the_current_token() {
        let (auth, _) = auth().await;
        for (name, expected) in [("key", Some("invalid_token")), ("older", None)] {
            let refusal = rejected(&auth, name, "Bearer error=invalid_token").unwrap();

            let challenges = refusal.rejected.challenges();
            let error = challenges.first().and_then(Challenge::error);
            assert_eq!(error, expected, "{name}");
            assert_eq!(challenges.len(), usize::from(expected.is_some()));
        }
        assert!(rejected(&auth, "key", "Basic realm=api").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_replay_is_reported_as_returned() {
        let (auth, events) = auth().await;
        let refusal = rejected(&auth, "key", "Bearer").unwrap();

        auth.on_replay_rejected(&AuthCall::new(0, true), &refusal);

        assert_eq!(*lock(&events), [RejectionAction::Returned]);
    }
}
