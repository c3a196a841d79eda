//! Each request's latency through the refresh of a token that is still valid, as a plot: the bare service, ours, and a
//! token behind a lock that is held while the next one is fetched, as people write it.
#![expect(
    clippy::disallowed_types,
    reason = "a lock that the token cache is compared with"
)]

use std::{
    fmt::Write,
    fs, io,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::{HeaderValue, header};
use tokio::{sync::RwLock, time::sleep};
use tower::{Layer, ServiceExt};
use tower_m2m::{ClientCredentialsLayer, Clock};

use crate::{
    inner::{Free, Plain, Sent, request, token},
    plot::STYLE,
    refresh::{Forward, HOUR, Slow},
};

/// A header behind a lock, and when it is to be replaced.
#[derive(Clone)]
struct ByHand {
    held: Arc<RwLock<(HeaderValue, tokio::time::Instant)>>,
    clock: Forward,
}

impl ByHand {
    fn new(clock: Forward) -> Self {
        let until = clock.now() + HOUR / 2;
        Self {
            held: Arc::new(RwLock::new((authorization(), until))),
            clock,
        }
    }

    async fn header(&self) -> HeaderValue {
        let held = self.held.read().await;
        if self.clock.now() < held.1 {
            return held.0.clone();
        }
        drop(held);
        let mut held = self.held.write().await;
        if self.clock.now() >= held.1 {
            sleep(REFRESH).await;
            *held = (authorization(), self.clock.now() + HOUR / 2);
        }
        held.0.clone()
    }
}

fn authorization() -> HeaderValue {
    format!("Bearer {}", token()).parse().expect("a header")
}

/// When a request was sent after the beginning, and how long it took.
type Samples = Arc<Mutex<Vec<(Duration, Duration)>>>;

const NAMES: [&str; 3] = [
    "bare service",
    "ClientCredentialsLayer",
    "tokio RwLock held during the fetch",
];

pub fn plot(file: &str) -> io::Result<()> {
    let samples: [Samples; 3] = Default::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()?;
    runtime.block_on(send_through_a_refresh(&samples));
    drop(runtime);
    let samples = samples.map(|samples| samples.lock().expect("no panic").clone());
    fs::write(file, svg(&samples))
}

async fn send_through_a_refresh(samples: &[Samples; 3]) {
    let clock = Forward::default();
    let origin = "https://api.example.com".parse().expect("an origin");
    let layer = ClientCredentialsLayer::builder(Slow::new(REFRESH), origin)
        .refresh_before(HOUR / 2)
        .clock(clock.clone())
        .build();
    let prefetch = layer.handle().clone();
    let token = tokio::spawn(async move { prefetch.prefetch().await });
    token.await.expect("no panic").expect("a token");
    let (bare, by_hand) = (Free::<Plain>::new(), ByHand::new(clock.clone()));
    let ours = layer.layer(bare.clone());
    let began = Instant::now();
    let mut due = false;
    while began.elapsed() < LIFETIME {
        if !due && began.elapsed() >= REFRESH_BEFORE {
            due = true;
            // Both tokens are to be replaced now.
            clock.0.fetch_add(HOUR.as_secs() * 6 / 10, Relaxed);
        }
        let (bare, ours, by_hand) = (bare.clone(), ours.clone(), by_hand.clone());
        let below = bare.clone();
        timed(&samples[0], began, async move {
            drop(bare.oneshot(request()).await.expect("a response"));
        });
        timed(&samples[1], began, async move {
            drop(ours.oneshot(request()).await.expect("a response"));
        });
        timed(&samples[2], began, async move {
            let mut request: Sent = request();
            let header = by_hand.header().await;
            request.headers_mut().insert(header::AUTHORIZATION, header);
            drop(below.oneshot(request).await.expect("a response"));
        });
        sleep(PACE).await;
    }
    sleep(2 * REFRESH).await;
}

fn timed(samples: &Samples, began: Instant, work: impl Future<Output = ()> + Send + 'static) {
    let samples = Arc::clone(samples);
    drop(tokio::spawn(async move {
        let sent = Instant::now();
        work.await;
        let took = sent.elapsed();
        let mut samples = samples.lock().expect("no panic");
        samples.push((sent - began, took));
    }));
}

fn svg(samples: &[Vec<(Duration, Duration)>; 3]) -> String {
    let x = |at: Duration| 70.0 + WIDTH * at.as_secs_f64() / LIFETIME.as_secs_f64();
    // From 100 ns to 1 s.
    let y = |took: f64| 30.0 + HEIGHT * (1.0 - (took.log10() + 7.0) / 7.0).clamp(0.0, 1.0);
    let mut page = String::new();
    let mut put = |line: std::fmt::Arguments<'_>| {
        writeln!(page, "{line}").expect("a string takes everything");
    };
    put(format_args!(
        "<text x='10' y='16' class='title'>request latency during the refresh of a valid token, which takes {} \
         ms</text>",
        REFRESH.as_millis()
    ));
    for (seconds, label) in [
        (1.0, "1 s"),
        (0.1, "100 ms"),
        (1e-2, "10 ms"),
        (1e-3, "1 ms"),
        (1e-4, "100 µs"),
        (1e-5, "10 µs"),
        (1e-6, "1 µs"),
        (1e-7, "100 ns"),
    ] {
        let (y, end) = (y(seconds), 70.0 + WIDTH);
        put(format_args!(
            "<line x1='70' x2='{end}' y1='{y:.1}' y2='{y:.1}' opacity='0.4'/><text x='10' y='{:.1}'>{label}</text>",
            y + 4.0
        ));
    }
    for (at, label) in [
        (REFRESH_BEFORE, "due"),
        (REFRESH_BEFORE + REFRESH, "renewed"),
    ] {
        let (x, bottom) = (x(at), 30.0 + HEIGHT);
        put(format_args!(
            "<line x1='{x:.1}' x2='{x:.1}' y1='30' y2='{bottom}' stroke-dasharray='4'/><text x='{:.1}' y='{}'>{label}</text>",
            x - 15.0,
            bottom + 16.0
        ));
    }
    for (place, (name, samples)) in NAMES.iter().zip(samples).enumerate() {
        let colour = ["#9aa4b2", "#0969da", "#cf222e"][place];
        for (at, took) in samples {
            put(format_args!(
                "<circle cx='{:.1}' cy='{:.1}' r='1.2' style='fill:{colour}'/>",
                x(*at),
                y(took.as_secs_f64())
            ));
        }
        let (x, y) = (80.0 + 250.0 * place as f64, 30.0 + HEIGHT + 36.0);
        put(format_args!(
            "<circle cx='{x}' cy='{}' r='4' style='fill:{colour}'/><text x='{}' y='{y}'>{name}</text>",
            y - 4.0,
            x + 8.0
        ));
    }
    let (width, height) = (WIDTH + 90.0, HEIGHT + 80.0);
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'>\n\
         <style>{STYLE}</style>\n{page}</svg>\n"
    )
}

const REFRESH: Duration = Duration::from_millis(300);
const REFRESH_BEFORE: Duration = Duration::from_millis(200);
const LIFETIME: Duration = Duration::from_millis(700);
const PACE: Duration = Duration::from_millis(1);
const WIDTH: f64 = 770.0;
const HEIGHT: f64 = 260.0;
