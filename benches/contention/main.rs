//! Time to read one shared token from many threads and tasks at once.
//!
//! The crate's token cache is measured through the layer (replay off), because that is how requests read it. The others
//! are hand-written alternatives around the same header value, over the same service: one whose clone is free, and one
//! that is boxed. With `refreshing`, a writer publishes a new token every millisecond, far more often than any issuer
//! allows. `Cloned` clones the client for each request; otherwise threads and tasks keep theirs. A figure is the time from
//! the first start to the last end divided by the number of requests.
//!
//! `contention/announced` does the same for quotas: see `quotas.rs`.
#![expect(
    clippy::disallowed_methods,
    reason = "benchmarks measure time, and their writer sleeps on a thread of its own"
)]
#![expect(
    clippy::disallowed_types,
    reason = "locks that the token cache is compared with"
)]

mod clients;
mod quotas;
#[path = "../support/mod.rs"]
mod support;

use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use tokio::runtime::Builder;
use tower::util::BoxCloneSyncService;

use clients::{ByHand, Client, Inner, LayerClient};
use support::{Immediate, block_on, request, together};

fn contention(c: &mut Criterion) {
    for refreshing in [false, true] {
        for on in [On::Threads, On::Tasks] {
            over(c, "", &Immediate, on, refreshing);
        }
    }
    let boxed = BoxCloneSyncService::new(Immediate);
    over(c, "", &Immediate, On::Cloned, false);
    over(c, "boxed/", &boxed, On::Threads, false);
    over(c, "boxed/", &boxed, On::Cloned, false);
}

fn over(c: &mut Criterion, name: &str, inner: &impl Inner, on: On, refreshing: bool) {
    let how = if refreshing { "refreshing" } else { "reading" };
    let mut group = c.benchmark_group(format!("contention/{name}{on:?}/{how}"));
    group.throughput(Throughput::Elements(1));
    let group = &mut group;
    measure(
        group,
        on,
        refreshing,
        "cell",
        &LayerClient::new(inner.clone()),
    );
    let by_hand = ByHand::<RwLock<_>, _>::new(inner);
    measure(group, on, refreshing, "std_rwlock", &by_hand);
    let by_hand = ByHand::<Mutex<_>, _>::new(inner);
    measure(group, on, refreshing, "mutex", &by_hand);
    let by_hand = ByHand::<tokio::sync::RwLock<_>, _>::new(inner);
    measure(group, on, refreshing, "tokio_rwlock", &by_hand);
    let by_hand = ByHand::<ArcSwap<_>, _>::new(inner);
    measure(group, on, refreshing, "arc_swap", &by_hand);
}

/// What sends the requests.
#[derive(Clone, Copy, Debug)]
enum On {
    /// Bare threads, 1 to 8.
    Threads,
    /// Bare threads, 1 to 8, with a clone per request.
    Cloned,
    /// Tasks on a multi-thread runtime, 1 to 64.
    Tasks,
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    on: On,
    refreshing: bool,
    name: &str,
    client: &impl Client,
) {
    let writer = refreshing.then(|| Writer::start(client.clone()));
    match on {
        On::Threads | On::Cloned => {
            for threads in [1, 2, 4, 8] {
                group.bench_function(BenchmarkId::new(name, threads), |b| {
                    b.iter_custom(|iterations| match on {
                        On::Cloned => on_threads_cloned(threads, iterations, client),
                        _ => on_threads(threads, iterations, client),
                    });
                });
            }
        }
        On::Tasks => {
            let runtime = Builder::new_multi_thread().build().expect("a runtime");
            for tasks in [1, 8, 64] {
                group.bench_function(BenchmarkId::new(name, tasks), |b| {
                    b.iter_custom(|iterations| {
                        runtime.block_on(on_tasks(tasks, iterations, client))
                    });
                });
            }
        }
    }
    drop(writer);
}

fn on_threads(threads: u64, iterations: u64, client: &impl Client) -> Duration {
    together(threads, iterations, || {
        let (mut client, request) = (client.clone(), request());
        move |rounds| {
            for _ in 0..rounds {
                block_on(client.send(request.clone()));
            }
        }
    })
}

fn on_threads_cloned(threads: u64, iterations: u64, client: &impl Client) -> Duration {
    together(threads, iterations, || {
        let request = request();
        move |rounds| {
            for _ in 0..rounds {
                block_on(client.clone().send(request.clone()));
            }
        }
    })
}

async fn on_tasks<C: Client>(tasks: u64, iterations: u64, client: &C) -> Duration {
    let rounds = iterations.div_ceil(tasks);
    let mut running = tokio::task::JoinSet::new();
    let began = Instant::now();
    for _ in 0..tasks {
        let mut client = client.clone();
        running.spawn(async move {
            let request = request();
            for round in 0..rounds {
                client.send(request.clone()).await;
                // As a task that also does other work.
                if round % 64 == 63 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("no panic");
    }
    let done = rounds * tasks;
    began.elapsed().mul_f64(iterations as f64 / done as f64)
}

/// A thread that publishes a token every millisecond until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    fn start(client: impl Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                client.publish();
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer does not panic");
        }
    }
}

fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
}

criterion_group!(name = benches; config = config(); targets = contention, quotas::announced);
criterion_main!(benches);
