//! Which tenants are kept, and which are removed when.

use std::future::{pending, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tokio::time::{advance, timeout};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::*;
use crate::{
    ClientCredentialsLayer, RateLimitRetryLayer, client_credentials::AccessToken,
    rate_limit_retry::LocalLimit,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Each tenant may send one request in 20 s.
fn table(most: usize) -> Table {
    let make = |_: &CredentialId| {
        let origin = "https://api.example".parse()?;
        let credentials = ClientCredentialsLayer::builder(AccessToken::new("key"), origin).build();
        let limits = RateLimitRetryLayer::builder().limit(LocalLimit::per(1, 20 * SECOND));
        Ok(Some(M2mLayer::new(limits.build(), credentials)))
    };
    let limits = Limits {
        max_tenants: most,
        idle_timeout: HOUR,
    };
    Table::new(Box::new(make), limits, SharedClock::default())
}

impl Table {
    /// The tenant of this name, who sends something now.
    fn used(&self, name: &'static str) -> Arc<Tenant> {
        self.tenant(&CredentialId::new(name)).unwrap()
    }

    fn contains(&self, name: &'static str) -> bool {
        let id = CredentialId::new(name);
        assert_eq!(self.get(&id).is_some(), self.ids().contains(&id));
        self.get(&id).is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn idle_tenants_are_swept_every_quarter_of_the_timeout() {
    // The first sweep finds the tenants used since the last one, and their idle time counts from then on.
    for (first_look, is_one) in [(HOUR / 4 - MS, false), (HOUR / 4, true)] {
        let table = table(10);
        table.used("a");
        advance(first_look).await;
        table.used("b");
        advance(HOUR).await;
        table.used("c");

        assert_eq!(table.contains("a"), !is_one, "{first_look:?}");
        assert!(table.contains("b") && table.contains("c"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_evicted_after_an_hour_without_a_request() {
    for (idle, kept) in [(HOUR - MS, true), (HOUR, false)] {
        let table = table(10);
        table.used("a");
        advance(HOUR / 4).await;
        table.used("b");
        advance(idle).await;
        table.used("c");

        assert_eq!(table.contains("a"), kept, "{idle:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_table_sweeps_idle_tenants_immediately() {
    let table = table(1);
    table.used("a");
    advance(MS).await;
    let full = table.tenant(&CredentialId::new("b"));
    assert!(matches!(full, Err(TenantError::AtCapacity(_))));

    // Its idle time counts from that sweep.
    advance(HOUR - MS).await;
    assert!(table.tenant(&CredentialId::new("b")).is_err());
    advance(MS).await;
    table.used("b");

    assert!(!table.contains("a"));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_tenant_returns_with_a_new_token_cache() {
    let table = table(10);
    let first = table.used("a");
    assert!(Arc::ptr_eq(&first, &table.used("a")));

    assert!(!table.forget(&CredentialId::new("b")));
    assert!(Arc::ptr_eq(&first, &table.used("a")));
    assert!(table.forget(&CredentialId::new("a")));
    assert!(!table.contains("a"));
    let second = table.used("a");
    assert!(!Arc::ptr_eq(&first, &second));
}

#[tokio::test(start_paused = true)]
async fn an_evicted_tenant_is_removed_from_local_copies() {
    let table = table(10);
    table.used("idle");
    let tenant = table.used("a");
    advance(HOUR / 4).await;
    table.used("b");
    advance(HOUR / 2).await;
    assert!(Arc::ptr_eq(&tenant, &table.used("a")));
    advance(HOUR / 2).await;
    // Another one is removed first.
    table.used("c");
    assert!(!table.contains("idle") && table.contains("a"));
    advance(HOUR).await;
    table.used("d");

    assert!(!table.contains("a"));
    assert!(!Arc::ptr_eq(&tenant, &table.used("a")));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_queued_or_in_flight_requests_is_busy() {
    // How many requests are answered before one is not, and what that one does.
    for (answered, waiting, in_flight) in [(0, 0, 1), (1, 1, 0)] {
        let tenant = table(1).used("a");
        let service = service_fn(move |_: Request<Empty<Bytes>>| -> BoxFuture {
            match answered {
                0 => Box::pin(pending()),
                _ => Box::pin(ready(Ok(Response::new(Empty::new())))),
            }
        });
        let service = tenant.layer.layer(BoxCloneSyncService::new(service));
        let send = || {
            let request = Request::get("https://api.example/").body(Empty::new());
            Box::pin(service.clone().oneshot(request.unwrap()))
        };
        assert!(!tenant.is_busy());
        for _ in 0..answered {
            send().await.unwrap();
            assert!(!tenant.is_busy());
        }

        let mut call = send();
        assert!(timeout(SECOND, &mut call).await.is_err());

        let quota = &tenant.layer.handle().quotas().status()[0];
        assert_eq!((quota.waiting(), quota.in_flight()), (waiting, in_flight));
        assert_eq!(quota.held_for(), None);
        assert!(tenant.is_busy());
        drop(call);
        assert!(!tenant.is_busy());
    }
}

type BoxFuture =
    std::pin::Pin<Box<dyn Future<Output = Result<Response<Empty<Bytes>>, BoxError>> + Send>>;
