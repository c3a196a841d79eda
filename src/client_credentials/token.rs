//! The access token, which is never printed.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    CertificateThumbprint, TokenError, TokenErrorKind,
    prover::{DPOP_SCHEME, Prover},
};
use crate::secret::Secret;

/// An access token (RFC 6749 §1.4) and its metadata. Cheap to clone.
///
/// The value can be sent but not printed: there is no `Display`, and `Debug` omits it. Its memory is zeroized when its
/// last user drops it. Copies that an HTTP client makes cannot be zeroized.
///
/// # As a source
///
/// An `AccessToken` is itself a [`TokenSource`](super::TokenSource), for an API key that does not expire.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::client_credentials::AccessToken;
///
/// let token = AccessToken::new("secret").expires_in(Duration::from_secs(300));
///
/// assert!(!format!("{token:?}").contains("secret"));
/// ```
#[derive(Clone)]
pub struct AccessToken(Arc<Inner>);

/// Contents of an [`AccessToken`].
#[derive(Clone)]
struct Inner {
    /// The secret. Zeroized when the last reference is dropped.
    value: Bytes,
    /// Lifetime, counted from the token request. `None` for a token that does not expire.
    expires_in: Option<Duration>,
    /// Time after which the server wants the token to be refreshed.
    refresh_in: Option<Duration>,
    /// When the token was requested; `None` if the source does not know.
    sent_at: Option<Instant>,
    /// The scope that was granted, if the server named it.
    scope: Option<Box<str>>,
    /// Other members of the response, without secrets.
    members: Map<String, Value>,
    /// Whether only this process may use the token.
    unshareable: bool,
    /// The key that the token is bound to; `None` for a bearer token.
    prover: Option<Arc<dyn Prover>>,
    /// The certificate that the token is bound to, if it is known to be bound to one.
    certificate: Option<CertificateThumbprint>,
}

/// A token, and how this process obtained it.
#[derive(Debug)]
pub(crate) struct Acquired {
    /// The token.
    pub(crate) token: AccessToken,
    /// How this process obtained it.
    pub(crate) provenance: Provenance,
}

/// How this process obtained a token.
///
/// | provenance | event | ends a forced refresh that joined another fetch |
/// |---|---|---|
/// | `Issued` | `Fetched` | yes |
/// | `Shared` | `LoadedFromStore` | no |
/// | `Unchanged` | `RefreshSuppressed` | no |
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Provenance {
    /// The source issued it to this process.
    Issued,
    /// The source issued it to another process, which shared it.
    Shared,
    /// It is the rejected token: it is too soon to fetch another.
    Unchanged,
}

impl From<AccessToken> for Acquired {
    fn from(token: AccessToken) -> Self {
        Self {
            token,
            provenance: Provenance::Issued,
        }
    }
}

impl AccessToken {
    /// Creates a token that does not expire. [`expires_in`](Self::expires_in) sets a lifetime.
    #[must_use]
    pub fn new(value: impl Into<Secret>) -> Self {
        let value = value.into();
        Self(Arc::new(Inner {
            value: secret_bytes(value.expose().as_bytes()),
            expires_in: None,
            refresh_in: None,
            sent_at: None,
            scope: None,
            members: Map::new(),
            unshareable: false,
            prover: None,
            certificate: None,
        }))
    }

