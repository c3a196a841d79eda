//! The contestants, each used as its documentation says.
//!
//! Left out: kube (its layer reads a token file) and octocrab (its layer is GitHub's), oauth2 and openidconnect (they
//! keep no token), azure_identity (behind azure_core's policy, which has a cache of its own), the AWS SDK's
//! orchestrator (it sends operations, not requests), Go's x/oauth2 (another language).

mod aws;
mod azure;
mod by_hand;
mod cf_gears;
mod google;
mod huskarl;
mod issuer;
mod middle;
mod ours;
mod reqwest_retry;
mod tower_crates;

use std::{
    fmt::Debug,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use http::Response;
use tower::{Service, ServiceExt};

use cf_gears::Boxed;
pub use ours::prefetch_for;

use crate::{
    announced::{Fields, Quotas},
    inner::{Announcing, Free, HyperUtil, Inner, Plain, Room, Sent, Template},
};

/// Sends requests, over and over.
pub type Sender = Box<dyn FnMut(u64)>;

/// How callers use a client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CloneMode {
    /// One long-lived clone for each thread.
    Reused,
    /// A clone for each request.
    Cloned,
}

impl CloneMode {
    pub const ALL: [Self; 2] = [Self::Reused, Self::Cloned];
}

/// The service under the layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Under {
    Free,
    HyperUtil,
    /// Free, and a server that announces a quota for each of its origins in every response.
    Announcing {
        fields: Fields,
        origins: usize,
    },
}

impl Under {
    /// What tables say about it.
    pub fn title(self) -> String {
        match self {
            Self::Free => "a service that is free to clone".to_owned(),
            Self::HyperUtil => "hyper-util's https client, responses from memory".to_owned(),
            Self::Announcing { fields, origins: 1 } => {
                format!(
                    "the free service, which announces its quota: {}",
                    fields.title()
                )
            }
            Self::Announcing { fields, origins } => {
                let fields = fields.title();
                format!("{origins} origins of it, each with its own quota: {fields}")
            }
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        match self {
            Self::Free => "free".to_owned(),
            Self::HyperUtil => "hyper-util".to_owned(),
            Self::Announcing { fields, origins } => format!("{}-{origins}", fields.name()),
        }
    }
}

/// The free service, silent and announcing its quota, and the announcing one for many origins.
pub const SILENT_AND_ANNOUNCING: [Under; 6] = {
    const fn announcing(fields: Fields, origins: usize) -> Under {
        Under::Announcing { fields, origins }
    }
    [
        Under::Free,
        announcing(Fields::Didit, 1),
        announcing(Fields::GitHub, 1),
        announcing(Fields::Draft10, 1),
        announcing(Fields::Dated, 1),
        announcing(Fields::Didit, 100),
    ]
};

pub struct Contestant {
    pub name: &'static str,
    /// What it is compared with: the same service without it, and the usual way to do the same.
    pub bare: &'static str,
    pub reference: &'static str,
    sender: Box<dyn Fn(CloneMode, Template) -> Sender + Send + Sync>,
    origins: usize,
}

impl Contestant {
    fn new<C: Client>(name: &'static str, reference: &'static str, client: C) -> Self {
        let client = Arc::new(client);
        let sender = move |habit, mut template: Template| -> Sender {
            let shared = Arc::clone(&client);
            match habit {
                CloneMode::Reused => {
                    let mut client = C::clone(&shared);
                    Box::new(move |times| {
                        for _ in 0..times {
                            block_on(client.send(template.request()));
                        }
                    })
                }
                CloneMode::Cloned => Box::new(move |times| {
                    for _ in 0..times {
                        block_on(C::clone(&shared).send(template.request()));
                    }
                }),
            }
        };
        Self {
            name,
            bare: BARE,
            reference,
            sender: Box::new(sender),
            origins: 1,
        }
    }

    /// Compared with another service than the one of most.
    fn above(mut self, bare: &'static str) -> Self {
        self.bare = bare;
        self
    }

