//! Time that the layers add to a request when nothing goes wrong.
//!
//! Each stack is measured over two inner services (one whose clone is free, and one that is boxed, so that its clone
//! allocates), with both habits of callers (one long-lived clone per thread; a clone per request), on 1, 2 and 8 threads.
//! A figure is the time from the first start to the last end divided by the number of requests; subtract `bare`.
//!
//! `hot_path/announced`: the same over a server that announces its quota in every response, in the fields of Didit,
//! GitHub and the IETF's draft 10, with long-lived clones.
#![expect(clippy::disallowed_methods, reason = "benchmarks measure time")]

mod support;

use std::{convert::Infallible, fmt::Debug, future::Ready, time::Duration};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use tower::{
    Layer, Service, ServiceExt,
    retry::{Policy, RetryLayer},
    util::BoxCloneSyncService,
};
use tower_http::auth::AddAuthorizationLayer;
use tower_m2m::{M2mLayer, RateLimitRetryLayer};

use support::{
    Announcing, Answer, Immediate, Sent,
    announced::{Fields, Quotas},
    block_on, credentials, prefetch, request, together, token,
};

/// A policy that copies each request and never uses the copy, as policies do when nothing goes wrong.
#[derive(Clone, Copy, Debug)]
struct Copying;

impl<E> Policy<Sent, Answer, E> for Copying {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Sent, _: &mut Result<Answer, E>) -> Option<Ready<()>> {
        None
    }

    fn clone_request(&mut self, request: &Sent) -> Option<Sent> {
        Some(request.clone())
    }
}

fn immediate(c: &mut Criterion) {
    all_over(c, "immediate", &Immediate);
}

fn boxed(c: &mut Criterion) {
    all_over(c, "boxed", &BoxCloneSyncService::new(Immediate));
}

fn all_over<S>(c: &mut Criterion, inner: &str, service: &S)
where
    S: Service<Sent, Response = Answer, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let authorization = || AddAuthorizationLayer::bearer(&token());
    let replay_off = || prefetch(credentials().replay(false));
    let replay_on = || prefetch(credentials());
    let limits = RateLimitRetryLayer::new;
    let inner_service = || service.clone();

    let authorized = authorization().layer(inner_service());
    let retried = RetryLayer::new(Copying).layer(inner_service());
    let retried_and_authorized = RetryLayer::new(Copying).layer(authorized.clone());
    let limited = limits().layer(inner_service());
    let stacked = limits().layer(replay_on().layer(inner_service()));
    let combined = M2mLayer::new(limits(), replay_on()).layer(inner_service());

    let token = replay_off().layer(inner_service());
    let token_replay = replay_on().layer(inner_service());

    for habit in [CloneMode::Reused, CloneMode::Cloned] {
        let mut group = c.benchmark_group(format!("hot_path/{inner}/{habit:?}"));
        group.throughput(Throughput::Elements(1));
        let group = &mut group;
        measure(group, habit, "bare", service);
        measure(group, habit, "add_authorization", &authorized);
        measure(group, habit, "token", &token);
        measure(
            group,
            habit,
            "retry_and_add_authorization",
            &retried_and_authorized,
        );
        measure(group, habit, "token_replay", &token_replay);
        measure(group, habit, "retry", &retried);
        measure(group, habit, "limits", &limited);
        measure(group, habit, "both_stacked", &stacked);
        measure(group, habit, "both_combined", &combined);
    }
}

fn announced(c: &mut Criterion) {
    for fields in Fields::SETS {
        // A server for each stack, whose quota no other uses.
        let server = || Announcing(Quotas::leak(fields, 1));
        let authorized = AddAuthorizationLayer::bearer(&token()).layer(server());
        let retried = RetryLayer::new(Copying).layer(server());
        let retried_and_authorized = RetryLayer::new(Copying).layer(authorized);
        let limited = RateLimitRetryLayer::new().layer(server());
        let combined = M2mLayer::new(RateLimitRetryLayer::new(), prefetch(credentials()));
        let combined = combined.layer(server());

        let mut group = c.benchmark_group(format!("hot_path/announced/{}", fields.name()));
        group.throughput(Throughput::Elements(1));
        let group = &mut group;
        let habit = CloneMode::Reused;
        measure(group, habit, "bare", &server());
        measure(
            group,
            habit,
            "retry_and_add_authorization",
            &retried_and_authorized,
        );
        measure(group, habit, "retry", &retried);
        measure(group, habit, "limits", &limited);
        measure(group, habit, "both_combined", &combined);
    }
}

/// How callers use a service.
#[derive(Clone, Copy, Debug)]
enum CloneMode {
    /// One long-lived clone per thread.
    Reused,
    /// A clone per request.
    Cloned,
}

/// Measures a service on 1, 2 and 8 threads.
fn measure<S>(group: &mut BenchmarkGroup<'_, WallTime>, habit: CloneMode, name: &str, service: &S)
where
    S: Service<Sent, Response = Answer> + Clone + Sync,
    S::Error: Debug,
{
    for threads in [1, 2, 8] {
        group.bench_function(BenchmarkId::new(name, threads), |b| {
            b.iter_custom(|iterations| match habit {
                CloneMode::Reused => together(threads, iterations, || {
                    let (mut service, request) = (service.clone(), request());
                    move |rounds| {
                        for _ in 0..rounds {
                            send(&mut service, request.clone());
                        }
                    }
                }),
                CloneMode::Cloned => together(threads, iterations, || {
                    let request = request();
                    move |rounds| {
                        for _ in 0..rounds {
                            send(&mut service.clone(), request.clone());
                        }
                    }
                }),
            });
        });
    }
}

fn send<S>(service: &mut S, request: Sent)
where
    S: Service<Sent, Response = Answer>,
    S::Error: Debug,
{
    let sent = async { service.ready().await?.call(request).await };
    let answer = block_on(sent);
    assert!(answer.expect("a response").status().is_success());
}

fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
}

criterion_group!(name = benches; config = config(); targets = immediate, boxed, announced);
criterion_main!(benches);
