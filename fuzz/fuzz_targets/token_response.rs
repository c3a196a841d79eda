//! A token endpoint's answer: a status, lines of `name: value`, an empty line, the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_m2m::{ClientAuth, ClientCredentialsLayer, TokenEndpoint};
use tower_m2m_fuzz::{SECRET, answer, block_on, headers, server, status};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let end = rest.windows(2).position(|two| two == b"\n\n");
    let (head, body) = end.map_or((&[][..], rest), |end| (&rest[..end], &rest[end + 2..]));
    let (status, headers, body) = (status(*first), headers(head), body.to_vec());
    let service = server(move |_| answer(status, headers.clone(), &body));
    let auth = ClientAuth::basic("client", SECRET);
    let mut endpoint = TokenEndpoint::new("https://issuer.test/token".parse().unwrap(), auth);
    if first & 0x80 != 0 {
        endpoint = endpoint.strict(true);
    }
    let endpoint = endpoint.service(service);
    let layer = ClientCredentialsLayer::builder(endpoint, "https://api.test".parse().unwrap());

    match block_on(layer.build().handle().token()) {
        Ok(token) => {
            assert!(status.is_success());
            let value = token.expose().unwrap();
            assert!(!value.is_empty() && !value.contains(['\r', '\n', '\0']));
            assert!(!format!("{token:?}").contains(value) || value.len() < 16);
        }
        // The server was sent the secret, and may have written it into its answer.
        Err(error) => assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}"),
    }
});
