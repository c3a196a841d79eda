//! What servers require of proofs (RFC 9449 §8, §9): their nonces and their clocks, by origin. [pure]
//!
//! Any response may contain a nonce, which replaces the one before. The `Date` of a response shows the server's clock,
//! so that `iat` is correct even if this machine's clock is not. Both change the generation of the server's state.
//! After a rejected proof, another one is made only if the generation has changed since: otherwise it would be rejected
//! for the same reason.
//!
//! | what an origin sends | effect |
//! |---|---|
//! | `DPoP-Nonce`, well-formed | used in every further proof for the origin |
//! | `DPoP-Nonce`, too long or with other characters | ignored |
//! | `Date`, 3 s to 10 min away from this clock | `iat` follows it |
//! | `Date`, further away | ignored: a server must not obtain proofs for another day |

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderMap;

use crate::{
    Origin, retry_after,
    sync::{Mutex, lock},
};

/// State of the servers that proofs are sent to.
///
/// The lock is held for assignments only. Requests without proofs never take it.
#[derive(Debug, Default)]
pub(crate) struct ProofServers(Mutex<Vec<(Origin, ProofServer)>>);

/// What proofs for one server must contain.
#[derive(Clone, Debug)]
pub(crate) struct ProofServer {
    /// The nonce that the server sent last.
    pub(crate) nonce: Option<Arc<str>>,
    /// Difference of the server's clock from this one, in seconds.
    offset: i64,
    /// Number of changes, beginning with 1.
    pub(crate) generation: u32,
}

impl Default for ProofServer {
    fn default() -> Self {
        Self {
            nonce: None,
            offset: 0,
            generation: 1,
        }
    }
}

impl ProofServer {
    /// Returns the time by the server's clock, in seconds since 1970.
    pub(crate) fn time(&self, wall: SystemTime) -> u64 {
        let since = wall.duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 yields 0, which every server rejects.
        let seconds = since.unwrap_or_default().as_secs();
        seconds.saturating_add_signed(self.offset)
    }
}

impl ProofServers {
    /// Returns what is known of `origin`.
    pub(crate) fn get(&self, origin: &Origin) -> ProofServer {
        let servers = lock(&self.0);
        let found = servers.iter().find(|(known, _)| known == origin);
        found.map(|(_, server)| server.clone()).unwrap_or_default()
    }

    /// Records the nonce and the date of a response. Returns the generation afterwards.
    pub(crate) fn observe(&self, origin: &Origin, headers: &HeaderMap, wall: SystemTime) -> u32 {
        let nonce = nonce(headers);
        let offset = retry_after::date(headers).map(|date| offset(date, wall));
        let mut servers = lock(&self.0);
        let index = match servers.iter().position(|(known, _)| known == origin) {
            Some(index) => index,
            None => {
                // Unreachable for the origins of a layer, which are fewer.
                if servers.len() >= MAX_SERVERS {
                    servers.remove(0);
                }
                servers.push((origin.clone(), ProofServer::default()));
                servers.len() - 1
            }
        };
        let Some((_, server)) = servers.get_mut(index) else {
            return 0;
        };
        let new_nonce = nonce.filter(|nonce| server.nonce.as_deref() != Some(nonce));
        let new_offset = offset.flatten().filter(|new| {
            // `Date` has whole seconds, and the response took some time.
            new.abs_diff(server.offset) >= MIN_OFFSET
        });
        if new_nonce.is_some() || new_offset.is_some() {
            server.generation = server.generation.wrapping_add(1).max(1);
        }
        if let Some(nonce) = new_nonce {
            server.nonce = Some(nonce.into());
        }
        if let Some(offset) = new_offset {
            server.offset = offset;
        }
        server.generation
    }
}

/// Returns the nonce of a response, if it is well-formed (RFC 9449 §8.1). The last one counts if there are several.
fn nonce(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get_all(DPOP_NONCE).iter().next_back()?;
    // nonce = 1*NQCHAR (RFC 6749 Appendix A)
    let is_nqchar = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    let bytes = value.as_bytes();
    let is_valid = (1..=MAX_NONCE_BYTES).contains(&bytes.len()) && bytes.iter().all(is_nqchar);
    std::str::from_utf8(bytes).ok().filter(|_| is_valid)
}

