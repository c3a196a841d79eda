//! TLS that fails: no credential is sent, no other connection is tried, and the error says what to do.

use std::error::Error;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{AccessToken, TokenErrorKind},
};

use super::{
    support::{
        Body, origin,
        tls::{
            CA, CLIENT, CLIENT_EXPIRED, CLIENT_UNKNOWN, Pair, SERVER, SERVER_EXPIRED, TlsServer,
            presenting, with_certificates,
        },
    },
    to,
};

const SECRET: &str = "canary-secret";

/// A way in which a handshake fails.
struct Failure {
    server: Pair,
    host: &'static str,
    trusted: &'static [u8],
    client: Option<Pair>,
    /// What rustls calls it.
    rustls: &'static str,
    /// What the error of a token request says.
    says: &'static str,
}

const GOOD: Failure = Failure {
    server: SERVER,
    host: "127.0.0.1",
    trusted: CA,
    client: Some(CLIENT),
    rustls: "",
    says: "",
};

const FAILURES: [Failure; 6] = [
    // An unknown CA.
    Failure {
        trusted: CLIENT_UNKNOWN.0,
        rustls: "UnknownIssuer",
        says: "the server's certificate is not trusted; check the URL, and pass a private CA",
        ..GOOD
    },
    Failure {
        server: SERVER_EXPIRED,
        rustls: "certificate expired",
        says: "the server's certificate has expired",
        ..GOOD
    },
    // A certificate for another name.
    Failure {
        host: "localhost",
        rustls: "not valid for name",
        says: "the server's certificate is not trusted; check the URL",
        ..GOOD
    },
    Failure {
        client: None,
        rustls: "CertificateRequired",
        says: "the server does not accept the client certificate, or requires one",
        ..GOOD
    },
    Failure {
        client: Some(CLIENT_UNKNOWN),
        rustls: "AlertReceived",
        says: "the server does not accept the client certificate",
        ..GOOD
    },
    Failure {
        client: Some(CLIENT_EXPIRED),
        rustls: "CertificateExpired",
        says: "the client certificate has expired",
        ..GOOD
    },
];

#[tokio::test]
async fn a_secret_is_not_sent_if_tls_fails_and_the_error_names_the_cause() {
    for failure in FAILURES {
        let server = TlsServer::start(failure.server).await;
        let url = format!("https://{}:{}/token", failure.host, server.port);
        let auth = ClientAuth::post("id", SECRET);
        let endpoint = TokenEndpoint::new(url.parse().unwrap(), auth);
        let endpoint = with_certificates(endpoint, failure.trusted, failure.client);
        let tokens = ClientCredentialsLayer::builder(endpoint, origin()).build();

        let error = tokens.handle().token().await.unwrap_err();

        let kind = (error.kind(), error.is_transient());
        assert_eq!(kind, (TokenErrorKind::Certificate, false), "{error}");
        assert!(error.to_string().contains(failure.says), "{error}");
        let chain = chain(&error);
        assert!(chain.contains(failure.rustls), "{chain}");
        assert_nothing_was_sent(&server);
    }
}

#[tokio::test]
async fn a_wrong_scheme_or_port_has_its_own_message() {
    let tls = TlsServer::start(SERVER).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_port = plain.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let mut head = Vec::new();
            let _ = stream.read_buf(&mut head).await;
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let unused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    for (scheme, port, says) in [
        ("http", tls.port, "the port may be for https"),
        ("https", plain_port, "does not speak TLS on this port"),
        ("https", unused, "the connection was refused"),
    ] {
        let url = format!("{scheme}://127.0.0.1:{port}/token");
        let endpoint = TokenEndpoint::new(url.parse().unwrap(), ClientAuth::post("id", SECRET))
            .root_certificate(CA)
            .unwrap()
            .retries(0);
        let tokens = ClientCredentialsLayer::builder(endpoint, origin()).build();

        let error = tokens.handle().token().await.unwrap_err();

        assert_eq!(error.kind(), TokenErrorKind::Transport, "{error:?}");
        assert!(error.to_string().contains(says), "{error:?}");
    }
    serving.abort();
}

#[tokio::test]
async fn a_token_is_not_sent_if_tls_fails_and_the_error_names_the_cause() {
    for failure in FAILURES {
        let server = TlsServer::start(failure.server).await;

        let error = send(&server, &failure).await.unwrap_err();

        let chain = chain(&*error);
        assert!(chain.contains(failure.rustls), "{chain}");
        assert!(!chain.contains(SECRET), "{chain}");
        assert_nothing_was_sent(&server);
    }
}

#[tokio::test]
async fn a_token_is_sent_if_tls_succeeds() {
    let server = TlsServer::start(SERVER).await;

    send(&server, &GOOD).await.unwrap();

    let seen = server.stats();
    let request = String::from_utf8_lossy(&seen.read);
    assert!(request.contains("authorization: Bearer canary-secret\r\n"));
    assert_eq!((seen.connections, seen.plain), (1, 0));
}

/// One request to the API that `server` is, with a client that would also speak plain HTTP.
async fn send(server: &TlsServer, how: &Failure) -> Result<(), tower_m2m::BoxError> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(presenting(how.trusted, how.client))
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let origin = format!("https://{}:{}", how.host, server.port);
    let token = AccessToken::new(SECRET);
    let layer = ClientCredentialsLayer::builder(token, origin.parse().unwrap()).build();
    layer.layer(client).oneshot(to(&origin)).await.map(drop)
}

fn assert_nothing_was_sent(server: &TlsServer) {
    let seen = server.stats();
    assert!(seen.read.is_empty());
    assert_eq!((seen.connections, seen.plain), (1, 0));
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        text += &format!("{error} {error:?}\n");
        next = error.source();
    }
    text
}
