//! Health, metrics and the end.

use std::time::Duration;

use axum::{body::Body, response::Response};
use tokio::sync::mpsc;
use tower_m2m::test_util::Fault;

use crate::support::{
    KEY, Upstream, admin, answer, client, gateway, gateway_to, issuer, request, send, tenant,
};

#[tokio::test]
async fn without_an_issuer_the_gateway_is_live_but_not_ready() {
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
async fn the_gateway_becomes_ready_without_a_request() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;

    while admin(&gateway, "/readyz").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(issuer.stats().requests, 1);
}

#[tokio::test]
async fn readyz_reports_token_and_quota() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|_| async {
        let response = Response::builder()
            .header("ratelimit-limit", "100")
            .header("ratelimit-remaining", "7")
            .header("ratelimit-reset", "30");
        response.body(Body::empty()).unwrap()
    })
    .await;
    let gateway = gateway_to(&upstream, &issuer).await;
    send(&gateway, "GET", "/").await;

    let ready = admin(&gateway, "/readyz").await;

    assert_eq!(ready.status, 200);
    let told: serde_json::Value = serde_json::from_str(&ready.body).unwrap();
    let acme = &told["tenants"]["acme"];
    assert_eq!(acme["token_usable"], true);
    assert!(
        acme["token_expires_seconds"].as_u64().unwrap() > 200,
        "{told}"
    );
    let quota = &acme["quotas"][0];
    assert_eq!(
        (&quota["limit"], &quota["remaining"]),
        (&100.into(), &7.into())
    );
    assert!(quota["reset_seconds"].as_u64().unwrap() <= 30, "{told}");
}

#[tokio::test]
async fn the_gateway_is_ready_if_one_tenant_is() {
    let (well, ill) = (issuer().await, issuer().await);
    ill.always(Some(Fault::Reset));
    let upstream = Upstream::answering(200, ("x", "y")).await;
    let tenants = tenant("well", KEY, &upstream.origin, &well)
        + &tenant("ill", "caller-key-of-the-ill", &upstream.origin, &ill);
    let gateway = gateway("", &tenants).await;
    send(&gateway, "GET", "/").await;

    let ready = admin(&gateway, "/readyz").await;

    assert_eq!(ready.status, 200);
    let told: serde_json::Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!(told["tenants"]["ill"]["token_usable"], false);
}

#[tokio::test]
async fn a_tenant_without_credentials_does_not_count_for_readiness() {
    let ill = issuer().await;
    ill.always(Some(Fault::Reset));
    let upstream = Upstream::answering(200, ("x", "y")).await;
    let plain = format!(
        "[tenants.plain]\nupstream = \"{}\"\ncaller_keys = [\"{KEY}\"]\n",
        upstream.origin
    );
    let with_ill = tenant("ill", "caller-key-of-the-ill", &upstream.origin, &ill);

    let mixed = gateway("", &format!("{plain}{with_ill}")).await;
    let alone = gateway("", &plain).await;

    assert_eq!(admin(&mixed, "/readyz").await.status, 503);
    assert_eq!(admin(&alone, "/readyz").await.status, 200);
    ill.always(None);
    while admin(&mixed, "/readyz").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn metrics_never_print_negative_zero() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;

    // Before the first request, and after it.
    let before = admin(&gateway, "/metrics").await.body;
    send(&gateway, "GET", "/").await;
    let after = admin(&gateway, "/metrics").await.body;

    for page in [before, after] {
        assert!(!page.contains(" -"), "{page}");
    }
}

#[tokio::test]
async fn callers_cannot_reach_admin_endpoints() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let anonymous = http::Request::get(format!("http://{}{path}", gateway.address()));

        let response = answer(anonymous.body(Body::empty()).unwrap()).await;

        assert_eq!(response.status, 401, "{path}");
        // With a key it is a path of the upstream's.
        assert_eq!(send(&gateway, "GET", path).await.body, "from upstream");
    }
    // And operators do not reach the upstream.
    assert_eq!(admin(&gateway, "/orders").await.status, 404);
}

#[tokio::test]
async fn metrics_report_outcomes_tokens_and_quotas_per_tenant() {
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
        r#"gateway_token_fetches_total{tenant="acme"} 1"#,
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
    let series = |line: &&str| !line.is_empty() && !line.starts_with('#');
    for metric in page.body.lines().filter(series) {
        let name = metric.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end).filter(|n| n.ends_with("_seconds")));
        let declared = format!("# TYPE {} ", family.unwrap_or(name));
        assert!(page.body.contains(&declared), "{metric}");
    }
}

#[tokio::test]
async fn metrics_of_the_layers_have_descriptions_and_their_buckets() {
    gateway::record_metrics().unwrap();
    let (issuer, upstream) = (
        issuer().await,
        Upstream::answering(429, ("retry-after", "50")).await,
    );
    let gateway = gateway_to(&upstream, &issuer).await;
    send(&gateway, "GET", "/").await;

    let page = admin(&gateway, "/metrics").await;

    for (name, bounds) in [
        ("tower_m2m_token_fetch_seconds", ["0.025", "30"]),
        ("tower_m2m_hold_seconds", ["0.1", "3600"]),
    ] {
        for line in ["HELP", "TYPE"] {
            let line = format!("# {line} {name} ");
            assert!(page.body.contains(&line), "{line} in\n{}", page.body);
        }
        for bound in bounds {
            let bucket = format!("le=\"{bound}\"");
            let mut lines = page.body.lines();
            let found = lines.any(|line| line.starts_with(name) && line.contains(&bucket));
            assert!(found, "{name} {bucket} in\n{}", page.body);
        }
    }
}

#[tokio::test]
async fn shutdown_waits_for_requests_in_flight() {
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
async fn shutdown_aborts_requests_after_the_timeout() {
    let issuer = issuer().await;
    let (steps, mut taken) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |_| {
        let steps = steps.clone();
        async move {
            steps.send("arrived").unwrap();
            std::future::pending().await
        }
    })
    .await;
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let gateway = gateway("shutdown_timeout = 1", &tenants).await;
    let call = request(&gateway, "GET", "/").body(Body::empty()).unwrap();
    let under_way = tokio::spawn(client().request(call));
    assert_eq!(taken.recv().await, Some("arrived"));

    let ended = tokio::time::timeout(Duration::from_secs(20), gateway.shutdown()).await;

    assert!(ended.is_ok());
    under_way.abort();
}

#[tokio::test]
async fn shutdown_reports_not_ready_before_closing_listeners() {
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
