//! Proofs for the attempts of a call: when one is signed, and what a response says about it (RFC 9449 §7 and §9).
//!
//! A bearer token needs none of this: `is_bound` is `false`, and the record of its attempts has no proof.

use std::sync::Arc;

use http::{Method, Response, StatusCode, Uri};

use super::{
    TokenError,
    auth::{Auth, AuthCall, SentWith},
    challenge,
    proof::Proof,
    prover::ProofTarget,
};
use crate::{BoxError, boxed::BoxFuture, clock::add_capped};

impl Auth {
    /// Signs a proof for the next attempt of `call`. `None` if the cached token is not bound to a key.
    pub(crate) fn prove(
        &self,
        call: &mut AuthCall,
        method: &Method,
        uri: &Uri,
    ) -> Option<BoxFuture<'static, Result<Proof, BoxError>>> {
        if !call.is_bound {
            return None;
        }
        let tokens = call.tokens(self);
        let clock = &tokens.clock;
        let now = clock.now();
        let (token, _) = tokens.get_cached(now)?;
        let prover = Arc::clone(token.token.prover()?);
        let origin = self.authorizer.origin(call.origin())?;
        let server = self.proof_servers.get(origin);
        let limit = self.refresher.cache.settings().fetch_timeout;
        let target = ProofTarget {
            method: method.as_str().to_owned(),
            // The path as it is sent: servers compare it byte by byte (RFC 9449 §4.3).
            url: format!("{origin}{}", path(uri)),
            issued_at: server.time(clock.wall_clock()),
            nonce: server.nonce,
            now,
            deadline: add_capped(now, limit),
        };
        let (generation, fingerprint) = (server.generation, token.fingerprint);
        Some(Box::pin(async move {
            let header = prover.prove(target).await;
            let header = header.map_err(TokenError::of_proof)?;
            Ok(Proof {
                header,
                fingerprint,
                made_at: now,
                generation,
            })
        }))
    }

    /// Records what a response to a request with a proof says about proofs. Returns whether the response rejects the
    /// proof, and another one may be accepted.
    pub(crate) fn on_proof_response<RB>(
        &self,
        response: &Response<RB>,
        call: &AuthCall,
        sent: SentWith,
    ) -> bool {
        if sent.proof == 0 {
            return false;
        }
        let Some(origin) = self.authorizer.origin(call.origin()) else {
            return false;
        };
        let headers = response.headers();
        let wall = self.refresher.clock.wall_clock();
        let generation = self.proof_servers.observe(origin, headers, wall);
        generation != sent.proof
            && response.status() == StatusCode::UNAUTHORIZED
            && call.may_prove_again()
            && challenge::rejects_proof(headers)
    }
}

/// Returns the path of a URI, which is never empty (RFC 9110 §4.2.3).
fn path(uri: &Uri) -> &str {
    match uri.path() {
        "" => "/",
        path => path,
    }
}
