//! The program itself: configured by a file and the environment, and ended by a signal.
#![cfg(unix)]

use std::{fs, path::Path, process::Stdio};

use axum::body::Body;
use http::{Request, header::AUTHORIZATION};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{KEY, Upstream, answer, issuer, tenant};

#[tokio::test]
async fn it_serves_what_a_file_says_until_it_is_asked_to_end() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gateway.toml");
    // The environment has a say in the addresses.
    let listen = "listen = \"192.0.2.1:80\"\nadmin_listen = \"192.0.2.1:81\"\n";
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    fs::write(&path, format!("{listen}{tenants}")).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .env("GATEWAY_CONFIG", &path)
        .env("GATEWAY_LISTEN", "127.0.0.1:0")
        .env("GATEWAY_ADMIN_LISTEN", "127.0.0.1:0")
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let (address, admin) = addresses(&mut program).await;
    let call = Request::get(format!("http://{address}/orders"));
    let call = call.header(AUTHORIZATION, format!("Bearer {KEY}"));
    let alive = Request::get(format!("http://{admin}/livez"));
    assert_eq!(answer(call.body(Body::empty()).unwrap()).await.status, 200);
    assert_eq!(answer(alive.body(Body::empty()).unwrap()).await.status, 200);
    let id = program.id().unwrap().to_string();
    let told = Command::new("kill").args(["-TERM", &id]).status().await;

    assert!(told.unwrap().success());
    assert!(program.wait().await.unwrap().success());
}

/// Where it listens: for callers, and for operators.
async fn addresses(program: &mut Child) -> (String, String) {
    let log = BufReader::new(program.stderr.take().unwrap());
    let mut lines = log.lines();
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name)?;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    while let Some(line) = lines.next_line().await.unwrap() {
        let (address, admin) = (field(&line, "address="), field(&line, "admin="));
        if let (Some(address), Some(admin)) = (address, admin) {
            // What follows is read, so that the program can write it.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (address, admin);
        }
    }
    panic!("the program ended before it listened");
}
