//! Time of a request while the server announces its quota in every response, from many threads at once: one partition
//! that all of them use, and a hundred that each of them uses in turn.

use std::fmt::Debug;

use criterion::{BenchmarkId, Criterion, Throughput};
use tower::{Layer, Service, ServiceExt};
use tower_m2m::{M2mLayer, RateLimitRetryLayer};

use crate::support::{
    Announcing, Answer, Sent,
    announced::{Fields, Quotas, origin},
    block_on, credentials_for, prefetch, request_to, together,
};

pub(crate) fn announced(c: &mut Criterion) {
    for fields in Fields::SETS {
        for origins in [1, 100] {
            let name = fields.name();
            let mut group =
                c.benchmark_group(format!("contention/announced/{name}/{origins}_partitions"));
            group.throughput(Throughput::Elements(1));
            // A server for each stack, whose quotas no other uses.
            let server = || Announcing(Quotas::leak(fields, origins));
            let limits = RateLimitRetryLayer::new;
            let (bare, limited) = (server(), limits().layer(server()));
            let both = M2mLayer::new(limits(), prefetch(credentials_for(origins)));
            let both = both.layer(server());
            for threads in [1, 2, 8] {
                group.bench_function(BenchmarkId::new("bare", threads), |b| {
                    b.iter_custom(|rounds| together(threads, rounds, || turn(&bare, origins)));
                });
                group.bench_function(BenchmarkId::new("limits", threads), |b| {
                    b.iter_custom(|rounds| together(threads, rounds, || turn(&limited, origins)));
                });
                group.bench_function(BenchmarkId::new("both", threads), |b| {
                    b.iter_custom(|rounds| together(threads, rounds, || turn(&both, origins)));
                });
            }
        }
    }
}

/// One thread's requests: to each origin in turn, with a clone of its own.
fn turn<S>(service: &S, origins: usize) -> impl FnOnce(u64) + use<S>
where
    S: Service<Sent, Response = Answer> + Clone,
    S::Error: Debug,
{
    let mut service = service.clone();
    let requests: Vec<_> = (0..origins)
        .map(|number| request_to(&origin(number, origins)))
        .collect();
    // Each thread begins elsewhere, so that they do not meet at every origin.
    let first = fastrand::usize(..origins);
    move |rounds| {
        let order = (0..origins).cycle().skip(first);
        for (_, place) in (0..rounds).zip(order) {
            let request = requests[place].clone();
            let sent = async { service.ready().await?.call(request).await };
            let answer = block_on(sent).expect("a response");
            assert!(answer.status().is_success());
        }
    }
}
