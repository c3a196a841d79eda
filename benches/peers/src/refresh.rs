//! Latency while a valid token is renewed, and the end of a cold start.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::{runtime::Runtime, sync::watch, time::sleep};
use tower::{Layer, Service, ServiceExt};
use tower_m2m::{
    ClientCredentialsLayer, Clock, SystemClock,
    client_credentials::{AccessToken, FetchContext, TokenError, TokenSource},
};

use crate::{
    contestants::block_on,
    inner::{Free, Inner, Plain, request, token},
    options::Options,
    renewal,
};

/// Gets a token within `delay`, and says when it had the last one.
#[derive(Clone)]
pub struct Slow {
    pub delay: Duration,
    fetching: Arc<AtomicBool>,
    began: Instant,
    /// In ns since `began`.
    arrived: Arc<AtomicU64>,
}

impl Slow {
    pub fn new(delay: Duration) -> Self {
        Self {
            delay,
            fetching: Arc::default(),
            began: Instant::now(),
            arrived: Arc::default(),
        }
    }

    fn nanoseconds(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl TokenSource for Slow {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        self.fetching.store(true, Relaxed);
        sleep(self.delay).await;
        self.fetching.store(false, Relaxed);
        self.arrived.store(self.nanoseconds(), Relaxed);
        Ok(AccessToken::new(token()).expires_in(HOUR))
    }
}

/// The system's clock, put forward.
#[derive(Clone, Default)]
pub struct Forward(pub Arc<AtomicU64>);

impl Forward {
    fn by(&self) -> Duration {
        Duration::from_secs(self.0.load(Relaxed))
    }
}

impl Clock for Forward {
    fn now(&self) -> tokio::time::Instant {
        SystemClock::default().now() + self.by()
    }

