//! Under what something is stored.

use std::fmt;

use zeroize::Zeroizing;

/// What tells what is stored for one configuration from that of all others: a list of named fields, each with its length in
/// front, so that no two lists look alike.
///
/// It holds secrets: a store puts it through a keyed hash and stores that only. Its memory is
/// zeroised when it is dropped, and `Debug` shows nothing of it.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::CacheIdentity;
///
/// /// For a [`TokenSource`](tower_m2m::client_credentials::TokenSource) that calls a metadata server.
/// fn identity(account: &str, audience: &str) -> CacheIdentity {
///     CacheIdentity::new("metadata").field("account", account).field("audience", audience)
/// }
///
/// assert_ne!(identity("a", "bc").expose(), identity("ab", "c").expose());
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct CacheIdentity(Zeroizing<Vec<u8>>);

impl CacheIdentity {
    /// An identity of this kind, without fields.
    #[must_use]
    pub fn new(kind: impl AsRef<str>) -> Self {
        Self(Zeroizing::default()).field("kind", kind.as_ref())
    }

    /// Adds a field. The order matters, and a name may be repeated.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.append(name.as_bytes());
        self.append(value.as_ref());
        self
    }

    /// Adds another identity as a field.
    #[must_use]
    pub fn nested(self, name: &str, other: &Self) -> Self {
        self.field(name, other.expose())
    }

    /// The fields as bytes, equal for equal identities in every process and version. For a keyed hash.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Grows by hand, so that the old buffer is wiped.
    fn append(&mut self, part: &[u8]) {
        let length = (part.len() as u64).to_be_bytes();
        let wanted = self.0.len() + length.len() + part.len();
        if self.0.capacity() < wanted {
            let mut larger = Zeroizing::new(Vec::with_capacity(wanted.max(1024)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(&length);
        self.0.extend_from_slice(part);
    }
}

impl fmt::Debug for CacheIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheIdentity(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let identity = |fields: &[(&str, &str)]| {
            fields
                .iter()
                .fold(CacheIdentity::new("x"), |identity, (name, value)| {
                    identity.field(name, value)
                })
        };

        let all = [
            identity(&[("a", "bc")]),
            identity(&[("ab", "c")]),
            identity(&[("a", "b"), ("c", "")]),
            identity(&[("a", ""), ("b", "c")]),
            CacheIdentity::new("x").nested("a", &identity(&[("b", "c")])),
        ];

        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other != one));
        }
        assert!(identity(&[("a", "bc")]) == all[0]);
    }
}