    /// To be used on one thread.
    pub fn sender(&self, habit: CloneMode, room: Room) -> Sender {
        (self.sender)(habit, Template::new(room, self.origins))
    }
}

/// Sends a request and drops the answer.
trait Client: Clone + Send + Sync + 'static {
    fn send(&mut self, request: Sent) -> impl Future<Output = ()> + Send;
}

/// A tower service as a client.
struct Tower<S>(S);

impl<S: Clone> Clone for Tower<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S, RB> Client for Tower<S>
where
    S: Service<Sent, Response = Response<RB>, Error: Debug, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    RB: Send,
{
    async fn send(&mut self, request: Sent) {
        let ready = self.0.ready().await.expect("ready");
        let answer = ready.call(request).await.expect("a response");
        assert!(answer.status().is_success());
    }
}

/// All of them over this service; must be called on a runtime, which some keep tasks on.
pub async fn all(under: Under) -> Vec<Contestant> {
    match under {
        Under::Free => over(Free::<Plain>::new(), Free::<Boxed>::new()).await,
        Under::HyperUtil => over(HyperUtil::<Plain>::new(), HyperUtil::<Boxed>::new()).await,
        Under::Announcing { .. } => retrying(under).await,
    }
}

/// Those that retry, and what they are compared with.
pub async fn retrying(under: Under) -> Vec<Contestant> {
    let Under::Announcing { fields, origins } = under else {
        return retrying_over(Free::<Plain>::new, 1, None).await;
    };
    // A server for each, whose quotas no other uses.
    let quotas = || Quotas::leak(fields, origins);
    let mut all = retrying_over(
        || Announcing::<Plain>::new(quotas()),
        origins,
        Some(quotas()),
    )
    .await;
    for contestant in &mut all {
        contestant.origins = origins;
    }
    all
}

async fn retrying_over<S: Inner<Plain>>(
    inner: impl Fn() -> S,
    origins: usize,
    quotas: Option<&'static Quotas>,
) -> Vec<Contestant> {
    let mut all = tower_crates::contestants(&inner());
    all.retain(|contestant| contestant.name != AUTHORIZATION);
    all.extend(ours::retrying(inner, origins).await);
    all.extend(reqwest_retry::contestants(quotas));
    all
}

async fn over(inner: impl Inner<Plain>, boxed: impl Inner<Boxed>) -> Vec<Contestant> {
    let issuer = issuer::start().await;
    let mut all = tower_crates::contestants(&inner);
    all.extend(ours::contestants(&inner).await);
    all.extend(by_hand::contestants(&inner));
    all.push(middle::contestant(&issuer, &inner).await);
    all.push(huskarl::contestant(&inner));
    all.push(google::contestant(&issuer, &inner).await);
    all.push(aws::contestant(&inner));
    all.extend(azure::contestants());
    all.extend(reqwest_retry::contestants(None));
    all.extend(cf_gears::contestants(&issuer, &boxed).await);
    all
}

pub const BARE: &str = "bare service";
pub const AUTHORIZATION: &str = "tower-http AddAuthorization, fixed token";
pub const RETRY: &str = "tower::retry, cloning policy";
pub const BOTH_OF_TOWER: &str = "tower::retry + AddAuthorization";
pub const REQWEST_RETRY: &str = "reqwest-retry";
pub const CF_GEARS: &str = "cf-gears Retry + AutoRefresh";
pub const TOKEN: &str = "ClientCredentialsLayer, replay off";
pub const TOKEN_REPLAY: &str = "ClientCredentialsLayer";
pub const LIMITS: &str = "RateLimitRetryLayer";
pub const STACKED: &str = "both layers, stacked";
pub const COMBINED: &str = "both as M2mLayer";

/// Runs a future on this thread, without a runtime's scheduler.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    thread_local! {
        static WAKER: Waker = Arc::new(Unpark(thread::current())).into();
    }
    WAKER.with(|waker| {
        let mut cx = Context::from_waker(waker);
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut cx) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    })
}
