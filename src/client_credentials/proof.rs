//! Proofs for the attempts of a request (RFC 9449 §7).
//!
//! A proof is signed before the inner service is polled ready, because a signer outside this process is slow, and a
//! call must not hold readiness while it waits. It is valid for one token, one method and one URL. It is made again if
//! the token was replaced meanwhile, or if the inner service took too long to become ready.

use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::TokenFingerprint;

/// A proof for one attempt, signed but not sent.
#[derive(Debug)]
pub(crate) struct Proof {
    /// Value of the `DPoP` header.
    pub(crate) header: HeaderValue,
    /// Hash of the token that it belongs to.
    pub(crate) fingerprint: TokenFingerprint,
    /// When signing began.
    pub(crate) made_at: Instant,
    /// State of the server that the proof was made with; see [`ProofServers`](super::proof_servers::ProofServers).
    pub(crate) generation: u32,
}

impl Proof {
    /// Returns whether the proof is recent at `now`.
    pub(crate) fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.made_at) < MAX_PROOF_AGE
    }
}

/// Maximum number of further attempts of a call because of rejected proofs. A server may replace its nonce at any time,
/// but not for each request.
pub(crate) const MAX_PROOF_RETRIES: u8 = 2;
/// Maximum number of proofs that are made again because the inner service took long to become ready.
pub(crate) const MAX_UNSENT_PROOFS: u8 = 2;
/// Maximum age of a proof when it is sent, if it can be made again. Servers accept proofs for a minute or more.
const MAX_PROOF_AGE: Duration = Duration::from_secs(20);

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use super::*;
    use crate::{Clock, SystemClock, client_credentials::AccessToken};

    #[tokio::test(start_paused = true)]
    async fn a_proof_is_recent_for_20_s() {
        let made_at = SystemClock.now();
        let proof = Proof {
            header: HeaderValue::from_static("proof"),
            fingerprint: AccessToken::new("token").fingerprint(),
            made_at,
            generation: 1,
        };
        for (age, is_recent) in [(0, true), (19_999, true), (20_000, false), (60_000, false)] {
            let now = made_at + Duration::from_millis(age);
            assert_eq!(proof.is_recent(now), is_recent, "{age} ms");
        }
    }
}
