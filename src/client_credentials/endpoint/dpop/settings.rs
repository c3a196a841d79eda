//! Settings of an endpoint that requests tokens bound to a key.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Uri};

use super::{
    super::{BearerAnswer, auth::validate_provider},
    key::DpopKey,
};
use crate::{
    Origin,
    client_credentials::{
        TokenError, context::SourceContext, proof_servers::ProofServers, prover::ProofTarget,
    },
    clock::add_capped,
};

/// Settings of sender-constrained tokens (RFC 9449), for
/// [`TokenEndpoint::dpop`](super::super::TokenEndpoint::dpop).
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::{BearerAnswer, Dpop}};
///
/// let auth = ClientAuth::basic("orders", "secret");
/// let endpoint = TokenEndpoint::discover("https://issuer.example", auth)
///     .dpop(Dpop::generated().on_bearer_answer(BearerAnswer::Accept));
/// # drop(endpoint);
/// ```
#[doc(alias("RFC 9449", "proof of possession"))]
#[derive(Clone, Debug)]
#[must_use = "pass it to `TokenEndpoint::dpop`"]
pub struct Dpop {
    /// The key, or `None` for one that is generated for each token.
    key: Option<DpopKey>,
    /// Action for a token that is not bound.
    bearer: BearerAnswer,
    /// Whether the thumbprint is sent as a parameter.
    jkt: bool,
    /// Nonces and clocks of the authorization server.
    servers: Arc<ProofServers>,
}

impl Dpop {
    /// Generates a key for each token, in this process. The key is replaced together with the token.
    ///
    /// Tokens are not shared with other processes. Needs a crypto provider: the feature `jwt-aws-lc-rs` or
    /// `jwt-rust-crypto`.
    pub fn generated() -> Self {
        Self::of(None)
    }

    /// Uses `key` for all tokens. Processes with the same key can share tokens through a store.
    pub fn key(key: DpopKey) -> Self {
        Self::of(Some(key))
    }

    /// Creates the default settings.
    fn of(key: Option<DpopKey>) -> Self {
        Self {
            key,
            bearer: BearerAnswer::default(),
            jkt: false,
            servers: Arc::default(),
        }
    }

    /// Sets the action for a token that is not bound to the key. Default: [`BearerAnswer::Refuse`].
    pub fn on_bearer_answer(mut self, action: BearerAnswer) -> Self {
        self.bearer = action;
        self
    }

    /// Sets whether the thumbprint of the key is sent as the parameter `dpop_jkt` (RFC 9449 §10), for servers that
    /// expect it in token requests. Default: `false`.
    pub fn jkt(mut self, jkt: bool) -> Self {
        self.jkt = jkt;
        self
    }

    /// Checks that this build can generate keys, if none is given.
    ///
    /// # Errors
    ///
    /// A configuration error, if it has no crypto provider.
    pub(in super::super) fn validate(&self) -> Result<(), TokenError> {
        match &self.key {
            Some(_) => Ok(()),
            None => validate_provider(),
        }
    }

    /// Returns the key for the next token.
    ///
    /// # Errors
    ///
    /// As for [`DpopKey::generate`].
    pub(in super::super) fn key_for_fetch(&self) -> Result<DpopKey, TokenError> {
        match &self.key {
            Some(key) => Ok(key.clone()),
            None => DpopKey::generate(),
        }
    }

    /// Returns the fixed key, whose tokens can be shared.
    pub(in super::super) fn fixed_key(&self) -> Option<&DpopKey> {
        self.key.as_ref()
    }

    /// Returns whether a bearer token is accepted.
    pub(in super::super) fn accepts_bearer(&self) -> bool {
        self.bearer == BearerAnswer::Accept
    }

    /// Returns whether the thumbprint is sent as a parameter.
    pub(in super::super) fn sends_jkt(&self) -> bool {
        self.jkt
    }

    /// Signs the proof of a token request to `uri`. Returns it with the generation of the server's state.
    ///
    /// # Errors
    ///
    /// The error of the signer.
    pub(in super::super) async fn prove(
        &self,
        key: &DpopKey,
        uri: &Uri,
        cx: &SourceContext<'_>,
        deadline: tokio::time::Instant,
    ) -> Result<(HeaderValue, u32), TokenError> {
        let Some(origin) = Origin::of(uri) else {
            return Err(TokenError::configuration(
                "was not sent: the token endpoint has no origin",
            ));
        };
        let server = self.servers.get(&origin);
        let now = cx.clock().now();
        let target = ProofTarget {
            method: "POST".to_owned(),
            url: format!("{origin}{}", uri.path()),
            issued_at: server.time(cx.clock().wall_clock()),
            nonce: server.nonce.clone(),
            now,
            deadline: deadline.min(add_capped(now, MAX_SIGNING)),
        };
        let proof = key.prove(&target, None).await?;
        Ok((proof, server.generation))
    }

    /// Records a response of the server at `uri`. Returns the generation of its state.
    pub(in super::super) fn observe(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        cx: &SourceContext<'_>,
    ) -> u32 {
        let wall = cx.clock().wall_clock();
        Origin::of(uri).map_or(0, |origin| self.servers.observe(&origin, headers, wall))
    }
}

/// Upper bound on the time that the signature of a proof takes.
const MAX_SIGNING: Duration = Duration::from_secs(10);
