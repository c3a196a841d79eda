//! The keys of a store: they derive the names of entries and encrypt tokens.
//!
//! A key is never used directly. HMAC derives one subkey for names, one for tags and one for encryption, so that a
//! value computed for one purpose reveals nothing about another. The names of entries are keyed as well: a reader of
//! the store cannot test guesses of a client secret against them.
//!
//! ```text
//! key ─ HMAC("tower-m2m 1 index") ─▶ index ─ HMAC(cache key) ──────────▶ name of the entry
//!     ─ HMAC("tower-m2m 1 tag") ───▶ tag ─── HMAC(entry, fingerprint) ▶ tag of the token
//!     ─ HMAC("tower-m2m 1 seal") ──▶ seal ── XChaCha20-Poly1305 ──────▶ sealed token
//! ```

use std::fmt;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{CacheKey, StoreError};
use crate::secret::SecretBytes;

/// The named keys of a store. The first key encrypts; every key can decrypt. Not cheap to clone.
///
/// To rotate a key without downtime, deploy three times: add the new key as a further one; make it the first and keep
/// the old one after it; remove the old one. A rotation costs at most two token requests.
///
/// Generate a key with `openssl rand -base64 32`, and keep it like a client secret: with it and access to the store,
/// all shared tokens can be read. A key is not derived from a passphrase; a guessable one would be open to offline
/// attacks.
///
/// # Examples
///
/// ```
/// use tower_m2m::store::StoreKeyring;
///
/// # fn main() -> Result<(), tower_m2m::store::StoreError> {
/// # let text = "2026-11:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// // STORE_KEYS="2026-11:<base64 of 32 bytes> 2026-08:<base64 of 32 bytes>"
/// let keys = StoreKeyring::parse(text)?;
/// # drop(keys);
///
/// assert!(StoreKeyring::parse("").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StoreKeyring {
    /// The key that writes.
    active: Key,
    /// Keys that only read, in the order in which they were added.
    others: Vec<Key>,
}

/// Subkeys derived from one key, one for each purpose.
///
/// The original key is not kept.
#[derive(Clone)]
pub(crate) struct Key {
    /// Name of the key, 1 to 64 characters. Empty only for the store without encryption.
    id: String,
    /// Derives the names of entries.
    index: Zeroizing<[u8; 32]>,
    /// Derives the tags by which tokens are compared.
    tag: Zeroizing<[u8; 32]>,
    /// Encrypts tokens. `None` if tokens are stored unencrypted.
    seal: Option<Zeroizing<[u8; 32]>>,
}

/// Address of an entry: one key and one cache key.
///
/// Computed for each call, which costs one HMAC.
pub(crate) struct Entry<'a> {
    /// The key that the entry belongs to.
    key: &'a Key,
    /// HMAC-SHA-256 of the cache key under the key's index subkey.
    key_hash: [u8; 32],
}

impl StoreKeyring {
    /// Creates a key ring with one key, of at least 32 random bytes.
    ///
    /// `id` names the key: 1 to 64 ASCII letters, digits, `-`, `_` and `.`.
    ///
    /// The name identifies the key in errors and in `Debug`. It is bound to each sealed token, so that it must stay the
    /// same as long as the key is used.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`](super::StoreErrorKind::Configuration), if the key is too short or the name is
    /// invalid.
    pub fn new(id: impl Into<String>, key: impl Into<SecretBytes>) -> Result<Self, StoreError> {
        Ok(Self {
            active: Key::new(id.into(), &key.into())?,
            others: Vec::new(),
        })
    }

    /// Adds a key that only reads.
    ///
    /// Each further key costs one more read of the store for a token that is not found.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and if the ring already has a key with this name.
    pub fn with_key(
        mut self,
        id: impl Into<String>,
        key: impl Into<SecretBytes>,
    ) -> Result<Self, StoreError> {
        let key = Key::new(id.into(), &key.into())?;
        if self.all().any(|known| known.id == key.id) {
            return Err(invalid(format!("has two keys named {:?}", key.id)));
        }
        self.others.push(key);
        Ok(self)
    }

