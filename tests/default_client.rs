//! The crate's own client for token endpoints: whom it is shared with, and which connections it keeps.
#![cfg(feature = "https")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{AccessToken, TokenHandle},
};

const TENANTS: usize = 200;

/// Grants a token for each request, and keeps connections as long as the client does.
struct Server {
    url: String,
    /// Connections so far, and those that are open.
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let connections = Arc::<AtomicUsize>::default();
        let open = Arc::<AtomicUsize>::default();
        let (all, now) = (Arc::clone(&connections), Arc::clone(&open));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                all.fetch_add(1, SeqCst);
                now.fetch_add(1, SeqCst);
                let now = Arc::clone(&now);
                tokio::spawn(async move {
                    serve(stream).await;
                    now.fetch_sub(1, SeqCst);
                });
            }
        });
        Self {
            url,
            connections,
            open,
            task,
        }
    }

    fn tenant(&self) -> TokenHandle {
        let auth = ClientAuth::basic("id", "secret");
        let endpoint = TokenEndpoint::new(self.url.parse().unwrap(), auth);
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(endpoint, origin).build();
        layer.handle()
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Waits until at most `most` connections are open.
    async fn has_open(&self, most: usize) {
        for _ in 0..10_000 {
            if self.open() <= most {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("{} connections are open", self.open());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream) {
    let token = r#"{"access_token":"token","token_type":"Bearer","expires_in":300}"#;
    let length = token.len();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}");
    let answer = format!("{head}\r\n\r\n{token}");
    let mut read = Vec::new();
    while stream.read_buf(&mut read).await.is_ok_and(|read| read > 0) {
        if read.ends_with(b"grant_type=client_credentials") {
            read.clear();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn endpoints_with_default_settings_share_one_client() {
    let server = Server::start().await;
    let tenants: Vec<_> = (0..TENANTS).map(|_| server.tenant()).collect();

    for tenant in &tenants {
        tenant.token().await.unwrap();
    }

    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn few_idle_connections_stay_open_after_a_burst() {
    let server = Server::start().await;
    let tenants: Vec<_> = (0..TENANTS).map(|_| server.tenant()).collect();

    let mut fetches = JoinSet::new();
    for tenant in tenants {
        fetches.spawn(async move { tenant.token().await });
    }
    let tokens = fetches.join_all().await;

    assert!(tokens.iter().all(Result::is_ok));
    server.has_open(8).await;
}

#[tokio::test]
async fn idle_connections_to_token_endpoints_are_closed() {
    let server = Server::start().await;
    let tenant = server.tenant();
    tenant.token().await.unwrap();
    assert_eq!(server.open(), 1);

    tokio::time::pause();
    sleep(Duration::from_secs(9)).await;
    assert_eq!(server.open(), 1);
    // Checked once in ten seconds.
    sleep(Duration::from_secs(12)).await;
    tokio::time::resume();

    server.has_open(0).await;
    let token: Result<AccessToken, _> = tenant.refresh_now().await;
    assert_eq!(token.unwrap().expose(), Some("token"));
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_client_of_a_dropped_runtime_is_replaced() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let of_server = runtime();
    let server = of_server.block_on(Server::start());
    let tenants = std::thread::spawn(move || {
        let tenant = server.tenant();
        for tenant in [&tenant, &tenant, &server.tenant()] {
            runtime().block_on(tenant.refresh_now()).unwrap();
        }
        server.connections()
    });
    while !tenants.is_finished() {
        of_server.block_on(async { sleep(Duration::from_millis(1)).await });
    }

    assert_eq!(tenants.join().unwrap(), 3);
}
