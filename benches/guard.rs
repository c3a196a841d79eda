//! Instructions and allocations per request, on named paths. Run by `benches/guard.sh`, which counts instructions with
//! callgrind and compares them with the figures in `benches/guard.txt`.
//!
//! A path is a stack of layers (`bare` has none), and the fields in which the server announces its quota in every
//! response, if it does: `both github`. `guard STACK [FIELDS]` runs a path [`ROUNDS`] times inside [`measured`];
//! `guard` alone prints the allocations of every path. With the features `dpop` and `jwt-rust-crypto` there are two more:
//! `signature`, which signs a message of the size of a proof, and `dpop`, whose requests have proofs.
#![expect(
    clippy::disallowed_methods,
    reason = "shares its support with benchmarks"
)]

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks")]
mod support;

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Response, StatusCode};
use http_body_util::Empty;
use tower::{Layer, Service, ServiceExt};
use tower_m2m::{
    ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    client_credentials::{AccessToken, FetchContext, TokenError, TokenSource},
    rate_limit_retry::PartitionKey,
};

use support::{
    Announcing, Answer, Immediate, Sent,
    announced::{Fields, Quotas},
    block_on, credentials, prefetch, request,
};

const ROUNDS: u64 = 1000;
const SILENT: [&str; 6] = [
    "bare",
    "token",
    "token_replay",
    "limits",
    "both",
    "replay_after_401",
];
/// What is measured over a server that announces its quota.
///
/// `limits_exact` has a partition of the user's: then each request uses the gate, and each response is read in full.
const ANNOUNCED: [&str; 5] = ["bare", "limits", "limits_deadline", "limits_exact", "both"];

fn main() {
    let arguments = std::env::args().skip(1);
    let words: Vec<_> = arguments.filter(|word| !word.starts_with("--")).collect();
    match &words[..] {
        [] => {
            for stack in SILENT {
                println!("{stack} silent {}", silent(stack));
            }
            for stack in proofs::STACKS {
                println!("{stack} silent {}", silent(stack));
            }
            for fields in Fields::SETS {
                for stack in ANNOUNCED {
                    println!("{stack} {} {}", fields.name(), announced(stack, fields));
                }
            }
        }
        [stack, fields] if fields == "silent" => drop(silent(stack)),
        [stack, name] => {
            let fields = Fields::SETS.into_iter().find(|set| set.name() == name);
            let fields = fields.unwrap_or_else(|| panic!("no such fields: {name}"));
            announced(stack, fields);
        }
        _ => panic!("guard, or guard STACK FIELDS"),
    }
}

/// Runs a stack over a server that never mentions limits, and returns its allocations per request.
fn silent(stack: &str) -> f64 {
    match stack {
        "token" => count(prefetch(credentials().replay(false)).layer(Immediate)),
        "token_replay" => count(prefetch(credentials()).layer(Immediate)),
        "replay_after_401" => replays(),
        proof if proofs::STACKS.contains(&proof) => proofs::silent(proof),
        other => layered(other, Immediate, &RateLimitRetryLayer::new()),
    }
}

/// The same over one that announces its quota in every response.
fn announced(stack: &str, fields: Fields) -> f64 {
    let quotas = Quotas::leak(fields, 1);
    let limits = match stack {
        "limits_deadline" => RateLimitRetryLayer::builder()
            .deadline(Duration::from_secs(3600))
            .build(),
        "limits_exact" => RateLimitRetryLayer::builder()
            .partition_by(|_| PartitionKey::new("all"))
            .build(),
        _ => RateLimitRetryLayer::new(),
    };
    let allocations = layered(stack, Announcing(quotas), &limits);
    if stack != "bare" {
        let last = quotas.last_remaining(0).expect("answers");
        let status = limits.handle().status();
        // A layer may report what it reads a little later; it must not stop reading.
        let mut read = status.iter().filter_map(|quota| quota.remaining());
        assert!(
            read.any(|remaining| remaining.abs_diff(last) < ROUNDS / 10),
            "the last answer said {last}; the layer has read {status:?}"
        );
    }
    allocations
}

fn layered<S>(stack: &str, inner: S, limits: &RateLimitRetryLayer) -> f64
where
    S: Service<Sent, Response = Answer, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    match stack {
        "bare" => count(inner),
        "limits" | "limits_deadline" | "limits_exact" => count(limits.layer(inner)),
        "both" => count(M2mLayer::new(limits.clone(), prefetch(credentials())).layer(inner)),
        other => panic!("no such stack: {other}"),
    }
}

