//! The stored form of a token.
//!
//! The remaining lifetime is stored separately from the serialized token, because the store counts it down by its own
//! clock.
//!
//! The format is JSON with the members of `Record`. A member may be added, and a reader that does not know it ignores
//! it. A change of meaning needs a new name for the entry, so that old processes do not read it.

use std::{borrow::Cow, fmt, io, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{client_credentials::AccessToken, secret::SecretBytes};

/// A token in a [`TokenStore`](super::TokenStore), with its remaining lifetime.
///
/// Only tokens with a lifetime are stored. A token that never expires would remain in the store indefinitely.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::client_credentials::StoredToken;
///
/// /// What a store writes, and for how long: encrypted, and under a keyed hash of its identity.
/// fn write(token: &StoredToken, seal: fn(&[u8]) -> Vec<u8>) -> (Vec<u8>, Duration) {
///     (seal(token.to_bytes().expose()), token.left())
/// }
///
/// /// And what it reads.
/// fn read(sealed: &[u8], left: Duration, open: fn(&[u8]) -> Vec<u8>) -> Option<StoredToken> {
///     StoredToken::from_bytes(&open(sealed), left)
/// }
/// ```
#[derive(Clone)]
pub struct StoredToken {
    /// The token, whose value is UTF-8.
    token: AccessToken,
    /// Lifetime that the issuer gave the token.
    lifetime: Duration,
    /// Remaining lifetime, at most `lifetime`.
    left: Duration,
}

/// The serialized form. Borrows the token's text while it is written.
///
/// Unknown members are ignored when a token is read, so that processes with different versions can share a store.
#[derive(Deserialize, Serialize)]
struct Record<'a> {
    #[serde(borrow)]
    /// Value of the token.
    value: Cow<'a, str>,
    /// Whole lifetime, in milliseconds.
    lifetime_ms: u64,
    /// The issuer's hint when to refresh, in milliseconds after the token was issued.
    refresh_in_ms: Option<u64>,
    /// Granted scope.
    scope: Option<Cow<'a, str>>,
    /// Further members of the token response.
    members: Cow<'a, Map<String, Value>>,
    /// Thumbprint of the certificate that the token is bound to, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

impl StoredToken {
    /// Creates an entry. Returns `None` for a token that cannot be stored: one without a lifetime, or one that is not
    /// UTF-8.
    pub(super) fn new(token: AccessToken, left: Duration) -> Option<Self> {
        // A token that is not UTF-8 has no text to serialize.
        token.expose()?;
        Some(Self {
            lifetime: token.lifetime()?,
            token,
            left,
        })
    }

    /// Returns the token.
    #[must_use]
    pub fn token(&self) -> &AccessToken {
        &self.token
    }

    /// Returns the token's whole lifetime.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Returns the token's remaining lifetime. A store counts it down by its own clock.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.left
    }

    /// Sets the remaining lifetime, limited to the whole lifetime.
    ///
    /// The limit protects against a store whose clock runs differently.
    ///
    /// For a store that keeps its own expiry: pass the time that remains by the store's clock.
    #[must_use]
    pub fn with_left(mut self, left: Duration) -> Self {
        self.left = left.min(self.lifetime);
        self
    }

    /// Serializes the token, without its remaining lifetime. The store must encrypt the result.
    ///
    /// # Panics
    ///
    /// Never: a token's parts can always be written as JSON.
    #[must_use]
    pub fn to_bytes(&self) -> SecretBytes {
        let record = Record {
            value: self.token.expose().unwrap_or_default().into(),
            lifetime_ms: millis(self.lifetime),
            refresh_in_ms: self.token.refresh_in().map(millis),
            scope: self.token.scope().map(Cow::Borrowed),
            members: Cow::Borrowed(self.token.members()),
            certificate: self.token.certificate().map(|known| known.to_string()),
        };
        let mut length = Length(0);
        serde_json::to_writer(&mut length, &record).expect("a record is JSON");
        // Exact capacity, measured by a first pass: a reallocation would leave a copy of the token in freed memory.
        let mut bytes = Vec::with_capacity(length.0);
        serde_json::to_writer(&mut bytes, &record).expect("a record is JSON");
        bytes.into()
    }

    /// Restores a token from the result of [`to_bytes`](Self::to_bytes), with `left` of its lifetime remaining. Returns
    /// `None` if `bytes` holds no token.
    ///
    /// A store that decrypts with the wrong key usually gets `None`; authenticated encryption makes that certain.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], left: Duration) -> Option<Self> {
        let record: Record<'_> = serde_json::from_slice(bytes).ok()?;
        // Zeroized, because `into_owned` copies the token.
        let value = Zeroizing::new(record.value.into_owned());
        let lifetime = Duration::from_millis(record.lifetime_ms);
        let token = AccessToken::new(value.as_str())
            .expires_in(lifetime)
            .with_answer(
                record.scope.map(|scope| scope.into_owned().into()),
                record.refresh_in_ms.map(Duration::from_millis),
                record.members.into_owned(),
            );
        let certificate = record.certificate.map(|text| text.parse());
        let token = match certificate.transpose().ok()? {
            Some(certificate) => token.bound_to_certificate(certificate),
            None => token,
        };
        Some(Self::new(token, lifetime)?.with_left(left))
    }
}

