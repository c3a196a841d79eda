//! The keys of a store: under which names tokens are kept, and what they are encrypted with.

use std::fmt;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{CacheIdentity, StoreError};
use crate::secret::SecretBytes;

/// The keys that a store encrypts with, each with a name. The first one writes; all read. Cheap to clone it is not.
///
/// To rotate: give every process the new key as a further one, then as the first with the old one behind it, and then
/// leave out the old one. At worst that costs two token requests.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::StoreKeys;
///
/// # fn main() -> Result<(), tower_m2m::client_credentials::StoreError> {
/// # let text = "2026-11:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// // STORE_KEYS="2026-11:<base64 of 32 bytes> 2026-08:<base64 of 32 bytes>"
/// let keys = StoreKeys::parse(text)?;
/// # drop(keys);
///
/// assert!(StoreKeys::parse("").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StoreKeys {
    active: Key,
    others: Vec<Key>,
}

/// One key, as what is derived from it.
#[derive(Clone)]
pub(crate) struct Key {
    id: String,
    index: Zeroizing<[u8; 32]>,
    tag: Zeroizing<[u8; 32]>,
    /// None where tokens are stored as they are.
    seal: Option<Zeroizing<[u8; 32]>>,
}

/// A place in the store: one key, one identity.
pub(crate) struct Entry<'a> {
    key: &'a Key,
    cache_key: [u8; 32],
}

impl StoreKeys {
    /// One key, of at least 32 bytes at random. `id` names it; letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`](super::StoreErrorKind::Configuration), if the key is too short or the name
    /// holds something else.
    pub fn new(id: impl Into<String>, key: impl Into<SecretBytes>) -> Result<Self, StoreError> {
        Ok(Self {
            active: Key::new(id.into(), &key.into())?,
            others: Vec::new(),
        })
    }

    /// Adds a key that reads only.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and if there is a key with this name already.
    pub fn and(
        mut self,
        id: impl Into<String>,
        key: impl Into<SecretBytes>,
    ) -> Result<Self, StoreError> {
        let key = Key::new(id.into(), &key.into())?;
        if self.all().any(|known| known.id == key.id) {
            return Err(wrong(format!("has two keys named {:?}", key.id)));
        }
        self.others.push(key);
        Ok(self)
    }

    /// Keys written as `name:base64`, with spaces, commas or line breaks between them, as in an environment variable. The
    /// first one writes.
    ///
    /// # Errors
    ///
    /// As for [`and`](Self::and), and if there is none: tokens are not stored without a key by accident.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let mut keys = text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (id, key) = part
                    .split_once(':')
                    .ok_or_else(|| wrong("has a key that is not written as `name:base64`"))?;
                let key = STANDARD
                    .decode(key)
                    .map_err(|_| wrong(format!("has a key, {id:?}, that is not base64")))?;
                Ok::<_, StoreError>((id.to_owned(), SecretBytes::from(key)))
            });
        let Some(first) = keys.next() else {
            return Err(wrong(
                "has no key to encrypt tokens with; give it one of 32 bytes at random (`openssl rand -base64 32`), or use \
                 `StoreKeys::dangerously_unencrypted`",
            ));
        };
        let (id, key) = first?;
        keys.try_fold(Self::new(id, key)?, |all, next| {
            let (id, key) = next?;
            all.and(id, key)
        })
    }

    /// No key: whoever reads the store has the tokens, and can try out client secrets.
    #[must_use]
    pub fn dangerously_unencrypted() -> Self {
        let public = Key::derive(String::new(), b"unencrypted");
        Self {
            active: Key {
                seal: None,
                ..public
            },
            others: Vec::new(),
        }
    }

    pub(crate) fn active(&self) -> &Key {
        &self.active
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.active).chain(&self.others)
    }
}

impl Key {
    fn new(id: String, key: &SecretBytes) -> Result<Self, StoreError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
            return Err(wrong(
                "has a key whose name is not of 1 to 64 letters, digits, `-`, `_` and `.`",
            ));
        }
        if key.expose().len() < 32 {
            return Err(wrong(format!("has a key, {id:?}, of less than 32 bytes")));
        }
        Ok(Self::derive(id, key.expose()))
    }

    /// A key of its own for each purpose.
    fn derive(id: String, key: &[u8]) -> Self {
        let part = |purpose: &[u8]| Zeroizing::new(mac(key, &[b"tower-m2m 1 ", purpose]));
        Self {
            id,
            index: part(b"index"),
            tag: part(b"tag"),
            seal: Some(part(b"seal")),
        }
    }

    pub(crate) fn entry(&self, identity: &CacheIdentity) -> Entry<'_> {
        Entry {
            key: self,
            cache_key: mac(&self.index[..], &[identity.expose()]),
        }
    }
}

impl Entry<'_> {
    /// As it stands in the store.
    pub(crate) fn name(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.cache_key)
    }

    /// What tells a token from others without giving it away.
    pub(crate) fn tag(&self, token: &[u8]) -> [u8; 16] {
        let whole = mac(&self.key.tag[..], &[&self.cache_key, token]);
        let mut tag = [0; 16];
        tag.copy_from_slice(&whole[..16]);
        tag
    }

    pub(crate) fn seal_key(&self) -> Option<&[u8; 32]> {
        self.key.seal.as_deref()
    }

    /// What a sealed token belongs to: format, key, place and token.
    pub(crate) fn associated_data(&self, format: &[u8], tag: &[u8; 16]) -> Vec<u8> {
        // At most 64 bytes long.
        let length = [self.key.id.len() as u8];
        [
            format,
            &length,
            self.key.id.as_bytes(),
            &self.cache_key,
            tag,
        ]
        .concat()
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn wrong(what: impl Into<std::borrow::Cow<'static, str>>) -> StoreError {
    StoreError::configuration(what)
}

impl fmt::Debug for StoreKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.all().map(|key| &key.id))
            .finish()
    }
}
