//! Token requests through an HTTP proxy on loopback (`CONNECT`, RFC 9110 §9.3.6).
#![cfg(feature = "https")]

mod support;

use std::{
    env,
    process::Command,
    sync::{Arc, Mutex},
};

use support::{
    origin,
    tls::{
        CA, CLIENT, CLIENT_UNKNOWN, Pair, SERVER, SERVER_EXPIRED, TlsServer, server_config,
        with_certificates,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{AccessToken, Proxy, TokenError, TokenErrorKind as Kind},
};

/// `user:canary` in base64.
const CREDENTIALS: &str = "proxy-authorization: basic dxnlcjpjyw5hcnk=";

/// A proxy that opens tunnels, or answers with another status.
struct Tunnels {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Tunnels {
    async fn start(status: u16, tls: Option<Pair>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&heads);
        let acceptor = tls.map(|pair| TlsAcceptor::from(Arc::new(server_config(pair))));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, acceptor) = (Arc::clone(&log), acceptor.clone());
                tokio::spawn(async move {
                    if let Some(acceptor) = acceptor {
                        // A client that does not trust the certificate leaves.
                        let Ok(stream) = acceptor.accept(stream).await else {
                            return;
                        };
                        assert!(stream.get_ref().1.peer_certificates().is_none());
                        tunnel(stream, status, &log).await;
                    } else {
                        tunnel(stream, status, &log).await;
                    }
                });
            }
        });
        Self { port, heads, task }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// With credentials.
    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://user:canary@127.0.0.1:{}", self.port)
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers a `CONNECT`, and connects to the host that it names if the status is 200.
async fn tunnel(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    status: u16,
    log: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Nothing, or TLS.
        if near.read_buf(&mut head).await.unwrap_or(0) == 0 || head[0] != b'C' {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    log.lock().unwrap().push(head);
    let answer = format!("HTTP/1.1 {status} Said\r\n\r\n");
    near.write_all(answer.as_bytes()).await.unwrap();
    near.flush().await.unwrap();
    if status == 200 {
        let mut far = TcpStream::connect(target).await.unwrap();
        drop(copy_bidirectional(&mut near, &mut far).await);
    }
}

async fn fetch(endpoint: TokenEndpoint) -> Result<AccessToken, TokenError> {
    let layer = ClientCredentialsLayer::builder(endpoint, origin()).build();
    layer.handle().token().await
}

/// An endpoint that requires a client certificate.
fn mutual(port: u16) -> TokenEndpoint {
    let url = format!("https://127.0.0.1:{port}/token");
    let endpoint = TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"));
    with_certificates(endpoint, CA, Some(CLIENT))
}

#[tokio::test]
async fn a_token_request_passes_a_tunnel_with_its_own_tls() {
    for (scheme, tls) in [("http", None), ("https", Some(SERVER))] {
        let server = TlsServer::start(SERVER).await;
        let proxy = Tunnels::start(200, tls).await;

        let token = fetch(mutual(server.port).proxy(Proxy::new(proxy.url(scheme)))).await;

        assert_eq!(token.unwrap().expose(), Some("token"), "{scheme}");
        let heads = proxy.heads();
        assert_eq!(heads.len(), 1);
        let target = format!("connect 127.0.0.1:{} http/1.1\r\n", server.port);
        assert!(heads[0].starts_with(&target), "{heads:?}");
        assert!(heads[0].contains(CREDENTIALS), "{heads:?}");
        let request = String::from_utf8_lossy(&server.stats().read).to_ascii_lowercase();
        assert!(request.starts_with("post /token http/1.1\r\n"), "{request}");
        assert!(!request.contains("proxy-"), "{request}");
    }
}

#[tokio::test]
async fn plain_http_passes_a_tunnel_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = Tunnels::start(200, None).await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"client_credentials") {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
        let body = support::server::GRANTED;
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(read).unwrap()
    });
    let url = format!("http://127.0.0.1:{port}/token");
    let endpoint = TokenEndpoint::new(url.parse().unwrap(), ClientAuth::basic("id", "secret"));

    fetch(endpoint.proxy(Proxy::new(proxy.url("http"))))
        .await
        .unwrap();

    let request = server.await.unwrap();
    assert!(request.starts_with("POST /token HTTP/1.1\r\n"), "{request}");
    assert!(
        !request.to_ascii_lowercase().contains("proxy-"),
        "{request}"
    );
    assert_eq!(proxy.heads().len(), 1);
}