/// Returns the difference of `date` from `wall` in whole seconds. `None` beyond [`MAX_OFFSET`].
fn offset(date: SystemTime, wall: SystemTime) -> Option<i64> {
    let (difference, is_ahead) = match date.duration_since(wall) {
        Ok(ahead) => (ahead, true),
        Err(behind) => (behind.duration(), false),
    };
    if difference > MAX_OFFSET {
        return None;
    }
    let seconds = i64::try_from(difference.as_secs()).ok()?;
    Some(if is_ahead { seconds } else { -seconds })
}

/// Name of the header that carries a nonce (RFC 9449 §8.1).
const DPOP_NONCE: &str = "dpop-nonce";
/// Maximum length of a nonce, in bytes. It is sent back in each proof.
const MAX_NONCE_BYTES: usize = 1024;
/// Maximum number of origins whose state is kept.
const MAX_SERVERS: usize = 64;
/// Minimum change of the difference between two clocks that counts, in seconds.
const MIN_OFFSET: u64 = 3;
/// Maximum difference between two clocks that is corrected.
const MAX_OFFSET: Duration = Duration::from_secs(600);

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use http::{HeaderName, HeaderValue, header::DATE};

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn headers(nonces: &[&str], date: Option<SystemTime>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for nonce in nonces {
            let name = HeaderName::from_static(DPOP_NONCE);
            headers.append(name, HeaderValue::from_str(nonce).unwrap());
        }
        if let Some(date) = date {
            let date = httpdate::fmt_http_date(date);
            headers.insert(DATE, HeaderValue::from_str(&date).unwrap());
        }
        headers
    }

    #[test]
    fn nonces_are_kept_by_origin_and_change_the_generation() {
        let servers = ProofServers::default();
        let [a, b]: [Origin; 2] =
            ["https://a.example", "https://b.example"].map(|text| text.parse().unwrap());
        let sees = |origin: &Origin, nonces: &[&str]| {
            servers.observe(origin, &headers(nonces, None), at(0))
        };
        assert_eq!(servers.get(&a).generation, 1);

        assert_eq!(sees(&a, &["one"]), 2);
        assert_eq!(sees(&a, &["one"]), 2);
        assert_eq!(sees(&a, &["two", "three"]), 3);
        assert_eq!(sees(&a, &[]), 3);
        assert_eq!(sees(&b, &["other"]), 2);

        assert_eq!(servers.get(&a).nonce.as_deref(), Some("three"));
        assert_eq!(servers.get(&b).nonce.as_deref(), Some("other"));
    }

    #[test]
    fn a_malformed_nonce_is_ignored() {
        let servers = ProofServers::default();
        let origin: Origin = "https://a.example".parse().unwrap();
        servers.observe(&origin, &headers(&["good"], None), at(0));

        for wrong in ["", "a b", "a\"b", "a\\b", "a\tb", &"x".repeat(1025)] {
            let generation = servers.observe(&origin, &headers(&[wrong], None), at(0));

            assert_eq!(generation, 2, "{wrong:?}");
            assert_eq!(servers.get(&origin).nonce.as_deref(), Some("good"));
        }
        assert_eq!(
            servers.observe(&origin, &headers(&[&"x".repeat(1024)], None), at(0)),
            3
        );
    }

    #[test]
    fn the_servers_clock_counts_up_to_ten_minutes() {
        let origin: Origin = "https://a.example".parse().unwrap();
        for (server, expected) in [
            (at(0), 0),
            (at(2), 0),
            (at(600), 600),
            (at(601), 0),
            (at(86_400), 0),
        ] {
            let servers = ProofServers::default();
            servers.observe(&origin, &headers(&[], Some(server)), at(0));

            let known = servers.get(&origin);
            assert_eq!(known.time(at(7)), 1_800_000_007 + expected, "{server:?}");
        }
        let servers = ProofServers::default();
        servers.observe(&origin, &headers(&[], Some(at(0))), at(100));
        assert_eq!(servers.get(&origin).time(at(100)), 1_800_000_000);
        // Back to this machine's clock.
        servers.observe(&origin, &headers(&[], Some(at(100))), at(100));
        assert_eq!(servers.get(&origin).time(at(100)), 1_800_000_100);
    }

    #[test]
    fn the_number_of_servers_is_bounded() {
        let servers = ProofServers::default();
        for port in 1..=200 {
            let origin = format!("https://a.example:{port}").parse().unwrap();
            servers.observe(&origin, &headers(&["x"], None), at(0));
        }

        assert_eq!(lock(&servers.0).len(), MAX_SERVERS);
    }
}
