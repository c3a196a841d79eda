//! What a token, an operator or an environment says about bindings and ways: a kind, then `cnf` of a token, a thumbprint, a
//! certificate, or the URL of a proxy and its exceptions.
#![no_main]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{StatusCode, header};
use libfuzzer_sys::fuzz_target;
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{CertificateBound, CertificateThumbprint, Proxy},
};
use tower_m2m_fuzz::{SECRET, answer, block_on, cut, header as field, server};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else {
        return;
    };
    let endpoint = || {
        let url = "https://issuer.test/token".parse().unwrap();
        TokenEndpoint::new(url, ClientAuth::basic("id", SECRET))
    };
    match kind % 4 {
        0 => {
            let claims = format!(r#"{{"cnf":{}}}"#, String::from_utf8_lossy(rest));
            let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(&claims));
            let body = format!(r#"{{"access_token":"{token}","expires_in":60}}"#);
            let service = server(move |_| {
                let json = field(header::CONTENT_TYPE, b"application/json");
                answer(StatusCode::OK, json, body.as_bytes())
            });
            let bound = endpoint().service(service);
            let bound = bound.certificate_bound(CertificateBound::new());
            let origin = "https://api.test".parse().unwrap();
            let layer = ClientCredentialsLayer::builder(bound, origin).build();
            if let Ok(token) = block_on(layer.handle().token()) {
                // Claims that are not JSON say nothing.
                let claims = serde_json::from_str::<serde_json::Value>(&claims).ok();
                let named = claims
                    .as_ref()
                    .and_then(|claims| claims["cnf"]["x5t#S256"].as_str());
                assert_eq!(token.certificate().is_some(), named.is_some());
            }
        }
        1 => {
            let text = String::from_utf8_lossy(rest);
            if let Ok(thumbprint) = text.parse::<CertificateThumbprint>() {
                assert_eq!(thumbprint.to_string().parse(), Ok(thumbprint));
                assert_eq!(
                    CertificateThumbprint::from_bytes(thumbprint.to_bytes()),
                    thumbprint
                );
            }
        }
        // Without a crypto provider nothing has a thumbprint, but the text is parsed.
        2 => drop(CertificateThumbprint::of_certificate(rest)),
        _ => {
            let (url, hosts) = cut(rest);
            let url = format!("{}{SECRET}", String::from_utf8_lossy(url));
            // The hosts are public. A fuzzer may find the secret and write it there.
            let hosts = String::from_utf8_lossy(hosts).replace(SECRET, "");
            let proxy = Proxy::new(url).no_proxy(hosts);
            let endpoint = endpoint().proxy(proxy.clone());
            let shown = format!("{proxy:?} {endpoint:?} {:?}", endpoint.validate());
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
});
