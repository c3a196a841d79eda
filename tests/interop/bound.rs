//! Tokens that are bound to a key or to a certificate, at issuers and APIs that check it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::{client::legacy::Client as Hyper, rt::TokioExecutor};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        CertificateBound, Dpop, DpopKey, KeyAlgorithm, SigningKey, TokenErrorKind as Kind,
        TokenEvent,
    },
};

use crate::{
    servers::{Client, SECRET, Servers},
    table::{Finished, Outcome, Table},
};

const PLAIN: &str = "oidc-provider";
const NONCES: &str = "oidc-provider, nonces required";

pub(crate) async fn table(servers: &Servers) -> Finished {
    let mut table = Table::new("bound tokens", &[PLAIN, NONCES]);
    for (column, issuer) in [(PLAIN, "plain"), (NONCES, "nonces")] {
        let url = servers.get("bound", issuer);
        let endpoint =
            move || TokenEndpoint::discover(url.clone(), ClientAuth::basic("bound", SECRET));
        let api = |name: &str| servers.get("bound", &format!("{issuer}_{name}"));
        let es256 = || {
            let jwk = include_str!("../keys/ec.jwk");
            DpopKey::new(SigningKey::jwk(KeyAlgorithm::Es256, jwk).unwrap()).unwrap()
        };
        let generated = |api| Client::new(endpoint().dpop(Dpop::generated()), api);
        let fixed = |api| Client::new(endpoint().dpop(Dpop::key(es256())), api);

        let row = "express-oauth2-jwt-bearer, a generated key";
        table.cell(row, column, proved(generated(api("express")), 0));
        let row = "express-oauth2-jwt-bearer, a key in a file";
        table.cell(row, column, proved(fixed(api("express")), 0));
        let row = "oauth4webapi, compared with the package dpop";
        table.cell(row, column, proved(generated(api("web")), 0));
        // Its nonces after the first come with responses, so that only one challenge is needed.
        let row = "oauth4webapi, nonces required by the API";
        table.cell(row, column, proved(generated(api("web_nonces")), 1));
        let row = "a token request without a proof";
        table.cell(row, column, refused(endpoint()));
    }
    let issuer = servers.get("bound", "certified");
    let row = "a certificate (RFC 8705)";
    table.cell(
        row,
        PLAIN,
        certified(issuer, servers.get("bound", "certificate_api")),
    );
    table.cell(row, NONCES, async { Outcome::NotOffered });
    table.finish().await
}

/// Twenty requests with one token, and this many challenges of the API.
async fn proved(client: Client, challenges: usize) -> Outcome {
    for number in 0..20 {
        let status = client.get(&format!("/orders?page={number}")).await;
        assert_eq!(status, StatusCode::OK);
    }
    assert_eq!(client.counts(), (20 + challenges, 1));
    Outcome::Passed
}

async fn refused(endpoint: TokenEndpoint) -> Outcome {
    let layer = ClientCredentialsLayer::builder(endpoint, "http://127.0.0.1".parse().unwrap());
    let error = layer.build().handle().token().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected, "{error}");
    Outcome::Refused
}

/// The same certificate for both clients passes, and another one for the API's client is rejected.
async fn certified(issuer: String, api: String) -> Outcome {
    let endpoint = TokenEndpoint::discover(issuer, ClientAuth::basic("bound", SECRET))
        .root_certificate(include_bytes!("../certificates/ca.pem"))
        .unwrap()
        .client_certificate(CERTIFIED, KEY)
        .certificate_bound(CertificateBound::new());
    let fetched = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&fetched);
    let layer = ClientCredentialsLayer::builder(endpoint, api.parse().unwrap())
        .on_event(move |event| {
            if matches!(event, TokenEvent::Fetched { .. }) {
                counted.fetch_add(1, SeqCst);
            }
        })
        .build();
    for (certificate, expected) in [(CERTIFIED, 200), (SELF_SIGNED, 401)] {
        for _ in 0..2 {
            let request =
                Request::get(format!("{api}/orders")).body(Full::<bytes::Bytes>::default());
            let client = layer.layer(presenting(certificate));
            let response = client.oneshot(request.unwrap()).await.unwrap();
            assert_eq!(response.status(), expected);
        }
    }
    // The cooldown allows one token because of the 401s.
    assert_eq!(fetched.load(SeqCst), 2);
    Outcome::Passed
}

/// A client of the API that presents `certificate`.
fn presenting(
    certificate: &'static str,
) -> Hyper<
    hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>,
    Full<bytes::Bytes>,
> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

    let chain = |pem: &str| {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(Result::unwrap)
            .collect::<Vec<_>>()
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(chain(include_str!("../certificates/ca.pem")));
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(certificate), key)
        .unwrap();
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .build();
    Hyper::builder(TokioExecutor::new()).build(connector)
}

const CERTIFIED: &str = include_str!("../certificates/client.pem");
const SELF_SIGNED: &str = include_str!("../certificates/self_signed.pem");
const KEY: &str = include_str!("../certificates/client.key");