    /// Parses keys written as `name:base64`, separated by spaces, commas or line breaks, as in an environment variable.
    /// The first key writes. The base64 is the standard alphabet with padding (RFC 4648 §4).
    ///
    /// The order matters: to rotate, move the new name to the front.
    ///
    /// # Errors
    ///
    /// As for [`with_key`](Self::with_key), and if `text` contains no key, so that a missing variable never disables
    /// encryption.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let mut keys = text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (id, key) = part
                    .split_once(':')
                    .ok_or_else(|| invalid("has a key that is not written as `name:base64`"))?;
                let key = STANDARD
                    .decode(key)
                    .map_err(|_| invalid(format!("has a key, {id:?}, that is not base64")))?;
                Ok::<_, StoreError>((id.to_owned(), SecretBytes::from(key)))
            });
        // An empty text is usually an unset variable. Failing here prevents storing tokens unencrypted by mistake.
        let Some(first) = keys.next() else {
            return Err(invalid(
                "has no key to encrypt tokens; add a key of 32 random bytes (`openssl rand -base64 32`), or use \
                 `StoreKeyring::dangerously_unencrypted`",
            ));
        };
        let (id, key) = first?;
        // Duplicate names are rejected by `with_key`.
        keys.try_fold(Self::new(id, key)?, |all, next| {
            let (id, key) = next?;
            all.with_key(id, key)
        })
    }

    /// Stores tokens unencrypted. Anyone who can read the store can use the tokens, and can test guesses of client
    /// secrets offline.
    ///
    /// For tests, and for a store that encrypts by itself and that no other program can read.
    #[must_use]
    pub fn dangerously_unencrypted() -> Self {
        // The subkeys are derived from a public constant, so that entries still have names and tags.
        let public = Key::derive(String::new(), b"unencrypted");
        Self {
            active: Key {
                seal: None,
                ..public
            },
            others: Vec::new(),
        }
    }

    /// Returns the key that writes.
    pub(crate) fn active(&self) -> &Key {
        &self.active
    }

    /// Returns all keys, the one that writes first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.active).chain(&self.others)
    }
}

impl Key {
    /// Checks the name and the length of a key, and derives its subkeys.
    fn new(id: String, key: &SecretBytes) -> Result<Self, StoreError> {
        // A name is part of the associated data and of `Debug`, so it must be short and printable.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
            return Err(invalid(
                "has a key whose name does not consist of 1 to 64 letters, digits, `-`, `_` and `.`",
            ));
        }
        // A passphrase would be open to guessing; 32 random bytes are not.
        if key.expose().len() < 32 {
            return Err(invalid(format!("has a key, {id:?}, shorter than 32 bytes")));
        }
        Ok(Self::derive(id, key.expose()))
    }

    /// Derives an independent subkey for each purpose.
    ///
    /// The prefix `tower-m2m 1 ` separates these subkeys from any other use of the key, and from later versions.
    fn derive(id: String, key: &[u8]) -> Self {
        let part = |purpose: &[u8]| Zeroizing::new(mac(key, &[b"tower-m2m 1 ", purpose]));
        Self {
            id,
            index: part(b"index"),
            tag: part(b"tag"),
            seal: Some(part(b"seal")),
        }
    }

    /// Returns the entry of a cache key under this key.
    pub(crate) fn entry(&self, identity: &CacheKey) -> Entry<'_> {
        Entry {
            key: self,
            key_hash: mac(&self.index[..], &[identity.expose()]),
        }
    }
}

impl Entry<'_> {
    /// Returns the name of the entry in the store: base64url without padding, 43 characters.
    pub(crate) fn name(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key_hash)
    }

    /// Returns a tag that identifies a token without revealing it. It depends on the entry, so that equal tokens of
    /// different entries have different tags.
    ///
    /// The tag is truncated to 16 bytes. It is stored in the clear, so that a script can compare it on the server.
    pub(crate) fn tag(&self, token: &[u8]) -> [u8; 16] {
        let whole = mac(&self.key.tag[..], &[&self.key_hash, token]);
        let mut tag = [0; 16];
        tag.copy_from_slice(&whole[..16]);
        tag
    }

    /// Returns the encryption key, or `None` if tokens are stored unencrypted.
    pub(crate) fn seal_key(&self) -> Option<&[u8; 32]> {
        self.key.seal.as_deref()
    }

    /// Returns the associated data of a sealed token: format, name of the key, entry and tag. It binds the ciphertext
    /// to its place.
    ///
    /// The fields have a fixed length or are preceded by their length, so the concatenation is unambiguous.
    pub(crate) fn associated_data(&self, format: &[u8], tag: &[u8; 16]) -> Vec<u8> {
        // `Key::new` limits the name to 64 bytes, so the cast does not truncate.
        let length = [self.key.id.len() as u8];
        [format, &length, self.key.id.as_bytes(), &self.key_hash, tag].concat()
    }
}

/// Returns the HMAC-SHA-256 (RFC 2104) of the concatenated `parts`.
///
/// # Panics
///
/// Never: HMAC accepts keys of any length.
fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Creates a configuration error.
fn invalid(what: impl Into<std::borrow::Cow<'static, str>>) -> StoreError {
    StoreError::configuration(what)
}

/// Prints the names of the keys only.
impl fmt::Debug for StoreKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.all().map(|key| &key.id))
            .finish()
    }
}
