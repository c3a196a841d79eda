//! The program itself: configured by a file and the environment, and ended by a signal.
#![cfg(unix)]

use std::{
    fs,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use http::{Request, header::AUTHORIZATION};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::JoinHandle,
};

use crate::support::{KEY, Upstream, answer, client, issuer, tenant};

#[tokio::test]
async fn the_program_serves_its_configuration_file_until_sigterm() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    // The environment has a say in the addresses.
    let environment = "export GATEWAY_LISTEN=127.0.0.1:0; export GATEWAY_ADMIN_LISTEN=127.0.0.1:0;";
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let mut program = Program::start("gateway", environment, &tenants).await;

    let alive = Request::get(format!("http://{}/livez", program.admin));
    assert_eq!(answer(program.call("GET", "/orders")).await.status, 200);
    assert_eq!(answer(alive.body(Body::empty()).unwrap()).await.status, 200);
    program.signal().await;

    assert!(program.child.wait().await.unwrap().success());
}

/// The program with this configuration, and what it logs.
struct Program {
    child: Child,
    address: String,
    admin: String,
    log: Arc<Mutex<Vec<String>>>,
    reading: JoinHandle<()>,
}

impl Program {
    /// `before` is what the shell does before it.
    async fn start(name: &str, before: &str, config: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.toml"));
        // Unused addresses, where the environment sets others.
        let listen = match before.contains("GATEWAY_LISTEN") {
            true => "listen = \"192.0.2.1:80\"\nadmin_listen = \"192.0.2.1:81\"\n",
            false => "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n",
        };
        fs::write(&path, format!("{listen}{config}")).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &format!("{before} exec \"$0\" \"$1\"")])
            .arg(env!("CARGO_BIN_EXE_gateway"))
            .arg(&path)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let all = Arc::clone(&log);
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                all.lock().unwrap().push(line);
            }
        });
        loop {
            let listening = log.lock().unwrap().iter().find_map(|line| addresses(line));
            if let Some((address, admin)) = listening {
                return Self {
                    child,
                    address,
                    admin,
                    log,
                    reading,
                };
            }
            assert!(!reading.is_finished(), "{:?}", log.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn call(&self, method: &str, path: &str) -> Request<Body> {
        let call = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(AUTHORIZATION, format!("Bearer {KEY}"));
        call.body(Body::empty()).unwrap()
    }

    async fn signal(&self) {
        self.send("-TERM").await;
    }

    async fn send(&self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await;
        assert!(sent.unwrap().success());
    }

    /// The lines with this, once there are any.
    async fn logged(&self, part: &str) -> Vec<String> {
        loop {
            let log = self.log.lock().unwrap().clone();
            let found: Vec<_> = log.into_iter().filter(|line| line.contains(part)).collect();
            if !found.is_empty() {
                return found;
            }
            assert!(
                !self.reading.is_finished(),
                "{part} in {:?}",
                self.log.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn operators_are_served_when_descriptors_are_exhausted_by_incomplete_heads() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let program = Program::start("few", "ulimit -n 128;", &tenants).await;
    let mut halves = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(&program.address).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: ").await;
        halves.push(stream);
    }

    let alive = Request::get(format!("http://{}/livez", program.admin));
    let alive = answer(alive.body(Body::empty()).unwrap()).await;

    assert_eq!(alive.status, 200);
    let lowered = program.logged("limits lowered").await;
    assert!(lowered[0].contains("max_connections="), "{lowered:?}");
    let dropped = program.logged("connection dropped").await;
    assert!(dropped[0].contains(r#"reason="peer_limit""#), "{dropped:?}");
    assert!(dropped[0].contains("peer=127.0.0.1"), "{dropped:?}");
    // The upstream and the issuer have theirs.
    drop(halves);
    // Until the gateway has noticed that they are closed, it drops what comes from the same peer.
    let served = async || {
        let response = client().request(program.call("GET", "/")).await;
        response.is_ok_and(|response| response.status() == 200)
    };
    while !served().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn failures_are_logged_with_their_cause_and_rate_limited() {
    use tower_m2m::test_util::Fault;
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    issuer.always(Some(Fault::Reset));
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let mut program = Program::start("away", "", &tenants).await;
    let client = client();
    for number in 0..300 {
        let call = program.call("DELETE", &format!("/orders/{number}-canary"));
        assert_eq!(client.request(call).await.unwrap().status(), 503);
    }

    program.signal().await;
    assert!(program.child.wait().await.unwrap().success());
    let _ = (&mut program.reading).await;

    let log = program.log.lock().unwrap().clone();
    let failed: Vec<_> = log
        .iter()
        .filter(|line| line.contains("request failed"))
        .collect();
    for part in [
        r#"tenant="acme""#,
        r#"outcome="no_token""#,
        "status=503",
        r#"method="DELETE""#,
        r#"path="/orders/{}""#,
        "cause=",
    ] {
        assert!(failed[0].contains(part), "{part} in {}", failed[0]);
    }
    let suppressed: usize = log
        .iter()
        .filter(|line| line.contains("suppressed") && line.contains("request failed"))
        .filter_map(|line| field(line, "count=")?.parse::<usize>().ok())
        .sum();
    let written = failed.iter().filter(|line| line.contains("cause=")).count();
    assert_eq!(written + suppressed, 300, "{log:#?}");
    assert!(log.len() < 150, "{} lines", log.len());
    let all = log.join("\n");
    assert!(!all.contains('\u{1b}') && !all.contains("canary"), "{all}");
}

#[tokio::test]
async fn deadlines_and_disconnected_callers_are_logged() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let program = Program::start("slow", "", &format!("deadline = 1\n{tenants}")).await;

    assert_eq!(answer(program.call("POST", "/orders")).await.status, 504);
    let call = client().request(program.call("PUT", "/orders"));
    let left = tokio::spawn(call);
    while upstream.requests().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    left.abort();

    let deadline = program.logged(r#"outcome="deadline""#).await;
    assert!(deadline[0].contains("status=504"), "{deadline:?}");
    let left = program.logged(r#"outcome="caller_left""#).await;
    assert!(left[0].contains(r#"method="PUT""#), "{left:?}");
}

#[tokio::test]
async fn a_second_signal_exits_immediately() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let config = format!("deadline = 600\nshutdown_timeout = 600\n{tenants}");
    let mut program = Program::start("twice", "", &config).await;
    let stuck = tokio::spawn(client().request(program.call("GET", "/")));
    while upstream.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    program.signal().await;
    program.logged("ending").await;
    program.signal().await;
    let ended = tokio::time::timeout(Duration::from_secs(60), program.child.wait()).await;

    assert_eq!(ended.unwrap().unwrap().code(), Some(1));
    stuck.abort();
}

#[tokio::test]
async fn requests_aborted_at_shutdown_are_not_attributed_to_the_caller() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let config = format!("shutdown_timeout = 1\n{tenants}");
    let mut program = Program::start("given-up", "", &config).await;
    let stuck = tokio::spawn(client().request(program.call("GET", "/")));
    while upstream.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    program.signal().await;
    assert!(program.child.wait().await.unwrap().success());
    let _ = (&mut program.reading).await;

    let log = program.log.lock().unwrap().join("\n");
    assert!(log.contains(r#"outcome="shutdown""#), "{log}");
    assert!(!log.contains("caller_left"), "{log}");
    stuck.abort();
}

#[tokio::test]
async fn configuration_errors_quote_the_file() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty.toml");
    fs::write(&path, "[tenants.\"\"]\nupstream = \"https://a.example\"\n").unwrap();

    let program = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg(&path)
        .output();
    let ended = program.await.unwrap();

    let shown = String::from_utf8(ended.stderr).unwrap();
    let expected = format!(
        "gateway: {}: tenant \"\": its name must consist of",
        path.display()
    );
    assert!(shown.contains(&expected), "{shown}");
    assert_eq!(ended.status.code(), Some(1));
}

#[tokio::test]
async fn the_program_reloads_its_file_on_sighup_and_when_it_changes() {
    const NEW_KEY: &str = "another-caller-key";
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let secret = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reload.keys");
    fs::write(&secret, "a-key-in-a-file-1\n").unwrap();
    let acme = tenant("acme", KEY, &upstream.origin, &issuer);
    let acme = acme.replacen(
        "caller_keys =",
        &format!("caller_keys_file = {secret:?}\ncaller_keys ="),
        1,
    );
    let mut program = Program::start("reload", "", &format!("watch_interval = 1\n{acme}")).await;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reload.toml");
    let text = fs::read_to_string(&path).unwrap();
    let status = async |key: &str| {
        let mut call = program.call("GET", "/");
        let value = format!("Bearer {key}").parse().unwrap();
        call.headers_mut().insert(AUTHORIZATION, value);
        answer(call).await.status
    };
    assert_eq!(status(KEY).await, 200);

    // Wrong: it is refused, by signal, and the old one stays.
    fs::write(&path, text.replace("upstream =", "upstraem =")).unwrap();
    program.send("-HUP").await;
    let refused = program.logged("configuration not reloaded").await;
    assert!(refused[0].contains("reload.toml: line "), "{refused:?}");
    assert!(!refused[0].contains("acme-secret"), "{refused:?}");
    assert_eq!(status(KEY).await, 200);

    // Right again, and noticed without a signal.
    fs::write(&path, text.replace(KEY, NEW_KEY)).unwrap();
    program.logged("configuration reloaded").await;
    assert_eq!((status(KEY).await, status(NEW_KEY).await), (401, 200));

    // So is a file of keys.
    assert_eq!(status("a-key-in-a-file-2").await, 401);
    fs::write(&secret, "a-key-in-a-file-2\na-key-in-a-file-3\n").unwrap();
    while status("a-key-in-a-file-2").await != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(issuer.stats().issued, 1, "no token was lost");
    program.signal().await;
    assert!(program.child.wait().await.unwrap().success());
}

/// Where it listens: for callers, and for operators.
fn addresses(line: &str) -> Option<(String, String)> {
    Some((field(line, "address=")?, field(line, "admin=")?))
}

fn field(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(name)?;
    Some(rest.split_whitespace().next()?.to_owned())
}