fn count<S>(mut service: S) -> f64
where
    S: Service<Sent, Response = Answer>,
    S::Error: Debug,
{
    let requests: Vec<_> = (0..ROUNDS).map(|_| request()).collect();
    // A partition takes the fast path after this many responses without rate-limit headers.
    for request in requests.iter().chain(&requests) {
        send(&mut service, request.clone());
    }
    per_request(|| {
        for request in requests {
            send(&mut service, request);
        }
    })
}

/// Each request is rejected once, gets a new token, and is sent again.
fn replays() -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let origin = "https://api.example.com".parse().expect("an origin");
    let layer = ClientCredentialsLayer::builder(Numbered::default(), origin)
        .refresh_cooldown(Duration::ZERO)
        .build();
    let mut service = layer.layer(EverySecond::default());
    let requests: Vec<_> = (0..ROUNDS).map(|_| request()).collect();
    per_request(|| {
        runtime.block_on(async {
            for request in requests {
                let answer = service.ready().await.expect("ready").call(request).await;
                assert_eq!(answer.expect("a response").status(), StatusCode::OK);
            }
        });
    })
}

fn per_request(work: impl FnOnce()) -> f64 {
    let info = allocation_counter::measure(|| measured(work));
    info.count_total as f64 / ROUNDS as f64
}

/// Runs `work`. The instructions of this function are counted.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}

fn send<S>(service: &mut S, request: Sent)
where
    S: Service<Sent, Response = Answer>,
    S::Error: Debug,
{
    let sent = async { service.ready().await?.call(request).await };
    drop(block_on(sent).expect("a response"));
}

/// A token source with a different token each time.
#[derive(Debug, Default)]
struct Numbered(AtomicU64);

impl TokenSource for Numbered {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        let number = self.0.fetch_add(1, Relaxed);
        Ok(AccessToken::new(format!("token-{number}")).expires_in(Duration::from_secs(3600)))
    }
}

/// A service that returns 401 for every second request, whatever its token.
#[derive(Clone, Debug, Default)]
struct EverySecond(Arc<AtomicU64>);

impl Service<Sent> for EverySecond {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        drop(request);
        let mut answer = Response::new(Empty::new());
        if self.0.fetch_add(1, Relaxed).is_multiple_of(2) {
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
        }
        ready(Ok(answer))
    }
}

/// Tokens that are bound to a key (RFC 9449).
#[cfg(all(feature = "dpop", feature = "jwt-rust-crypto"))]
mod proofs {
    use tower::{Layer, Service, ServiceExt};
    use tower_m2m::{
        ClientCredentialsLayer,
        client_credentials::{AccessToken, DpopKey, KeyAlgorithm, Signer, SigningKey},
    };

    use super::{Immediate, ROUNDS, per_request, request};

    /// Paths of this module.
    pub(super) const STACKS: [&str; 2] = ["signature", "dpop"];

    /// Runs a path, and returns its allocations per request.
    pub(super) fn silent(stack: &str) -> f64 {
        let jwk = include_str!("../tests/keys/ec.jwk");
        let key = SigningKey::jwk(KeyAlgorithm::Es256, jwk).expect("a key");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        if stack == "signature" {
            // Header and claims of a proof for the request of the benchmarks.
            let message = [b'x'; 520];
            runtime.block_on(key.sign(&message)).expect("a signature");
            return per_request(|| {
                for _ in 0..ROUNDS {
                    runtime.block_on(key.sign(&message)).expect("a signature");
                }
            });
        }
        let token = AccessToken::new("x".repeat(900));
        let token = token.bound_to(DpopKey::new(key).expect("a key"));
        let origin = "https://api.example.com".parse().expect("an origin");
        let layer = ClientCredentialsLayer::builder(token, origin).build();
        let mut service = layer.layer(Immediate);
        let requests: Vec<_> = (0..ROUNDS).map(|_| request()).collect();
        let mut send =
            |request| runtime.block_on(async { service.ready().await?.call(request).await });
        // The first one fetches the token.
        drop(send(request()).expect("a response"));
        per_request(|| {
            for request in requests {
                drop(send(request).expect("a response"));
            }
        })
    }
}

/// Without the features there are no such paths.
#[cfg(not(all(feature = "dpop", feature = "jwt-rust-crypto")))]
mod proofs {
    /// No paths.
    pub(super) const STACKS: [&str; 0] = [];

    /// Has no path to run.
    pub(super) fn silent(stack: &str) -> f64 {
        panic!("no such stack: {stack}")
    }
}
