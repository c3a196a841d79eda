//! The DPoP key of one fetch: the proof of each token request, and the token that is bound to the key.
//!
//! Without the feature `dpop`, and for endpoints that request bearer tokens, it does nothing.

#[cfg(feature = "dpop")]
use http::HeaderMap;
#[cfg(feature = "dpop")]
use tokio::time::Instant;

#[cfg(feature = "dpop")]
use super::dpop::{Dpop, DpopKey};
use super::{TokenEndpoint, TokenRequest, response::Binding};
use crate::client_credentials::{AccessToken, TokenError, context::SourceContext};

/// The key that the tokens of one fetch are bound to, if they are. All attempts of the fetch use the same.
#[cfg(feature = "dpop")]
pub(super) struct FetchKey(Option<(Dpop, DpopKey)>);

#[cfg(feature = "dpop")]
impl FetchKey {
    /// Adds a proof to `request`. Returns the generation of the server's state that it was made with, or 0.
    ///
    /// Called last, so that the proof is recent when the request is sent.
    ///
    /// # Errors
    ///
    /// The error of the signer.
    pub(super) async fn prove(
        &self,
        request: &mut TokenRequest,
        deadline: Instant,
        cx: &SourceContext<'_>,
    ) -> Result<u32, TokenError> {
        let Some((dpop, key)) = &self.0 else {
            return Ok(0);
        };
        let uri = request.token_endpoint().clone();
        if dpop.sends_jkt() {
            request.parameter("dpop_jkt", key.thumbprint());
        }
        let (proof, generation) = dpop.prove(key, &uri, cx, deadline).await?;
        // A server may quote the proof in its error.
        if let Ok(text) = proof.to_str() {
            request.redact(text);
        }
        request.header(crate::client_credentials::prover::DPOP, proof);
        Ok(generation)
    }

    /// Records what the response says about proofs. Returns whether a proof would now differ from that of the request.
    pub(super) fn observe(
        &self,
        request: &TokenRequest,
        headers: &HeaderMap,
        generation: u32,
        cx: &SourceContext<'_>,
    ) -> bool {
        let Some((dpop, _)) = &self.0 else {
            return false;
        };
        dpop.observe(request.token_endpoint(), headers, cx) != generation
    }

    /// Binds the token to the key.
    pub(super) fn bind(&self, token: AccessToken) -> AccessToken {
        match &self.0 {
            Some((_, key)) => token.bound_to(key.clone()),
            None => token,
        }
    }

    /// Returns whether tokens are to be bound.
    pub(super) fn is_required(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(feature = "dpop")]
impl TokenEndpoint {
    /// Returns the key for one fetch.
    ///
    /// # Errors
    ///
    /// No key can be generated.
    pub(super) fn fetch_key(&self) -> Result<FetchKey, TokenError> {
        let Some(dpop) = &self.dpop else {
            return Ok(FetchKey(None));
        };
        Ok(FetchKey(Some((dpop.clone(), dpop.key_for_fetch()?))))
    }

    /// Checks that this build can generate keys, if it has to.
    ///
    /// # Errors
    ///
    /// A configuration error, if it has no crypto provider.
    pub(super) fn validate_key(&self) -> Result<(), TokenError> {
        match &self.dpop {
            Some(dpop) => dpop.validate(),
            None => Ok(()),
        }
    }

    /// Returns the binding that a token must have.
    pub(super) fn binding(&self) -> Binding {
        match &self.dpop {
            None => Binding::None,
            Some(dpop) if dpop.accepts_bearer() => Binding::Preferred,
            Some(_) => Binding::Required,
        }
    }

    /// Binds a token from a store to the key, which is the same as that of the process that requested it.
    pub(super) fn bind_stored(&self, token: AccessToken) -> AccessToken {
        match self.dpop.as_ref().and_then(Dpop::fixed_key) {
            Some(key) => token.bound_to(key.clone()),
            None => token,
        }
    }
}

/// Replaces the key in builds without the feature: tokens are never bound.
#[cfg(not(feature = "dpop"))]
pub(super) use self::bearer::FetchKey;

/// Bearer tokens only.
#[cfg(not(feature = "dpop"))]
mod bearer {
    use http::HeaderMap;
    use tokio::time::Instant;

    use super::{AccessToken, Binding, SourceContext, TokenEndpoint, TokenError, TokenRequest};

    /// No key.
    pub(in super::super) struct FetchKey;

    impl FetchKey {
        /// Adds nothing.
        pub(in super::super) async fn prove(
            &self,
            _: &mut TokenRequest,
            _: Instant,
            _: &SourceContext<'_>,
        ) -> Result<u32, TokenError> {
            Ok(0)
        }

        /// Records nothing.
        pub(in super::super) fn observe(
            &self,
            _: &TokenRequest,
            _: &HeaderMap,
            _: u32,
            _: &SourceContext<'_>,
        ) -> bool {
            false
        }

        /// Returns the token.
        pub(in super::super) fn bind(&self, token: AccessToken) -> AccessToken {
            token
        }

        /// Returns `false`.
        pub(in super::super) fn is_required(&self) -> bool {
            false
        }
    }

    impl TokenEndpoint {
        /// Returns no key.
        pub(in super::super) fn fetch_key(&self) -> Result<FetchKey, TokenError> {
            Ok(FetchKey)
        }

        /// Returns that nothing is missing.
        pub(in super::super) fn validate_key(&self) -> Result<(), TokenError> {
            Ok(())
        }

        /// Returns that tokens are not bound.
        pub(in super::super) fn binding(&self) -> Binding {
            Binding::None
        }

        /// Returns the token.
        pub(in super::super) fn bind_stored(&self, token: AccessToken) -> AccessToken {
            token
        }
    }
}
