//! What has happened, in order.
#![expect(
    clippy::disallowed_methods,
    reason = "the clock of the test, which is tokio's and paused"
)]

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::StatusCode;
use tokio::time::Instant;
use tower_m2m::client_credentials::{FetchReason, TokenGeneration};

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) what: What,
}

/// Calls and tokens are numbered in the order of their coming into being.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    // Callers.
    Began {
        call: usize,
        post: bool,
    },
    Ended {
        call: usize,
        outcome: Outcome,
    },
    Left {
        call: usize,
    },

    // At the API. The token is 0 if there is none or an unknown one.
    Arrived {
        call: usize,
        token: usize,
    },
    Answered {
        call: usize,
        token: usize,
        status: StatusCode,
        /// No request may arrive before then.
        hold: Option<Duration>,
        /// The token is rejected.
        about_token: bool,
    },
    Broke {
        call: usize,
        sent: bool,
    },

    // At the issuer.
    TokenRequested,
    TokenIssued {
        token: usize,
        lifetime: Duration,
    },
    TokenRefused {
        why: TokenRefusal,
        retry_after: Option<Duration>,
    },

    // What the layer says.
    FetchStarted(FetchReason),
    Fetched,
    FetchFailed {
        transient: bool,
    },
    Known(Known),

    // Steps that a promise depends on.
    Invalidated,
    RefreshNow,
    SecretPublished,
    Jumped(i64),
    Forgotten,
    Healed,
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TokenRefusal {
    Transient,
    Secret,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    Response(StatusCode, u32),
    NoToken,
    HoldTooLong,
    Deadline { possibly_processed: bool },
    Client,
}

/// What the handles show between two steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) version: Option<TokenGeneration>,
    pub(crate) left: Option<Duration>,
    pub(crate) ready_held: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Log {
    began: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            entries: Arc::default(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn write(&self, what: What) {
        let at = self.now();
        let mut entries = self.entries.lock().unwrap();
        let nothing_new = entries.last().is_some_and(|last| last.what == what);
        if !(nothing_new && matches!(what, What::Known(_))) {
            entries.push(Entry { at, what });
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }
}

/// For a person who debugs a failed run.
pub(crate) fn to_text(entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry { at, what } in entries {
        writeln!(text, "{:>12.3} {what:?}", at.as_secs_f64()).unwrap();
    }
    text
}
