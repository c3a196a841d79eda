//! Encryption of a token for the store.
//!
//! ```text
//! format (4) · tag (16) · nonce (24) · XChaCha20-Poly1305(end of life in the server's time (8) · token)
//! ```
//!
//! The tag is in the clear, so that a script can compare it on the server. The associated data contains it together
//! with the key's name and the entry, so that a ciphertext is accepted only where it was written.
//!
//! | attack or mistake | what prevents it |
//! |---|---|
//! | a ciphertext copied to another entry | the entry's hash in the associated data |
//! | an older ciphertext of the same entry | not prevented; its expiry is sealed, so that an expired token is not used |
//! | the same key under another name | the key's name in the associated data |
//! | a longer lifetime | the expiry is inside the seal |
//! | a modified tag | the tag is part of the associated data |

use std::time::Duration;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, Payload},
};
use zeroize::Zeroizing;

use super::{Entry, StoreError, StoredToken, millis};

/// Seals `token` for `entry`. `now` is the server's time in milliseconds.
///
/// The format and the tag precede the ciphertext, and without a key the content follows in the clear.
///
/// # Errors
///
/// [`StoreErrorKind::Unavailable`](super::super::StoreErrorKind::Unavailable), if the token exceeds 64 KiB or cannot be
/// encrypted.
pub(super) fn seal(
    entry: &Entry<'_>,
    token: &StoredToken,
    now: u64,
) -> Result<Vec<u8>, StoreError> {
    let content = token.to_bytes();
    let content = content.expose();
    if content.len() > MAX_TOKEN_BYTES {
        return Err(StoreError::unavailable(
            "does not accept tokens larger than 64 KiB",
        ));
    }
    // The expiry is sealed in the server's time, so that the clocks of the processes need not agree.
    let ends = now.saturating_add(millis(token.left()));
    let mut plain = Zeroizing::new(Vec::with_capacity(8 + content.len()));
    plain.extend_from_slice(&ends.to_be_bytes());
    plain.extend_from_slice(content);
    let tag = entry.tag(&token.token().fingerprint().to_bytes());
    let Some(key) = entry.seal_key() else {
        return Ok([&PLAIN[..], &tag, &plain].concat());
    };
    // A random nonce of 24 bytes: the probability of a collision is negligible for any number of tokens.
    let nonce = XNonce::generate();
    let payload = Payload {
        msg: &plain,
        aad: &entry.associated_data(SEALED, &tag),
    };
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(&nonce, payload)
        .map_err(|_| {
            StoreError::unavailable("did not receive the token: it could not be encrypted")
        })?;
    Ok([&SEALED[..], &tag, &nonce, &sealed].concat())
}