#[tokio::test]
async fn exempt_hosts_are_reached_directly() {
    let server = TlsServer::start(SERVER).await;
    let proxy = Tunnels::start(200, None).await;
    let named = || Proxy::new(proxy.url("http"));

    fetch(mutual(server.port).proxy(named().no_proxy("127.0.0.0/8")))
        .await
        .unwrap();
    // The address of a host is covered too.
    fetch(mutual(server.port).proxy(named().no_proxy("*")))
        .await
        .unwrap();
    fetch(mutual(server.port).proxy(Proxy::none()))
        .await
        .unwrap();

    assert!(proxy.heads().is_empty());
}

#[tokio::test]
async fn an_error_of_the_proxy_names_the_setting_and_no_credentials() {
    let refusing = Tunnels::start(403, None).await;
    let demanding = Tunnels::start(407, None).await;
    let broken = Tunnels::start(200, None).await;
    let expired = Tunnels::start(200, Some(SERVER_EXPIRED)).await;
    let unknown = Tunnels::start(200, Some(CLIENT_UNKNOWN)).await;
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://user:canary@{}", listener.local_addr().unwrap())
    };
    for (url, kind, is_transient, says) in [
        (
            refusing.url("http"),
            Kind::Transport,
            true,
            "refused the connection",
        ),
        (
            demanding.url("http"),
            Kind::Configuration,
            false,
            "credentials",
        ),
        (gone, Kind::Transport, true, "cannot be reached"),
        (
            expired.url("https"),
            Kind::Certificate,
            false,
            "its certificate has expired",
        ),
        (
            unknown.url("https"),
            Kind::Certificate,
            false,
            "its certificate is not trusted",
        ),
        // TLS to a port without it.
        (
            broken.url("https"),
            Kind::Transport,
            true,
            "cannot be reached",
        ),
        (
            "socks5://user:canary@127.0.0.1:1".to_owned(),
            Kind::Configuration,
            false,
            "http://",
        ),
    ] {
        let endpoint = mutual(1).retries(0).proxy(Proxy::new(url));
        let debug = format!("{endpoint:?}");

        let error = fetch(endpoint).await.unwrap_err();

        assert_eq!((error.kind(), error.is_transient()), (kind, is_transient));
        let text = format!("{error}");
        assert!(
            text.contains(says) && text.contains("`.proxy(..)`"),
            "{text}"
        );
        let mut all = format!("{debug} {error:?} {text}");
        let mut next = std::error::Error::source(&error);
        while let Some(source) = next {
            all.push_str(&format!(" {source} {source:?}"));
            next = source.source();
        }
        // `dXNlcjpjYW5hcnk=` is the header.
        assert!(!all.contains("canary") && !all.contains("dXNlcj"), "{all}");
    }
}

#[test]
fn an_invalid_proxy_is_a_configuration_error() {
    let endpoint = |url: &str| mutual(1).proxy(Proxy::new(url)).validate();

    assert!(endpoint("proxy.internal:3128").is_ok());
    let error = endpoint("ftp://proxy.internal").unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    assert!(error.to_string().contains("`.proxy(..)`"), "{error}");
}

#[tokio::test]
async fn the_environment_is_followed_except_for_loopback() {
    let proxy = Tunnels::start(403, None).await;
    let server = TlsServer::start(SERVER).await;
    for (url, asks) in [
        ("https://issuer.example/token".to_owned(), true),
        (format!("https://127.0.0.1:{}/token", server.port), false),
    ] {
        proxy.heads.lock().unwrap().clear();
        let mut child = Command::new(env::current_exe().unwrap());
        child
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env("HTTPS_PROXY", proxy.url("http"))
            .env("CHILD_URL", &url);
        for name in [
            "https_proxy",
            "all_proxy",
            "ALL_PROXY",
            "no_proxy",
            "NO_PROXY",
        ] {
            child.env_remove(name);
        }

        let output = tokio::task::spawn_blocking(move || child.output().unwrap());
        let output = output.await.unwrap();

        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(
            text.contains("the proxy in HTTPS_PROXY refused"),
            asks,
            "{text}"
        );
        assert_eq!(text.contains("granted"), !asks, "{text}");
        let heads = proxy.heads();
        assert_eq!(heads.len(), usize::from(asks));
        if asks {
            assert!(
                heads[0].starts_with("connect issuer.example:443 http/1.1"),
                "{heads:?}"
            );
            assert!(heads[0].contains(CREDENTIALS), "{heads:?}");
        }
    }
}

/// Run with an environment by the test above.
#[tokio::test]
#[ignore = "a part of another test"]
async fn child() {
    let Ok(url) = env::var("CHILD_URL") else {
        return;
    };
    let endpoint = TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"));
    let endpoint = with_certificates(endpoint, CA, Some(CLIENT)).retries(0);
    match fetch(endpoint).await {
        Ok(_) => println!("granted"),
        Err(error) => println!("{error} {error:?}"),
    }
}
