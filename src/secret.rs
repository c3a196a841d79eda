//! Secrets that programs pass in and get back: zeroized on drop, and never shown.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A text that must not be shown: a client secret, an access token, an assertion.
///
/// Cheap to clone; the memory is overwritten with zeros when the last clone is dropped. `Debug` shows nothing of it, and
/// there is no `Display`.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::Secret;
///
/// let secret = Secret::from("open sesame");
///
/// assert_eq!(secret.expose(), "open sesame");
/// assert_eq!(format!("{secret:?}"), "Secret([REDACTED])");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

/// Bytes that must not be shown: a key, an encoded token. The counterpart of [`Secret`].
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::SecretBytes;
///
/// let key = SecretBytes::from(vec![7; 32]);
///
/// assert_eq!(key.expose(), [7; 32]);
/// assert_eq!(format!("{key:?}"), "SecretBytes([REDACTED])");
/// ```
#[derive(Clone)]
pub struct SecretBytes(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// A secret of `text`, whose memory it takes over.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The secret itself. Take care that it gets into no log and no error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl SecretBytes {
    /// A secret of `bytes`, whose memory it takes over.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }

    /// The bytes themselves. Take care that they get into no log and no error.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// From a string. The deserializer's error may quote another value than a string, as serde's errors do.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

impl<const N: usize> From<[u8; N]> for SecretBytes {
    fn from(bytes: [u8; N]) -> Self {
        Self::new(Zeroizing::new(bytes).as_slice())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([REDACTED])")
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        let (text, bytes) = (Secret::from("canary"), SecretBytes::from(*b"canary"));

        assert_eq!((text.expose(), bytes.expose()), ("canary", &b"canary"[..]));
        let shown = format!("{text:?} {:?} {bytes:#?}", Some(&text));
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn a_text_is_taken_over_without_a_copy() {
        let text = String::from("a text of some length");
        let at = text.as_ptr();

        let secret = Secret::from(text);

        assert_eq!(secret.clone().expose().as_ptr(), at);
    }
}