/// Does not print the token.
impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken")
            .field("lifetime", &self.lifetime)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// A writer that counts bytes and discards them.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns whole milliseconds, saturating at `u64::MAX`.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client_credentials::CertificateThumbprint;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_stored_token_round_trips() {
        let Value::Object(members) = json!({ "instance_url": "https://x.example" }) else {
            unreachable!("an object");
        };
        let token = AccessToken::new("to\"ken").expires_in(HOUR);
        let token = token.with_answer(Some("a b".into()), Some(HOUR / 2), members);
        let certificate = CertificateThumbprint::from_bytes([7; 32]);
        let token = token.bound_to_certificate(certificate);
        let stored = StoredToken::new(token.clone(), HOUR).unwrap();

        let back = StoredToken::from_bytes(stored.to_bytes().expose(), HOUR / 3).unwrap();

        assert!(back.token().fingerprint() == token.fingerprint());
        assert_eq!(back.token().lifetime(), Some(HOUR));
        assert_eq!(back.token().refresh_in(), Some(HOUR / 2));
        assert_eq!(back.token().scope(), Some("a b"));
        assert_eq!(
            back.token().member("instance_url"),
            token.member("instance_url")
        );
        assert_eq!(back.token().certificate(), Some(certificate));
        assert_eq!(back.left(), HOUR / 3);
    }

    #[test]
    fn debug_output_of_a_stored_token_hides_its_value() {
        let token = AccessToken::new("canary").expires_in(HOUR);
        let stored = StoredToken::new(token, HOUR / 2).unwrap();

        assert_eq!(
            format!("{stored:?}"),
            "StoredToken { lifetime: 3600s, left: 1800s, .. }"
        );
    }

    #[test]
    fn the_time_left_is_at_most_the_lifetime() {
        let stored = StoredToken::new(AccessToken::new("token").expires_in(HOUR), HOUR).unwrap();

        let back = StoredToken::from_bytes(stored.to_bytes().expose(), 2 * HOUR).unwrap();

        assert_eq!(back.left(), HOUR);
    }

    #[test]
    fn malformed_bytes_are_not_a_token() {
        for garbage in [&b""[..], b"{}", b"\xff\xfe", b"{\"value\":1}"] {
            assert!(StoredToken::from_bytes(garbage, HOUR).is_none());
        }
    }

    #[test]
    fn a_token_without_expiry_is_not_stored() {
        assert!(StoredToken::new(AccessToken::new("key"), HOUR).is_none());
    }
}
