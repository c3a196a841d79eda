//! An API and an issuer that do what the steps say, and write down what happens.

mod api;
mod issuer;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use tokio::sync::Notify;

pub(crate) use self::api::CallId;

use crate::{
    log::{Log, What},
    steps::{ApiBehavior, IssuerBehavior, Setup},
    tokens::IssuedTokens,
};

#[derive(Clone, Debug)]
pub(crate) struct World(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Log,
    setup: Setup,
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) api: Script<ApiBehavior>,
    pub(crate) issuer: Script<IssuerBehavior>,
    pub(crate) book: IssuedTokens,
    /// By number: the secret that the issuer accepts, and the one that the program has.
    pub(crate) secret: u32,
    pub(crate) published_secret: u32,
    /// By how many seconds the client's civil clock is off.
    pub(crate) offset: i64,
    pub(crate) stepped: bool,
    window: Option<(Duration, u64)>,
    healed: bool,
}

/// The next responses, and the response after those.
#[derive(Debug)]
pub(crate) struct Script<M> {
    next: VecDeque<M>,
    always: M,
}

impl<M: Copy> Script<M> {
    fn new(always: M) -> Self {
        Self {
            next: VecDeque::new(),
            always,
        }
    }

    pub(crate) fn add(&mut self, mood: M, next: Option<u32>) {
        match next {
            Some(times) => self.next.extend((0..times).map(|_| mood)),
            None => self.always = mood,
        }
    }

    fn take(&mut self) -> M {
        self.next.pop_front().unwrap_or(self.always)
    }
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        Self(Arc::new(Shared {
            log: Log::new(),
            setup,
            state: Mutex::new(State {
                api: Script::new(ApiBehavior::Honest),
                issuer: Script::new(IssuerBehavior::Honest),
                book: IssuedTokens::default(),
                secret: 1,
                published_secret: 1,
                offset: 0,
                stepped: false,
                window: None,
                healed: false,
            }),
            released: Notify::new(),
        }))
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.0.setup
    }

    pub(crate) fn log(&self) -> &Log {
        &self.0.log
    }

    pub(crate) fn write(&self, what: What) {
        self.0.log.write(what);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Everything works again, and what hangs breaks.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.api = Script::new(ApiBehavior::Honest);
        state.issuer = Script::new(IssuerBehavior::Honest);
        state.healed = true;
        self.0.released.notify_waiters();
    }

    /// The servers' civil time.
    fn wall(&self) -> SystemTime {
        // In the middle of a second.
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_370) + self.0.log.now()
    }

    /// The client's.
    pub(crate) fn client_wall(&self) -> SystemTime {
        let offset = self.state().offset;
        let off_by = Duration::from_secs(offset.unsigned_abs());
        if offset < 0 {
            self.wall() - off_by
        } else {
            self.wall() + off_by
        }
    }
}

pub(crate) fn secret(number: u32) -> String {
    format!("secret-{number}")
}