    fn wall_clock(&self) -> SystemTime {
        SystemClock::default().wall_clock() + self.by()
    }
}

pub fn run(options: &Options) -> io::Result<()> {
    println!(
        "Latency in ns of one request every {} µs, alternately through ClientCredentialsLayer and the bare service,",
        PACE.as_micros()
    );
    println!("outside and during refreshes of a valid token. Goal: p99.9 during ÷ outside ≤ 1.2\n");
    println!(
        "{:34}{:>9}{:>9}{:>9}   {:>9}{:>9}{:>9}   {:>8}",
        "", "p50 out", "p99", "p99.9", "p50 in", "p99", "p99.9", "p99.9 ÷"
    );
    let milliseconds = Duration::from_millis;
    let long = [(milliseconds(300), 20), (milliseconds(5000), 2)];
    let quick = [(milliseconds(50), 2)];
    for &(delay, refreshes) in if options.quick { &quick[..] } else { &long } {
        through_refreshes(delay, refreshes)?;
    }
    cold_start(options)?;
    options.plot.as_deref().map_or(Ok(()), renewal::plot)
}

/// Every second sample is outside of a refresh, as long as the refresh was.
fn through_refreshes(delay: Duration, refreshes: usize) -> io::Result<()> {
    let runtime = runtime(1)?;
    let _entered = runtime.enter();
    let (source, clock) = (Slow::new(delay), Forward::default());
    let origin = "https://api.example.com".parse().expect("an origin");
    let layer = ClientCredentialsLayer::builder(source.clone(), origin)
        .refresh_before(HOUR / 6)
        .clock(clock.clone())
        .build();
    runtime
        .block_on(layer.handle().prefetch())
        .expect("a token");
    let inner = Free::<Plain>::new();
    let (mut bare, mut ours) = (inner.clone(), layer.layer(inner));
    let mut outside = [Vec::new(), Vec::new()];
    let mut during = [Vec::new(), Vec::new()];
    for _ in 0..refreshes {
        paced(|elapsed| {
            pair(&mut bare, &mut ours, &mut outside);
            elapsed < delay
        });
        let before = source.arrived.load(Relaxed);
        // The token is stale: the next request starts the refresh.
        clock.0.fetch_add(HOUR.as_secs() * 9 / 10, Relaxed);
        paced(|elapsed| {
            pair(&mut bare, &mut ours, &mut during);
            assert!(elapsed < 2 * delay + HOUR / 1000, "no refresh");
            source.arrived.load(Relaxed) == before
        });
    }
    let names = ["bare service", "ClientCredentialsLayer"];
    for (name, (mut out, mut during)) in names.into_iter().zip(outside.into_iter().zip(during)) {
        let (out, during) = (percentiles(&mut out), percentiles(&mut during));
        let name = format!("{name}, {} × {delay:?}", refreshes);
        println!(
            "{name:34}{:>9}{:>9}{:>9}   {:>9}{:>9}{:>9}   {:>8.2}",
            out[0],
            out[1],
            out[2],
            during[0],
            during[1],
            during[2],
            during[2] as f64 / out[2] as f64
        );
    }
    Ok(())
}

/// At an even pace until `work` says that it is enough.
fn paced(mut work: impl FnMut(Duration) -> bool) {
    let began = Instant::now();
    let mut next = began;
    loop {
        while Instant::now() < next {
            std::hint::spin_loop();
        }
        next += PACE;
        if !work(began.elapsed()) {
            return;
        }
    }
}

fn pair<O>(bare: &mut impl Inner<Plain>, ours: &mut O, samples: &mut [Vec<u64>; 2])
where
    O: Service<crate::inner::Sent, Error: std::fmt::Debug>,
{
    samples[0].push(once(bare));
    samples[1].push(once(ours));
}

fn once<S>(service: &mut S) -> u64
where
    S: Service<crate::inner::Sent, Error: std::fmt::Debug>,
{
    let request = request();
    let began = Instant::now();
    block_on(async { service.ready().await?.call(request).await })
        .map_or_else(|e| panic!("{e:?}"), drop);
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn percentiles(samples: &mut [u64]) -> [u64; 3] {
    samples.sort_unstable();
    [0.5, 0.99, 0.999].map(|share| samples[((samples.len() - 1) as f64 * share) as usize])
}

/// Callers who wait for the first token: from its arrival to the last one's answer. Beside it, what it takes to wake as
/// many tasks that wait for a value of tokio's `watch`.
fn cold_start(options: &Options) -> io::Result<()> {
    let (callers, rounds) = if options.quick { (100, 1) } else { (10_000, 9) };
    let runtime = runtime(2)?;
    let mut ours = Vec::new();
    let mut least = Vec::new();
    for _ in 0..rounds {
        ours.push(served_within(&runtime, callers));
        least.push(woken_within(&runtime, callers));
    }
    for times in [&mut ours, &mut least] {
        times.sort_unstable();
    }
    println!(
        "\nCold start with {callers} callers: {:.1} ms from the token's arrival to the last response",
        ms(ours[rounds / 2])
    );
    println!(
        "(waking {callers} tasks that wait on a tokio watch channel takes {:.1} ms); medians of {rounds}",
        ms(least[rounds / 2])
    );
    Ok(())
}

fn served_within(runtime: &Runtime, callers: usize) -> u64 {
    let source = Slow::new(COLD);
    let origin = "https://api.example.com".parse().expect("an origin");
    let layer = ClientCredentialsLayer::builder(source.clone(), origin).build();
    let service = layer.layer(Free::<Plain>::new());
    let last = last_of(runtime, callers, |_| {
        let (service, source) = (service.clone(), source.clone());
        async move {
            drop(service.oneshot(request()).await.expect("a response"));
            source.nanoseconds()
        }
    });
    last - source.arrived.load(Relaxed)
}

fn woken_within(runtime: &Runtime, callers: usize) -> u64 {
    let (sender, receiver) = watch::channel(0);
    let began = Instant::now();
    let nanoseconds = move || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let sending = runtime.spawn(async move {
        sleep(COLD).await;
        let sent = nanoseconds();
        sender.send_replace(1);
        sent
    });
    let last = last_of(runtime, callers, |_| {
        let mut receiver = receiver.clone();
        async move {
            receiver.changed().await.expect("a value");
            nanoseconds()
        }
    });
    last - runtime.block_on(sending).expect("no panic")
}

/// The largest of what the tasks return.
fn last_of<F>(runtime: &Runtime, tasks: usize, task: impl Fn(usize) -> F) -> u64
where
    F: Future<Output = u64> + Send + 'static,
{
    runtime.block_on(async {
        let spawned: Vec<_> = (0..tasks)
            .map(|number| tokio::spawn(task(number)))
            .collect();
        let mut last = 0;
        for task in spawned {
            last = last.max(task.await.expect("no panic"));
        }
        last
    })
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_time()
        .build()
}

fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

const PACE: Duration = Duration::from_micros(100);
pub const HOUR: Duration = Duration::from_secs(3600);
/// Until then all callers wait.
const COLD: Duration = Duration::from_millis(500);
