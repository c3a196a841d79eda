//! What an issuer and an API answer to proofs (RFC 9449): two bytes, then the API's fields, those of the issuer and the public
//! key, with an empty line between them.
#![no_main]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::{Empty, Full};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{Dpop, DpopKey, KeyAlgorithm, SignError, Signer},
};
use tower_m2m_fuzz::{Kept, SECRET, answer, block_on, header as field, headers, status};

fuzz_target!(|data: &[u8]| {
    let Some((&[flags, code], rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let mut parts = split(rest).into_iter();
    let mut next = || parts.next().unwrap_or_default();
    let (api, issuer, jwk) = (headers(next()), headers(next()), next());
    let jwk = if flags & 1 == 0 { JWK } else { jwk };
    let key = match DpopKey::signer(Fixed, jwk) {
        Ok(key) => key,
        Err(error) => return assert!(!format!("{error} {error:?}").contains(SECRET)),
    };
    assert_eq!(key.thumbprint().len(), 43);
    let public = key.public_jwk();
    assert!(public.get("d").is_none() && public.get("k").is_none());

    let (to_api, to_issuer) = (Kept::new(), Kept::new());
    let log = to_issuer.clone();
    let tokens = service_fn(move |request: Request<Full<Bytes>>| {
        log.push(proof(request.headers()));
        let mut fields = challenge(&issuer, flags & 2 != 0);
        fields.extend(field(header::CONTENT_TYPE, b"application/json"));
        let body: &[u8] = match flags & 4 {
            0 => br#"{"access_token":"token","token_type":"DPoP","expires_in":300}"#,
            _ => br#"{"error":"use_dpop_nonce"}"#,
        };
        let code = if flags & 4 == 0 { 0 } else { 4 };
        let response = answer(status(code), fields, body);
        async move { Ok::<_, BoxError>(response) }
    });
    let log = to_api.clone();
    let api = service_fn(move |request: Request<Empty<Bytes>>| {
        log.push(proof(request.headers()));
        let response = answer(status(code), challenge(&api, flags & 8 != 0), b"");
        async move { Ok::<_, BoxError>(response) }
    });
    let url = "https://issuer.test/token".parse().unwrap();
    let endpoint = TokenEndpoint::new(url, ClientAuth::basic("id", SECRET))
        .service(tokens)
        .dpop(Dpop::key(key));
    let origin = "https://api.test".parse().unwrap();
    let layer = ClientCredentialsLayer::builder(endpoint, origin).build();
    let request = Request::get("https://api.test/a?b").body(Empty::new());

    let sent = block_on(layer.layer(api).oneshot(request.unwrap()));

    if let Err(error) = sent {
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
    }
    let (to_api, to_issuer) = (to_api.take(), to_issuer.take());
    // Two further proofs, and one replay.
    assert!(to_api.len() <= 4, "{} requests", to_api.len());
    assert!(to_issuer.len() <= 12, "{} token requests", to_issuer.len());
    let mut ids: Vec<_> = to_api.iter().chain(&to_issuer).map(id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), to_api.len() + to_issuer.len());
    for claims in &to_api {
        assert_eq!(claims["htu"], "https://api.test/a");
        assert!(claims["ath"].is_string());
    }
    for claims in &to_issuer {
        assert_eq!(claims["htu"], "https://issuer.test/token");
        assert!(claims.get("ath").is_none());
    }
    for nonce in to_api
        .iter()
        .chain(&to_issuer)
        .filter_map(|claims| claims.get("nonce"))
    {
        let nonce = nonce.as_str().unwrap();
        let is_nqchar = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        assert!((1..=1024).contains(&nonce.len()) && nonce.bytes().all(is_nqchar));
    }
});

/// Splits at empty lines.
fn split(data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(end) = rest.windows(2).position(|two| two == b"\n\n") {
        parts.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    parts.push(rest);
    parts
}

/// The fields of an answer, with another nonce each time if it `never_ends`.
fn challenge(fields: &HeaderMap, never_ends: bool) -> HeaderMap {
    thread_local! {
        static COUNT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    let mut fields = fields.clone();
    if never_ends {
        let number = COUNT.with(|count| count.replace(count.get().wrapping_add(1)));
        let nonce = HeaderValue::from_str(&format!("n{number}")).unwrap();
        fields.insert(HeaderName::from_static("dpop-nonce"), nonce);
        let again = HeaderValue::from_static("DPoP error=\"use_dpop_nonce\"");
        fields.insert(header::WWW_AUTHENTICATE, again);
    }
    fields
}

/// The claims of the one proof of a request.
fn proof(headers: &HeaderMap) -> Value {
    let mut proofs = headers.get_all("dpop").iter();
    let proof = proofs.next().unwrap().to_str().unwrap();
    assert!(proofs.next().is_none());
    let claims = proof.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn id(claims: &Value) -> String {
    claims["jti"].as_str().unwrap().to_owned()
}

/// A signer without a key.
struct Fixed;

impl Signer for Fixed {
    fn algorithm(&self) -> KeyAlgorithm {
        KeyAlgorithm::Es256
    }

    async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(vec![1; 64])
    }
}

/// The public key of RFC 9449 §4.1.
const JWK: &[u8] = br#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#;
