//! cargo run --release --example soak -- --requests 1000000
//!
//! Thousands of concurrent callers, over real sockets, against an issuer and an API that are down, slow, throttle, revoke
//! tokens, rotate their secrets and abort requests and responses; some of the callers cancel. Prints a table, and fails if
//! a promise was broken.
//!
//! Options: `--requests N`, `--seconds S` (20 if neither is given), `--callers N`, `--seed N`.
#![expect(
    clippy::disallowed_methods,
    reason = "the example measures how long it takes"
)]

mod callers;
mod director;
mod ledger;
mod report;
mod server;
mod trouble;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::task::JoinSet;
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer, TokenEndpoint,
    replay::RequestBodyReplayLayer,
    test_util::{Api, ApiBody, Dialect, Issuer, Quota},
};

use self::{
    callers::{Stack, Work},
    director::{CLIENT, Secret, World},
    report::{Memory, Report},
    server::Server,
};

const TOKEN_LIFE: Duration = Duration::from_secs(5);
const COOLDOWN: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(4);
/// Maximum time until the resources of the run are released at the end.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(10);

struct Options {
    calls: usize,
    time: Duration,
    callers: usize,
    seed: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let options = Options::read()?;
    println!("seed {}", options.seed);
    let tasks_before = tasks();
    let world = start().await?;
    let fetches = Arc::new(AtomicU64::new(0));
    let credentials = credentials(&world, &fetches)?;
    let tokens = credentials.handle();
    let limits = RateLimitRetryLayer::builder()
        .max_wait(Duration::from_secs(3))
        .deadline(DEADLINE)
        .build();
    let stacks = [
        over_http1(limits.clone(), credentials.clone()),
        over_http2(limits, credentials),
    ];

    let began = Instant::now();
    let work = Arc::new(Work {
        url: format!("http://{}/orders", world.api_server.address),
        calls: options.calls,
        next: 0.into(),
        over: AtomicBool::new(false),
        succeeded: 0.into(),
        left: 0.into(),
        failed: Default::default(),
    });
    let mut random = Rng::with_seed(options.seed);
    let mut callers = JoinSet::new();
    for number in 0..options.callers {
        let stack = stacks[number % stacks.len()].clone();
        callers.spawn(callers::work(Arc::clone(&work), stack, random.fork()));
    }
    let director = tokio::spawn(director::direct(Arc::clone(&world), random));

    let memory = watch(&options, &work, &mut callers, began).await;
    let elapsed = began.elapsed();
    let stuck = {
        let ended = tokio::time::timeout(DEADLINE + RECOVERY_TIMEOUT, async {
            while callers.join_next().await.is_some() {}
        });
        drop(ended.await);
        callers.len()
    };
    callers.shutdown().await;
    world.api_server.faults.calm.store(true, Relaxed);
    world.issuer_server.faults.calm.store(true, Relaxed);
    director.await?;
    // At most as many at once as this machine serves in half a second of the run, so that its speed is not measured.
    let a_second = work.succeeded.load(Relaxed) as f64 / elapsed.as_secs_f64();
    let at_once = (a_second as usize / 2).clamp(1, options.callers);
    let recovery = callers::recover(stacks, &work.url, at_once).await;
    let until_calm = began.elapsed();
    tokens.shutdown().await;
    drop(tokens);
    let servers = [&world.api_server, &world.issuer_server];
    let open = || servers.map(|server| server.faults.open.load(Relaxed));
    let connections = settled(|| open().iter().sum::<usize>(), 0).await;

    let mut report = Report::new(&work, &world, elapsed, memory);
    report.token_bound = report::bound(&world, until_calm);
    report.fetches = fetches.load(Relaxed);
    report.stuck = stuck;
    report.recovery = recovery;
    report.connections = connections;
    drop((work, world));
    report.tasks = (tasks_before, settled(tasks, tasks_before).await);
    report.memory.end = report::resident();
    report.print();
    if report.promises().iter().any(|(_, kept)| !kept) {
        return Err("a promise was broken".into());
    }
    Ok(())
}

