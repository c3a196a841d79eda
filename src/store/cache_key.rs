//! The key under which a store keeps an entry.
//!
//! The key must be complete: if a setting that affects the stored value is missing from it, two configurations share
//! one value.

use std::fmt;

use zeroize::Zeroizing;

/// A cache key for one configuration: length-prefixed named fields, so that different configurations never collide.
///
/// It contains secrets. A store must put it through a keyed hash and use only the hash as the name of the entry. The
/// memory is zeroized on drop, and `Debug` does not print the fields.
///
/// # What belongs in a key
///
/// Everything that affects what is stored, and nothing else. A part that is missing lets two configurations share a
/// token; a part that differs between processes, such as a host name, keeps them from sharing one.
///
/// # Examples
///
/// ```
/// use tower_m2m::store::CacheKey;
///
/// /// For a `TokenSource` that calls a metadata server.
/// fn identity(account: &str, audience: &str) -> CacheKey {
///     CacheKey::new("metadata").field("account", account).field("audience", audience)
/// }
///
/// assert_ne!(identity("a", "bc").expose(), identity("ab", "c").expose());
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct CacheKey(Zeroizing<Vec<u8>>);

impl CacheKey {
    /// Creates a key of the given kind, without further fields.
    ///
    /// The kind separates the keys of different types of sources: use a name that no other source has.
    #[must_use]
    pub fn new(kind: impl AsRef<str>) -> Self {
        Self(Zeroizing::default()).field("kind", kind.as_ref())
    }

    /// Appends a field. The order of fields matters. A name may be repeated.
    ///
    /// Each part is preceded by its length as 8 bytes, big-endian, so that the boundaries between parts are
    /// unambiguous.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        // The name is part of the key, so that equal values of different settings differ.
        self.append(name.as_bytes());
        self.append(value.as_ref());
        self
    }

    /// Appends another key as a field.
    ///
    /// The boundaries of the inner key are kept, so that its fields cannot be confused with those of the outer one.
    #[must_use]
    pub fn nested(self, name: &str, other: &Self) -> Self {
        self.field(name, other.expose())
    }

    /// Returns the encoded fields, as input for a keyed hash. Equal keys have equal bytes in every process and every
    /// version of this crate.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Appends `part` with its length in front.
    ///
    /// Reallocates explicitly, so that the previous buffer is zeroized when it is dropped. `Vec` would free it as it
    /// is.
    fn append(&mut self, part: &[u8]) {
        let length = (part.len() as u64).to_be_bytes();
        let wanted = self.0.len() + length.len() + part.len();
        if self.0.capacity() < wanted {
            // At least 1 KiB, so that a usual key is built with a single allocation.
            let mut larger = Zeroizing::new(Vec::with_capacity(wanted.max(1024)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(&length);
        self.0.extend_from_slice(part);
    }
}

/// Does not print the fields, which contain secrets.
impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unambiguous() {
        let identity = |fields: &[(&str, &str)]| {
            fields
                .iter()
                .fold(CacheKey::new("x"), |identity, (name, value)| {
                    identity.field(name, value)
                })
        };

        let all = [
            identity(&[("a", "bc")]),
            identity(&[("ab", "c")]),
            identity(&[("a", "b"), ("c", "")]),
            identity(&[("a", ""), ("b", "c")]),
            CacheKey::new("x").nested("a", &identity(&[("b", "c")])),
        ];

        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other != one));
        }
        assert!(identity(&[("a", "bc")]) == all[0]);
    }
}
