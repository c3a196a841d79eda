//! Canonical public JWKs and their thumbprints (RFC 7638). [pure]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Returns the required members of a public key, in lexicographic order (RFC 7638 §3.2, RFC 8037 §2). `None` if one is
/// missing, is not a string, or the type is unknown.
///
/// Everything else is omitted: in particular private members, and also `kid`, which some servers reject in a proof.
pub(super) fn public_members(jwk: &Map<String, Value>) -> Option<Map<String, Value>> {
    let required: &[&str] = match jwk.get("kty")?.as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let members = required.iter().map(|name| {
        let value = jwk.get(*name)?.as_str().filter(|value| !value.is_empty())?;
        Some(((*name).to_owned(), Value::from(value)))
    });
    members.collect()
}

/// Returns the SHA-256 thumbprint of a key in base64url. `members` are its [public members](public_members).
///
/// Written by hand, so that the order does not depend on the map: another crate of the program may enable serde_json's
/// insertion order.
pub(super) fn thumbprint(members: &Map<String, Value>) -> String {
    let mut names: Vec<_> = members.keys().collect();
    names.sort_unstable();
    let pairs: Vec<_> = names
        .iter()
        .map(|name| format!("{}:{}", Value::from(name.as_str()), members[name.as_str()]))
        .collect();
    hash(format!("{{{}}}", pairs.join(",")).as_bytes())
}

/// Returns the SHA-256 hash of `bytes` in base64url.
pub(super) fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_example_of_rfc_7638_has_its_thumbprint() {
        let key = map(
            r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#,
        );

        let public = public_members(&key).unwrap();

        assert_eq!(public.len(), 3);
        assert_eq!(
            thumbprint(&public),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn the_example_of_rfc_8037_has_its_thumbprint() {
        let key = map(
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        );

        let public = public_members(&key).unwrap();

        assert_eq!(
            thumbprint(&public),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn the_examples_of_rfc_9449_have_their_hashes() {
        // The key of §4.1, whose thumbprint is `cnf.jkt` in §6.1, and the token of §7.1 with its `ath`.
        let key = map(
            r#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#,
        );

        assert_eq!(
            thumbprint(&public_members(&key).unwrap()),
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
        );
        assert_eq!(
            hash(b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"),
            "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
        );
    }

    #[test]
    fn private_and_unknown_members_are_left_out() {
        let key = map(r#"{"kty":"EC","crv":"P-256","x":"a","y":"b","d":"canary","kid":"c"}"#);

        let public = public_members(&key).unwrap();

        assert_eq!(public.keys().collect::<Vec<_>>(), ["crv", "kty", "x", "y"]);
        for wrong in [
            "{}",
            r#"{"kty":"oct","k":"canary"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"a"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"a","y":7}"#,
            r#"{"kty":"RSA","n":"","e":"AQAB"}"#,
        ] {
            assert!(public_members(&map(wrong)).is_none(), "{wrong}");
        }
    }
}