    /// Sets the lifetime, counted from the token request. Default: none, the token does not expire.
    ///
    /// Set it in a source of your own. Without it, only a 401 leads to a new token.
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        self.change(|inner| inner.expires_in = Some(lifetime))
    }

    /// Sets the prover of the token.
    #[cfg(feature = "dpop")]
    pub(crate) fn with_prover(self, prover: impl Prover + 'static) -> Self {
        self.change(|inner| inner.prover = Some(Arc::new(prover)))
    }

    /// Returns the bytes of the token.
    #[cfg(feature = "dpop")]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0.value
    }

    /// Returns the prover of the token; `None` for a bearer token.
    pub(crate) fn prover(&self) -> Option<&Arc<dyn Prover>> {
        self.0.prover.as_ref()
    }

    /// Binds the token to the certificate with this thumbprint (RFC 8705 §3): the API's client must present it. Default:
    /// none.
    ///
    /// For a source of your own. [`TokenEndpoint::certificate_bound`](super::TokenEndpoint::certificate_bound) does it by
    /// itself.
    #[must_use]
    pub fn bound_to_certificate(self, certificate: CertificateThumbprint) -> Self {
        self.change(|inner| inner.certificate = Some(certificate))
    }

    /// Returns the thumbprint of the certificate that the token is bound to; `None` if it is not known to be bound to
    /// one.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateThumbprint> {
        self.0.certificate
    }

    /// Returns the lifetime, counted from the token request; `None` for a token that does not expire.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.0.expires_in
    }

    /// Returns the scope that was granted, if the server named it. RFC 6749 §5.1: if absent, it is the requested scope.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }

    /// Returns another member of the server's response, such as Salesforce's `instance_url`. Never a secret: tokens,
    /// secrets and JWTs are omitted.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0.members.get(name)
    }

    /// Returns the secret itself. Keep it out of logs and errors.
    ///
    /// `None` if it is not UTF-8, which is possible only with your own [`TokenSource`](super::TokenSource).
    ///
    /// Use it where a header of this layer cannot be sent, such as the first message of a WebSocket.
    #[must_use]
    pub fn expose(&self) -> Option<&str> {
        std::str::from_utf8(&self.0.value).ok()
    }

    /// Returns a stable hash of the value, which distinguishes a rejected token from its successor.
    #[must_use]
    pub fn fingerprint(&self) -> TokenFingerprint {
        TokenFingerprint::of(&self.0.value)
    }

    /// Returns the other members of the server's response.
    pub(crate) fn members(&self) -> &Map<String, Value> {
        &self.0.members
    }

    /// Returns whether other processes may use the token.
    pub(crate) fn is_shareable(&self) -> bool {
        !self.0.unshareable
    }

    /// Restricts the token to this process: it is bound to a key, or was issued for credentials that have been
    /// replaced.
    ///
    /// The token remains usable in this process. It is not written to a store.
    pub(crate) fn unshareable(self) -> Self {
        self.change(|inner| inner.unshareable = true)
    }

    /// Returns when the token was requested, if the source knows.
    pub(crate) fn sent_at(&self) -> Option<Instant> {
        self.0.sent_at
    }

    /// Sets when the token was requested.
    ///
    /// The lifetime counts from this time. Without it, it counts from the start of the fetch.
    pub(crate) fn with_sent_at(self, sent_at: Instant) -> Self {
        self.change(|inner| inner.sent_at = Some(sent_at))
    }

    /// Returns the time after which the server wants the token to be refreshed.
    pub(crate) fn refresh_in(&self) -> Option<Duration> {
        self.0.refresh_in
    }

    /// Sets what the server's response says about the token.
    pub(crate) fn with_answer(
        self,
        scope: Option<Box<str>>,
        refresh_in: Option<Duration>,
        members: Map<String, Value>,
    ) -> Self {
        self.change(|inner| {
            inner.scope = scope;
            inner.refresh_in = refresh_in;
            inner.members = members;
        })
    }

    /// Returns the header value that carries this token, marked sensitive. A `scheme` precedes it with a space.
    ///
    /// Called once for each token, when it is published.
    ///
    /// # Errors
    ///
    /// The token is empty, or contains characters that a header value must not contain.
    pub(crate) fn header_value(&self, scheme: Option<&str>) -> Result<HeaderValue, TokenError> {
        let scheme = match self.0.prover {
            Some(_) => Some(DPOP_SCHEME),
            None => scheme,
        };
        let bytes = match scheme {
            None => self.0.value.clone(),
            Some(scheme) => {
                // Allocated with its final size: a reallocation would leave a copy that is not zeroized.
                let mut value =
                    Zeroizing::new(Vec::with_capacity(scheme.len() + 1 + self.0.value.len()));
                value.extend_from_slice(scheme.as_bytes());
                value.push(b' ');
                value.extend_from_slice(&self.0.value);
                Bytes::from_owner(value)
            }
        };
        if self.0.value.is_empty() {
            return Err(unsendable("is empty"));
        }
        let mut value = HeaderValue::from_maybe_shared(bytes)
            .map_err(|_| unsendable("contains a line break or another control character"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Changes the contents, of a copy if they are shared.
    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires_in", &self.0.expires_in)
            .field("scope", &self.0.scope)
            .finish_non_exhaustive()
    }
}

/// A stable hash of a token's value, by which a rejected token is recognized.
///
/// Equal for equal tokens, in every process and version of this crate. It is not printed: a hash of a short key would
/// reveal the key.
///
/// Not a cryptographic hash: two different tokens have the same one with negligible probability, unless they are
/// constructed for it. Only the handling of 401s and of shared entries depends on it.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::AccessToken;
///
/// let (one, same) = (AccessToken::new("secret"), AccessToken::new("secret"));
///
/// assert_eq!(one.fingerprint(), same.fingerprint());
/// assert_ne!(one.fingerprint(), AccessToken::new("another").fingerprint());
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct TokenFingerprint([u8; 16]);

impl TokenFingerprint {
    /// Returns the hash, for a [`TokenStore`](super::TokenStore). The hash of a short token reveals the token: store it
    /// only under a keyed hash.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Computes the 128-bit FNV-1a hash of `value`.
    fn of(value: &[u8]) -> Self {
        const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let hash = value.iter().fold(OFFSET, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
        });
        Self(hash.to_be_bytes())
    }
}

impl fmt::Debug for TokenFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenFingerprint(..)")
    }
}

/// Copies `value` into bytes that are zeroized when the last reference is dropped.
///
/// The memory is zeroized only if no HTTP client has copied it.
pub(crate) fn secret_bytes(value: &[u8]) -> Bytes {
    Bytes::from_owner(Zeroizing::new(value.to_vec()))
}

/// Creates the error for a token that cannot be a header value.
fn unsendable(what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::InvalidResponse,
        false,
        format!("returned a token that cannot be sent: it {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_token_hides_its_value() {
        let token = AccessToken::new("canary").expires_in(Duration::from_secs(300));
        let token = token.with_answer(Some("read".into()), None, Map::new());

        assert_eq!(
            format!("{token:?}"),
            r#"AccessToken { expires_in: Some(300s), scope: Some("read"), .. }"#
        );
        assert_eq!(format!("{:?}", token.fingerprint()), "TokenFingerprint(..)");
    }

    #[test]
    fn the_fingerprint_is_stable_across_processes_and_versions() {
        // The vectors of FNV-1a's authors.
        for (value, identity) in [
            ("", 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128),
            ("a", 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964),
            ("foobar", 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18),
        ] {
            let token = AccessToken::new(value);
            assert_eq!(token.fingerprint().to_bytes(), identity.to_be_bytes());
        }
    }

    #[test]
    fn a_token_may_be_shared_until_it_is_said_that_it_may_not() {
        let token = AccessToken::new("token");
        assert!(token.is_shareable());

        let bound = token.clone().unshareable();

        assert!(!bound.is_shareable() && !bound.expires_in(Duration::ZERO).is_shareable());
        assert!(token.is_shareable());
    }
}
