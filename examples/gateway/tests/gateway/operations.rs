//! Health, metrics, the end, and the configuration.

use std::{collections::HashMap, path::Path, time::Duration};

use axum::{body::Body, response::Response};
use gateway::Config;
use tokio::sync::mpsc;
use tower_m2m::test_util::Fault;

use crate::support::{
    KEY, Upstream, admin, answer, client, gateway, gateway_to, issuer, request, send, tenant,
};

#[tokio::test]
async fn it_is_alive_without_an_issuer_but_not_ready() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    issuer.always(Some(Fault::Reset));
    let gateway = gateway_to(&upstream, &issuer).await;
    send(&gateway, "GET", "/").await;

    assert_eq!(admin(&gateway, "/livez").await.status, 200);
    let ready = admin(&gateway, "/readyz").await;

    assert_eq!(ready.status, 503);
    assert!(
        ready.body.contains(r#""token_failure":"Transport""#),
        "{}",
        ready.body
    );
}

#[tokio::test]
async fn it_becomes_ready_without_a_call() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;

    while admin(&gateway, "/readyz").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    assert_eq!(upstream.asked().len(), 0);
    assert_eq!(issuer.seen().token_requests, 1);
}

#[tokio::test]
async fn callers_do_not_reach_what_is_for_operators() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let anonymous = http::Request::get(format!("http://{}{path}", gateway.address()));

        let response = answer(anonymous.body(Body::empty()).unwrap()).await;

        assert_eq!(response.status, 401, "{path}");
    }
}

#[tokio::test]
async fn metrics_tell_outcomes_tokens_and_quotas_by_tenant() {
    let (issuer, upstream) = (
        issuer().await,
        Upstream::answering(429, ("retry-after", "50")).await,
    );
    let gateway = gateway_to(&upstream, &issuer).await;
    send(&gateway, "GET", "/").await;
    send(&gateway, "GET", "/").await;

    let page = admin(&gateway, "/metrics").await;

    assert_eq!(
        page.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
    for line in [
        r#"gateway_requests_total{tenant="acme",outcome="limited"} 1"#,
        r#"gateway_requests_total{tenant="acme",outcome="held"} 1"#,
        r#"gateway_request_seconds_count{tenant="acme"} 2"#,
        r#"gateway_request_seconds_bucket{tenant="acme",le="+Inf"} 2"#,
        r#"gateway_token_fetched_total{tenant="acme"} 1"#,
        r#"gateway_throttled_total{tenant="acme"} 1"#,
        r#"gateway_token_usable{tenant="acme"} 1"#,
        r#"gateway_in_flight{tenant="acme"} 0"#,
    ] {
        assert!(
            page.body.lines().any(|known| known == line),
            "{line} in\n{}",
            page.body
        );
    }
    let held = r#"gateway_quota_held_seconds{tenant="acme"} "#;
    let mut held = page.body.lines().filter_map(|line| line.strip_prefix(held));
    assert!((40.0..60.0).contains(&held.next().unwrap().parse::<f64>().unwrap()));
    for metric in page.body.lines().filter(|line| !line.starts_with('#')) {
        let name = metric.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end).filter(|n| n.ends_with("_seconds")));
        let declared = format!("# TYPE {} ", family.unwrap_or(name));
        assert!(page.body.contains(&declared), "{metric}");
    }
}

