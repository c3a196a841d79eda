//! Secret text and bytes: zeroized on drop and redacted in `Debug`.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A secret text, such as a client secret, an access token or an assertion.
///
/// Cheap to clone: clones share one allocation, which is zeroized when the last clone is dropped. `Debug` prints a
/// placeholder, and there is no `Display`.
///
/// Zeroizing covers this allocation only. A `String` that was grown before it was passed may have left copies of its
/// beginning in freed memory, and so may whatever produced it; allocate its full length at once where that matters.
///
/// Two secrets cannot be compared with `==`, which would take time that depends on their content.
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

/// Secret bytes, such as a key or an encoded token. The counterpart of [`Secret`].
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
    /// Creates a secret from `text`, without copying it if it is a `String`.
    ///
    /// A `&str` is copied. Pass an owned `String` to leave no second copy that is not zeroized.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// Returns the secret text. Keep it out of logs and errors.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::client_credentials::Secret;
    ///
    /// let secret = Secret::new(String::from("open sesame"));
    /// let clone = secret.clone();
    ///
    /// // Both point to one allocation.
    /// assert_eq!(secret.expose().as_ptr(), clone.expose().as_ptr());
    /// ```
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl SecretBytes {
    /// Creates a secret from `bytes`, without copying them if they are a `Vec<u8>`.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }

    /// Returns the secret bytes. Keep them out of logs and errors.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Deserializes from a string. For any other type, the deserializer's error may quote the value, as serde's errors do.
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

/// Copies the text. The original is not zeroized.
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

/// Copies the bytes. The original is not zeroized.
impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

/// Copies the bytes and zeroizes the array that was passed.
impl<const N: usize> From<[u8; N]> for SecretBytes {
    fn from(bytes: [u8; N]) -> Self {
        Self::new(Zeroizing::new(bytes).as_slice())
    }
}

/// Prints a placeholder only.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([REDACTED])")
    }
}

/// Prints a placeholder only.
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