async fn start() -> Result<Arc<World>, BoxError> {
    let secret = "secret-0";
    let issuer = Issuer::builder()
        .client(CLIENT, secret)
        .expires_in(TOKEN_LIFE)
        .latency(Duration::from_millis(5))
        .in_process();
    let api = Api::builder()
        .tokens(issuer.tokens())
        .quota(Quota::fixed_window(5_000, Duration::from_secs(1)))
        .dialect(Dialect::Draft3)
        .in_process();
    let whole = |response: Response<ApiBody>| async {
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(parts, Full::new(body)))
    };
    let service = ServiceExt::<Request<Incoming>>::and_then(api.service(), whole);
    Ok(Arc::new(World {
        issuer_server: Server::start(issuer.service(), director::issuer_trouble).await?,
        api_server: Server::start(service, director::api_trouble).await?,
        issuer,
        secret: Secret::new(secret),
        issuer_outages: 0.into(),
        rotations: 0.into(),
    }))
}

fn credentials(
    world: &World,
    fetches: &Arc<AtomicU64>,
) -> Result<ClientCredentialsLayer, BoxError> {
    let token_url = format!("http://{}/oauth/token", world.issuer_server.address);
    let auth = ClientAuth::basic(CLIENT, world.secret.clone());
    let endpoint = TokenEndpoint::new(token_url.parse()?, auth)
        .service(Client::builder(TokioExecutor::new()).build_http());
    let origin = format!("http://{}", world.api_server.address).parse()?;
    let fetches = Arc::clone(fetches);
    Ok(ClientCredentialsLayer::builder(endpoint, origin)
        .fetch_timeout(Duration::from_secs(2))
        .refresh_cooldown(COOLDOWN)
        .on_event(move |event| report::count(event, &fetches))
        .build())
}

/// Builds both layers as one, with fewer connections than callers.
fn over_http1(limits: RateLimitRetryLayer, credentials: ClientCredentialsLayer) -> Stack {
    let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .map_response(boxed)
            .layer(M2mLayer::new(limits, credentials))
            .concurrency_limit(256)
            .service(http),
    )
}

/// Builds the layers one by one, over one connection, with bodies that are copied while they are sent.
fn over_http2(limits: RateLimitRetryLayer, credentials: ClientCredentialsLayer) -> Stack {
    let http = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .map_response(boxed)
            .layer(RequestBodyReplayLayer::new())
            .layer(limits)
            .layer(credentials)
            .service(http),
    )
}

fn boxed(
    response: Response<Incoming>,
) -> Response<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>> {
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// Prints the progress until no more requests are started.
async fn watch(
    options: &Options,
    work: &Work,
    callers: &mut JoinSet<()>,
    began: Instant,
) -> Memory {
    let mut memory = Memory::default();
    let mut told = Duration::ZERO;
    while !work.over.load(Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        while callers.try_join_next().is_some() {}
        let elapsed = began.elapsed();
        let by_time = elapsed.as_secs_f64() / options.time.as_secs_f64();
        let share = by_time.max(work.started() as f64 / options.calls as f64);
        if share >= 0.1 && memory.start == 0 {
            memory.start = report::resident();
        }
        if share >= 0.5 && memory.middle == 0 {
            memory.middle = report::resident();
        }
        if share >= 1.0 {
            work.over.store(true, Relaxed);
        }
        if elapsed >= told + Duration::from_secs(5) {
            told = elapsed;
            let (begun, succeeded) = (work.started(), work.succeeded.load(Relaxed));
            eprintln!(
                "{:>4} s  {:>3.0} %  started {begun}, succeeded {succeeded}, {} tasks, {} MiB",
                elapsed.as_secs(),
                share * 100.0,
                tasks(),
                report::resident() >> 20,
            );
        }
    }
    memory
}

fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

/// Returns the value of `count` once it is `wanted`, or after [`RECOVERY_TIMEOUT`].
async fn settled(count: impl Fn() -> usize, wanted: usize) -> usize {
    let waiting = async {
        while count() != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    drop(tokio::time::timeout(RECOVERY_TIMEOUT, waiting).await);
    count()
}

impl Options {
    fn read() -> Result<Self, BoxError> {
        let mut options = Self {
            calls: usize::MAX,
            time: Duration::MAX,
            callers: 2_000,
            seed: fastrand::u64(..1_000_000),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or("an option without a value")?;
            match name.as_str() {
                "--requests" => options.calls = value.parse()?,
                "--seconds" => options.time = Duration::from_secs(value.parse()?),
                "--callers" => options.callers = value.parse()?,
                "--seed" => options.seed = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        if options.calls == usize::MAX && options.time == Duration::MAX {
            options.time = Duration::from_secs(20);
        }
        Ok(options)
    }
}