#[tokio::test]
async fn a_call_under_way_is_answered_before_the_end() {
    let issuer = issuer().await;
    let (steps, mut taken) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |_| {
        let steps = steps.clone();
        async move {
            steps.send("arrived").unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            steps.send("answered").unwrap();
            Response::new("late".into())
        }
    })
    .await;
    let gateway = gateway("", &tenant("acme", KEY, &upstream.origin, &issuer)).await;
    let (call, again) = (
        request(&gateway, "GET", "/").body(Body::empty()).unwrap(),
        request(&gateway, "GET", "/").body(Body::empty()).unwrap(),
    );
    let under_way = tokio::spawn(answer(call));
    assert_eq!(taken.recv().await, Some("arrived"));

    gateway.shutdown().await;

    assert_eq!(taken.try_recv(), Ok("answered"));
    let response = under_way.await.unwrap();
    assert_eq!((response.status, response.body.as_str()), (200, "late"));
    assert!(client().request(again).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn it_says_that_it_is_not_ready_before_it_refuses_connections() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let gateway = gateway("drain_delay = 600", &tenants).await;
    let uri = format!("http://{}/readyz", gateway.admin_address());
    let call = request(&gateway, "GET", "/").body(Body::empty()).unwrap();
    assert_eq!(send(&gateway, "GET", "/").await.status, 200);

    let ending = tokio::spawn(gateway.shutdown());
    tokio::task::yield_now().await;
    let ready = answer(http::Request::get(uri).body(Body::empty()).unwrap()).await;
    let response = answer(call).await;
    ending.abort();

    assert_eq!((ready.status, response.status), (503, 200));
    assert!(ready.body.contains(r#""draining":true"#), "{}", ready.body);
}

#[tokio::test]
async fn one_tenant_can_come_from_the_environment() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let variables = HashMap::from([
        ("GATEWAY_LISTEN", "127.0.0.1:0".to_owned()),
        ("GATEWAY_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ("GATEWAY_UPSTREAM", upstream.origin.clone()),
        ("GATEWAY_CALLER_KEYS", format!("another-key-of-acme,{KEY}")),
        ("OAUTH_CLIENT_ID", "acme".to_owned()),
        ("OAUTH_CLIENT_SECRET", "acme-secret".to_owned()),
        ("OAUTH_TOKEN_URL", issuer.token_url()),
        ("OAUTH_HEADER", "x-token".to_owned()),
    ]);
    let config = Config::read(None, |name| variables.get(name).cloned()).unwrap();
    let gateway = gateway::Gateway::start(&config).await.unwrap();

    let response = send(&gateway, "GET", "/").await;

    assert_eq!(response.status, 200);
    let asked = upstream.asked().remove(0);
    assert!(issuer.is_valid(asked.header("x-token").unwrap()));
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration_is_told_without_secrets() {
    let tenant = "[tenants.acme]\nupstream = \"https://api.example.com\"\n";
    let key = "caller_keys = [\"canary-canary-canary\"]\n";
    for (text, told) in [
        ("", "missing field `tenants`"),
        (
            "[tenants.acme]\ncaller_keyz = [\"canary\"]",
            "unknown field `caller_keyz`",
        ),
        ("[tenants]\nx = \"canary", "line 3"),
        (tenant, "tenant \"acme\": has no caller keys"),
        (
            &format!("{tenant}caller_keys = [\"canary\"]"),
            "less than 16 characters",
        ),
        (
            &format!("{tenant}{key}[tenants.acme.credentials]"),
            "client_id is not set",
        ),
        (
            &format!("{tenant}{key}[tenants.acme.credentials]\nclient_sceret = \"canary\""),
            "did you mean client_secret?",
        ),
        (
            &format!("{tenant}{key}[tenants.b]\nupstream = \"https://b.example\"\n{key}"),
            "tenant \"b\": has a caller key that is used twice",
        ),
        (
            &format!("[tenants.acme]\nupstream = \"https://a.example/path\"\n{key}"),
            "it has a path",
        ),
    ] {
        let config = Config::parse(&format!("listen = \"127.0.0.1:0\"\n{text}"));
        let error = match config {
            Err(error) => error,
            Ok(config) => gateway::Gateway::start(&config).await.unwrap_err(),
        };

        let error = error.to_string();
        assert!(error.contains(told), "{told} in {error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn the_configuration_shows_no_keys() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.toml"));
    let config = Config::read(Some(path), |_| None).unwrap();

    let shown = format!("{config:?}");

    assert!(shown.contains("127.0.0.1:8082"), "{shown}");
    assert!(
        !shown.contains("caller-key") && !shown.contains("acme-secret"),
        "{shown}"
    );
}