/// Opens `sealed`, which was read from `entry` when the server's time was `now`, in milliseconds.
///
/// The remaining lifetime is 0 if the expiry has passed on the server.
///
/// # Errors
///
/// [`StoreErrorKind::Unreadable`](super::super::StoreErrorKind::Unreadable), if `sealed` has another format, was
/// modified, or belongs to another entry.
pub(super) fn open(entry: &Entry<'_>, sealed: &[u8], now: u64) -> Result<StoredToken, StoreError> {
    let (format, rest) = sealed.split_first_chunk().ok_or_else(malformed)?;
    let (tag, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
    let plain = match (entry.seal_key(), format) {
        (Some(key), SEALED) => {
            let (nonce, content) = rest.split_first_chunk::<24>().ok_or_else(malformed)?;
            let payload = Payload {
                msg: content,
                aad: &entry.associated_data(SEALED, tag),
            };
            let opened = XChaCha20Poly1305::new(key.into()).decrypt(nonce.into(), payload);
            Zeroizing::new(opened.map_err(|_| tampered())?)
        }
        (None, PLAIN) => Zeroizing::new(rest.to_vec()),
        // An encrypted token without an encryption key, or a plain token despite one, is never accepted.
        _ => return Err(malformed()),
    };
    let (ends, content) = plain.split_first_chunk().ok_or_else(malformed)?;
    let left = Duration::from_millis(u64::from_be_bytes(*ends).saturating_sub(now));
    let token = StoredToken::from_bytes(content, left).ok_or_else(malformed)?;
    // The tag is outside the ciphertext. For an encrypted token the associated data covers it; for a plain one only
    // this comparison does.
    if entry.tag(&token.token().fingerprint().to_bytes()) != *tag {
        return Err(tampered());
    }
    Ok(token)
}

/// Error for a value that is not in a known format.
fn malformed() -> StoreError {
    StoreError::unreadable(
        "contains a value under a key of this crate that is not a token in this format",
    )
}

/// Error for a token that fails authentication.
fn tampered() -> StoreError {
    StoreError::unreadable(
        "contains a token under a key of this crate that was modified or copied from another key",
    )
}

/// Format marker of an encrypted token.
const SEALED: &[u8; 4] = b"m2m1";
/// Format marker of an unencrypted token.
const PLAIN: &[u8; 4] = b"m2m0";
/// Maximum size of a serialized token, in bytes.
const MAX_TOKEN_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client_credentials::AccessToken,
        store::{CacheKey, StoreKeyring},
    };

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: u64 = 1_800_000_000_000;

    fn keys(id: &str, byte: u8) -> StoreKeyring {
        StoreKeyring::new(id, vec![byte; 32]).unwrap()
    }

    fn cache_key(name: &str) -> CacheKey {
        CacheKey::new("test").field("name", name)
    }

    fn token(value: &str) -> StoredToken {
        let token = AccessToken::new(value).expires_in(HOUR);
        StoredToken::new(token, HOUR / 2).unwrap()
    }

    #[test]
    fn an_opened_token_has_the_time_left_by_the_servers_clock() {
        for keys in [keys("a", 1), StoreKeyring::dangerously_unencrypted()] {
            let identity = cache_key("a");
            let entry = keys.active().entry(&identity);
            let sealed = seal(&entry, &token("token"), NOW).unwrap();

            let opened = open(&entry, &sealed, NOW + 60_000).unwrap();

            assert_eq!(opened.token().expose(), Some("token"));
            assert_eq!(opened.left(), HOUR / 2 - Duration::from_secs(60));
            assert_eq!(
                open(&entry, &sealed, NOW + 3_600_000).unwrap().left(),
                Duration::ZERO
            );
        }
    }

    #[test]
    fn ciphertexts_hide_the_token_and_differ() {
        let (keys, identity) = (keys("a", 1), cache_key("canary"));
        let entry = keys.active().entry(&identity);
        let seal = || seal(&entry, &token("canary"), NOW).unwrap();

        let sealed = seal();

        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        assert!(!entry.name().contains("canary"));
        assert_ne!(sealed[20..], seal()[20..]);
    }

    #[test]
    fn any_modified_byte_is_detected() {
        let (keys, identity) = (keys("a", 1), cache_key("a"));
        let entry = keys.active().entry(&identity);
        let sealed = seal(&entry, &token("token"), NOW).unwrap();

        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(open(&entry, &changed, NOW).unwrap_err().is_unreadable());
            assert!(open(&entry, &sealed[..index], NOW).is_err());
        }
    }

    #[test]
    fn a_sealed_token_opens_only_with_its_entry_and_key() {
        let (mine, here) = (keys("a", 1), cache_key("a"));
        let sealed = seal(&mine.active().entry(&here), &token("token"), NOW).unwrap();

        for (keys, place) in [
            (keys("a", 1), cache_key("b")),
            (keys("b", 1), cache_key("a")),
            (keys("a", 2), cache_key("a")),
            (StoreKeyring::dangerously_unencrypted(), cache_key("a")),
        ] {
            let entry = keys.active().entry(&place);
            assert!(open(&entry, &sealed, NOW).unwrap_err().is_unreadable());
        }
        assert!(open(&mine.active().entry(&here), &sealed, NOW).is_ok());
    }

    #[test]
    fn an_unencrypted_token_is_rejected_if_there_is_a_key() {
        let none = StoreKeyring::dangerously_unencrypted();
        let identity = cache_key("a");
        let plain = seal(&none.active().entry(&identity), &token("token"), NOW).unwrap();

        assert!(open(&keys("a", 1).active().entry(&identity), &plain, NOW).is_err());
    }

    #[test]
    fn keys_are_parsed_and_an_empty_list_is_an_error() {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let keys = StoreKeyring::parse(&format!("new:{key}, old:{key}\n")).unwrap();
        assert_eq!(format!("{keys:?}"), r#"["new", "old"]"#);

        for (text, said) in [
            (" ".to_owned(), "dangerously_unencrypted"),
            (key.to_owned(), "name:base64"),
            ("a:???".to_owned(), "not base64"),
            ("a:AAAA".to_owned(), "shorter than 32 bytes"),
            (format!("a b:{key}"), "name:base64"),
            (format!("ä:{key}"), "letters"),
            (format!("a:{key},a:{key}"), "two keys"),
        ] {
            let error = StoreKeyring::parse(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains(key));
        }
    }
}
