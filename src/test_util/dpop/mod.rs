//! What a server does with DPoP proofs (RFC 9449): verifies them, requires nonces, and rejects those that it has seen.

mod proof;

use std::{collections::HashSet, sync::Mutex, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method, Uri};

pub use self::proof::DpopProof;
use super::script::lock;
use crate::{BoxError, Origin};

/// The nonce and the proofs of a server.
#[derive(Debug, Default)]
pub(super) struct DpopChecks {
    /// Nonce that proofs must contain.
    nonce: Mutex<Option<String>>,
    /// Ids of the proofs so far (`jti`).
    ids: Mutex<HashSet<String>>,
}

/// A rejected proof.
#[derive(Debug)]
pub(super) struct ProofRejected {
    /// Error code (RFC 9449 §5, §8).
    pub(super) code: &'static str,
    /// What is wrong, in words.
    pub(super) reason: String,
}

impl DpopChecks {
    /// Sets the nonce that proofs must contain; `None` for any.
    pub(super) fn set_nonce(&self, nonce: Option<String>) {
        *lock(&self.nonce) = nonce;
    }

    /// Adds the nonce to a response (RFC 9449 §8).
    pub(super) fn announce(&self, headers: &mut HeaderMap) {
        let nonce = lock(&self.nonce).clone();
        if let Some(Ok(nonce)) = nonce.map(HeaderValue::try_from) {
            headers.insert("dpop-nonce", nonce);
        }
    }

    /// Verifies the proof of a request (RFC 9449 §4.3), and returns the thumbprint of its key; `None` for a request without
    /// a proof. `token` is the token that it must belong to.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        method: &Method,
        url: &str,
        token: Option<&str>,
        now: SystemTime,
    ) -> Result<Option<String>, ProofRejected> {
        let mut proofs = headers.get_all("dpop").iter();
        let Some(proof) = proofs.next() else {
            return Ok(None);
        };
        if proofs.next().is_some() {
            return Err(invalid("there are several proofs"));
        }
        let proof = proof.to_str().map_err(invalid)?;
        let proof = DpopProof::verify(proof).map_err(invalid)?;
        let hash = token.map(proof::hash).transpose().map_err(invalid)?;
        let issued_at = proof.claims["iat"].as_u64().unwrap_or_default();
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let Some(id) = proof.claim("jti") else {
            return Err(invalid("`jti` is missing"));
        };
        let wrong = [
            (proof.claim("htm") != Some(method.as_str()), "`htm`"),
            (proof.claim("htu") != Some(url), "`htu`"),
            (proof.claim("ath") != hash.as_deref(), "`ath`"),
            (issued_at.abs_diff(now.as_secs()) > MAX_AGE, "`iat`"),
        ];
        if let Some((_, claim)) = wrong.iter().find(|(wrong, _)| *wrong) {
            return Err(invalid(format!("{claim} is not that of the request")));
        }
        let nonce = lock(&self.nonce).clone();
        if nonce.is_some() && proof.claim("nonce") != nonce.as_deref() {
            return Err(ProofRejected {
                code: "use_dpop_nonce",
                reason: "`nonce` is not the current one".to_owned(),
            });
        }
        if !lock(&self.ids).insert(id.to_owned()) {
            return Err(invalid("`jti` was used before"));
        }
        Ok(Some(proof.thumbprint))
    }
}

/// Returns the URL that the proof of a request names: without query, with the server's own `origin` if the URI has none.
pub(super) fn url(uri: &Uri, origin: &str) -> String {
    let path = uri.path();
    match Origin::of(uri) {
        Some(own) => format!("{own}{path}"),
        None => format!("{origin}{path}"),
    }
}

/// Rejects a proof.
pub(super) fn invalid(reason: impl Into<BoxError>) -> ProofRejected {
    ProofRejected {
        code: "invalid_dpop_proof",
        reason: reason.into().to_string(),
    }
}

/// Maximum difference between the clocks of a client and a server, in seconds.
const MAX_AGE: u64 = 60;
/// Algorithms of the proofs that the doubles accept.
pub(super) const ALGORITHMS: [&str; 9] = [
    "ES256", "ES384", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512",
];
