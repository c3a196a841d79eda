//! The interface between the layer and the key of a token (RFC 9449).
//!
//! A token that is bound to a key contains its [`Prover`], so that token and key are replaced together. The layer
//! requests a proof from it before each attempt. Only the feature `dpop` has a prover; the layer itself needs no
//! cryptography.

use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::TokenError;
use crate::boxed::BoxFuture;

/// Makes proofs with the key that a token is bound to.
pub(crate) trait Prover: fmt::Debug + Send + Sync {
    /// Returns the value of the `DPoP` header for one attempt at an API.
    ///
    /// # Errors
    ///
    /// The error of the signer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops that of the signer. Its proof is then never sent.
    fn prove(
        self: Arc<Self>,
        target: ProofTarget,
    ) -> BoxFuture<'static, Result<HeaderValue, TokenError>>;
}

/// The attempt that a proof is for (RFC 9449 §4.2).
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "dpop"), expect(dead_code))]
pub(crate) struct ProofTarget {
    /// Method of the request, `htm`.
    pub(crate) method: String,
    /// URL of the request without query and fragment, `htu`.
    pub(crate) url: String,
    /// Nonce of the server, if it has sent one.
    pub(crate) nonce: Option<Arc<str>>,
    /// Seconds since 1970 by the server's clock, `iat`.
    pub(crate) issued_at: u64,
    /// Now.
    pub(crate) now: Instant,
    /// When signing is given up.
    pub(crate) deadline: Instant,
}

/// Name of the header that carries a proof (RFC 9449 §4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// Authentication scheme of tokens that are bound to a key (RFC 9449 §7.1).
pub(crate) const DPOP_SCHEME: &str = "DPoP";
