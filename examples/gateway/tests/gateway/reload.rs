//! A configuration that changes while requests are served.

use gateway::{Changes, Config, Gateway};
use tower_m2m::test_util::{Api, Issuer};

use crate::support::{KEY, Upstream, admin, gateway, issuer, metric, request, tenant};

const OTHER_KEY: &str = "caller-key-of-globex";

fn config(text: &str) -> Config {
    let ports = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    Config::parse(&format!("{ports}{text}")).unwrap()
}

fn reload(gateway: &mut Gateway, text: &str) -> [usize; 4] {
    let changes = gateway.reload(&config(text)).unwrap();
    let Changes {
        added,
        removed,
        replaced,
        kept,
        ..
    } = changes;
    [added, removed, replaced, kept]
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    let mut request = request(gateway, "GET", "/")
        .body(axum::body::Body::empty())
        .unwrap();
    let value = format!("Bearer {key}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    crate::support::answer(request).await.status
}

async fn api(issuer: &Issuer) -> Api {
    Api::builder()
        .tokens(issuer.tokens())
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_reload_keeps_the_tokens_of_tenants_that_did_not_change() {
    let issuer = issuer().await;
    let api = api(&issuer).await;
    let acme = tenant("acme", KEY, &api.origin(), &issuer);
    let globex = |key: &str, more: &str| {
        let table = tenant("globex", key, &api.origin(), &issuer);
        table.replace("client_auth", &format!("{more}client_auth"))
    };
    let mut gateway = gateway("", &acme).await;
    assert_eq!(status(&gateway, KEY).await, 200);
    assert_eq!(status(&gateway, OTHER_KEY).await, 401);

    // Another tenant, and another key and deadline of the first one.
    let acme = acme.replace(KEY, "another-key-of-acme");
    let added = reload(
        &mut gateway,
        &format!("deadline = 50\n{acme}{}", globex(OTHER_KEY, "")),
    );
    assert_eq!(added, [1, 0, 0, 1]);
    assert_eq!(status(&gateway, OTHER_KEY).await, 200);
    assert_eq!(status(&gateway, "another-key-of-acme").await, 200);
    assert_eq!(status(&gateway, KEY).await, 401);
    assert_eq!(issuer.stats().issued, 2, "one for each tenant");
    let requests = r#"gateway_requests_total{tenant="acme",outcome="passed"}"#;
    assert_eq!(metric(&gateway, requests).await, 2.0, "the counters go on");

    // Another credential of the second one, then it is gone.
    let scoped = format!("{acme}{}", globex(OTHER_KEY, "scope = \"orders\"\n"));
    assert_eq!(reload(&mut gateway, &scoped), [0, 0, 1, 1]);
    assert_eq!(status(&gateway, OTHER_KEY).await, 200);
    assert_eq!(issuer.stats().issued, 3);
    let scope = issuer
        .requests()
        .last()
        .unwrap()
        .parameter("scope")
        .map(str::to_owned);
    assert_eq!(scope.as_deref(), Some("orders"));
    assert_eq!(reload(&mut gateway, &acme), [0, 1, 0, 1]);
    assert_eq!(status(&gateway, OTHER_KEY).await, 401);
    assert_eq!(status(&gateway, "another-key-of-acme").await, 200);
    assert_eq!(issuer.stats().issued, 3);
    let page = admin(&gateway, "/readyz").await.body;
    assert!(!page.contains("globex"), "{page}");
    let applied = metric(
        &gateway,
        r#"gateway_config_reloads_total{outcome="applied"}"#,
    )
    .await;
    assert_eq!(applied, 3.0);
}

#[tokio::test]
async fn a_wrong_configuration_leaves_the_previous_one_in_use() {
    let issuer = issuer().await;
    let api = api(&issuer).await;
    let acme = tenant("acme", KEY, &api.origin(), &issuer);
    let mut gateway = gateway("", &acme).await;
    assert_eq!(status(&gateway, KEY).await, 200);

    // The same key twice.
    let globex = tenant("globex", KEY, &api.origin(), &issuer);
    let error = gateway
        .reload(&config(&format!("{acme}{globex}")))
        .unwrap_err();

    let error = error.to_string();
    assert!(
        error.contains("used twice") && !error.contains(KEY),
        "{error}"
    );
    assert_eq!(status(&gateway, KEY).await, 200);
    assert_eq!(issuer.stats().issued, 1);
}

#[tokio::test]
async fn requests_in_flight_end_with_the_configuration_that_they_began_with() {
    let issuer = issuer().await;
    let (release, held) = tokio::sync::watch::channel(false);
    let upstream = Upstream::start(move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|released| *released).await.unwrap();
            axum::response::Response::new("late".into())
        }
    })
    .await;
    let revoking = |name: &str, key: &str| {
        let table = tenant(name, key, &upstream.origin, &issuer);
        format!(
            "{table}revoke_on_shutdown = \"{}\"\n",
            issuer.revocation_url()
        )
    };
    let mut gateway = gateway("", &revoking("acme", KEY)).await;
    let address = gateway.address();
    let waiting = tokio::spawn(async move {
        let call = http::Request::get(format!("http://{address}/"))
            .header("authorization", format!("Bearer {KEY}"))
            .body(axum::body::Body::empty());
        crate::support::answer(call.unwrap()).await
    });
    while upstream.requests().is_empty() {
        tokio::task::yield_now().await;
    }

    assert_eq!(
        reload(&mut gateway, &revoking("globex", OTHER_KEY)),
        [1, 1, 0, 0]
    );
    // Time for a revocation that comes too early.
    for _ in 0..50 {
        admin(&gateway, "/livez").await;
    }
    assert_eq!(issuer.stats().revoked, 0, "the request may need its token");
    release.send(true).unwrap();
    let answer = waiting.await.unwrap();

    assert_eq!((answer.status, &*answer.body), (200, "late"));
    // The token of the tenant that is gone.
    while issuer.stats().revoked == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&gateway, KEY).await, 401);
}

#[tokio::test]
async fn callers_that_leave_are_counted() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let gateway = gateway("", &tenant("acme", KEY, &upstream.origin, &issuer)).await;
    let left = request(&gateway, "PUT", "/")
        .body(axum::body::Body::empty())
        .unwrap();
    let left = tokio::spawn(crate::support::client().request(left));
    while upstream.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    left.abort();

    let name = r#"gateway_requests_total{tenant="acme",outcome="caller_left"}"#;
    while metric(&gateway, name).await < 1.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(metric(&gateway, name).await, 1.0);
}
