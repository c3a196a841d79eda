//! Which credential reaches which side.

use axum::body::Body;
use http::{Request, header::AUTHORIZATION};
use tower_m2m::test_util::Issuer;

use crate::support::{KEY, Upstream, answer, gateway, gateway_to, issuer, request, send, tenant};

#[tokio::test]
async fn the_callers_credentials_are_not_forwarded() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    let path = "/orders?a=1&access_token=canary&access%5Ftoken=canary&b=2";
    let request = request(&gateway, "GET", path)
        .header("proxy-authorization", "Basic canary")
        .header("cookie", "session=canary")
        .header("connection", "x-hop, keep-alive")
        .header("x-hop", "canary")
        .header("keep-alive", "timeout=canary")
        .header("te", "trailers")
        .header("proxy-connection", "canary")
        .header("upgrade", "canary")
        .header("expect", "100-continue")
        .header("x-end-to-end", "kept");

    let response = answer(request.body(Body::empty()).unwrap()).await;

    assert_eq!(response.status, 200);
    let [asked] = &upstream.requests()[..] else {
        panic!("not one request: {:?}", upstream.requests());
    };
    let shown = format!("{asked:?}");
    assert!(!shown.contains("canary") && !shown.contains(KEY), "{shown}");
    for name in ["te", "upgrade", "connection", "expect", "proxy-connection"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert_eq!(asked.uri.path_and_query().unwrap(), "/orders?a=1&b=2");
    assert_eq!(asked.header("x-end-to-end"), Some("kept"));
    assert_eq!(
        asked.header("host"),
        upstream.origin.strip_prefix("http://")
    );
    let token = asked
        .header("authorization")
        .unwrap()
        .strip_prefix("Bearer ");
    assert!(issuer.is_valid(token.unwrap()));
}

#[tokio::test]
async fn a_callers_value_in_the_credential_header_is_replaced() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer) + "header = \"x-api-key\"\n";
    let gateway = gateway("", &tenants).await;
    let request = request(&gateway, "GET", "/").header("x-api-key", "canary");

    let response = answer(request.body(Body::empty()).unwrap()).await;

    assert_eq!(response.status, 200);
    let asked = upstream.requests().remove(0);
    assert_eq!(asked.header("authorization"), None);
    assert!(issuer.is_valid(asked.header("x-api-key").unwrap()));
}

#[tokio::test]
async fn unknown_callers_are_rejected_and_nothing_is_sent() {
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    let gateway = gateway_to(&upstream, &issuer).await;
    let known = format!("Bearer {KEY}");
    let cases: [&[&str]; 6] = [
        &[],
        &["Bearer another-key-of-nobody"],
        &["Bearer "],
        &[KEY],
        &["Basic caller-key-of-acme"],
        &[&known, "Bearer another-key-of-nobody"],
    ];
    for values in cases {
        let mut request = Request::get(format!("http://{}/", gateway.address()))
            // None of these is who the caller is.
            .header("x-tenant", "acme")
            .header("x-forwarded-user", "acme");
        for value in values {
            request = request.header(AUTHORIZATION, *value);
        }

        let response = answer(request.body(Body::empty()).unwrap()).await;

        assert_eq!(response.status, 401, "{values:?}");
        assert_eq!(
            response.header("www-authenticate"),
            Some("Bearer realm=\"gateway\"")
        );
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn each_tenant_has_its_own_token_and_upstream() {
    let (one, other) = (issuer().await, issuer().await);
    let upstreams = [
        Upstream::answering(200, ("x", "y")).await,
        Upstream::answering(200, ("x", "y")).await,
    ];
    let tenants = tenant("one", KEY, &upstreams[0].origin, &one)
        + &tenant("other", "caller-key-of-other", &upstreams[1].origin, &other);
    let gateway = gateway("", &tenants).await;
    let by_other = Request::get(format!("http://{}/", gateway.address()))
        .header(AUTHORIZATION, "Bearer caller-key-of-other");

    send(&gateway, "GET", "/").await;
    answer(by_other.body(Body::empty()).unwrap()).await;

    for (upstream, issuer) in upstreams.iter().zip([one, other]) {
        let [asked] = &upstream.requests()[..] else {
            panic!("not one request: {:?}", upstream.requests());
        };
        let token = asked
            .header("authorization")
            .unwrap()
            .strip_prefix("Bearer ");
        assert!(issuer.is_valid(token.unwrap()));
    }
}

#[tokio::test]
async fn an_upstreams_401_becomes_a_502_without_its_challenge() {
    let issuer = issuer().await;
    for (status, name) in [(401, "www-authenticate"), (407, "proxy-authenticate")] {
        let upstream = Upstream::answering(status, (name, "Bearer realm=\"upstream\"")).await;
        let gateway = gateway_to(&upstream, &issuer).await;

        let response = send(&gateway, "GET", "/").await;

        assert_eq!((response.status, response.header(name)), (502, None));
        assert!(
            !response.body.contains("from upstream"),
            "{}",
            response.body
        );
    }
}

#[tokio::test]
async fn upstream_challenges_and_cookies_are_not_forwarded() {
    let issuer = issuer().await;
    for name in [
        "www-authenticate",
        "set-cookie",
        "proxy-authenticate",
        "keep-alive",
    ] {
        let upstream = Upstream::answering(403, (name, "canary")).await;
        let gateway = gateway_to(&upstream, &issuer).await;

        let response = send(&gateway, "GET", "/").await;

        assert_eq!((response.status, response.header(name)), (403, None));
        assert_eq!(response.body, "from upstream");
    }
}

#[tokio::test]
async fn a_failing_issuer_becomes_a_503_with_retry_after() {
    use tower_m2m::test_util::Fault;
    let (issuer, upstream) = (issuer().await, Upstream::answering(200, ("x", "y")).await);
    issuer.always(Some(Fault::retry_after(
        http::StatusCode::SERVICE_UNAVAILABLE,
        40,
    )));
    let gateway = gateway_to(&upstream, &issuer).await;

    let response = send(&gateway, "GET", "/").await;

    assert_eq!(response.status, 503);
    assert!(
        (30..=60).contains(&response.retry_after().unwrap()),
        "{response:?}"
    );
    assert_eq!(response.header("www-authenticate"), None);
    assert!(
        !response.body.contains(&issuer.origin()),
        "{}",
        response.body
    );
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn rejected_client_credentials_become_a_502() {
    let issuer = Issuer::builder()
        .client("acme", "another")
        .start()
        .await
        .unwrap();
    let upstream = Upstream::answering(200, ("x", "y")).await;
    let gateway = gateway_to(&upstream, &issuer).await;

    let response = send(&gateway, "GET", "/").await;

    assert_eq!(response.status, 502);
    assert_eq!(response.header("www-authenticate"), None);
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_failing_issuer_affects_one_tenant_only() {
    use tower_m2m::test_util::Fault;
    let (well, ill) = (issuer().await, issuer().await);
    ill.always(Some(Fault::Hang));
    let upstream = Upstream::answering(200, ("x", "y")).await;
    let tenants = tenant("well", KEY, &upstream.origin, &well)
        + &tenant("ill", "caller-key-of-the-ill", &upstream.origin, &ill);
    let gateway = gateway("", &tenants).await;
    let by_ill = Request::get(format!("http://{}/", gateway.address()))
        .header(AUTHORIZATION, "Bearer caller-key-of-the-ill");
    let stuck = tokio::spawn(answer(by_ill.body(Body::empty()).unwrap()));

    let response = send(&gateway, "GET", "/").await;

    assert_eq!(response.status, 200);
    assert!(!stuck.is_finished());
    stuck.abort();
}
