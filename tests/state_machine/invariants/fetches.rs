//! Promises to the issuer.

use std::time::Duration;

use tower_m2m::client_credentials::FetchReason;

use super::broken;
use crate::{
    log::{Entry, TokenRefusal, What},
    steps::Setup,
};

/// One fetch is one request, except after transient errors, which are retried twice, and after a rejected secret: it is
/// read again once, and the last accepted one is tried for each of the two.
pub(super) fn one_token_request_at_a_time(_: &Setup, log: &[Entry]) -> Result<(), String> {
    let mut fetch: Option<Fetch> = None;
    for Entry { at, what } in log {
        match what {
            What::FetchStarted(_) => {
                if fetch.is_some() {
                    return broken(*at, what, "another one is under way");
                }
                fetch = Some(Fetch::STARTED);
            }
            What::Fetched | What::FetchFailed { .. } => fetch = None,
            What::TokenRequested if !fetch.as_mut().is_some_and(Fetch::may_request) => {
                return broken(*at, what, "nobody decided on it");
            }
            What::TokenIssued { .. } | What::TokenRefused { .. } => {
                if let Some(fetch) = &mut fetch {
                    fetch.last = match what {
                        What::TokenRefused { why, .. } => *why,
                        _ => TokenRefusal::Other,
                    };
                }
            }
            _ => {}
        }
    }
    Ok(())
}

struct Fetch {
    first: bool,
    transient_failures: u32,
    secrets: u32,
    /// How the last request ended; one that is given up has not been answered.
    last: TokenRefusal,
}

impl Fetch {
    const STARTED: Self = Self {
        first: true,
        transient_failures: 2,
        secrets: 3,
        last: TokenRefusal::Transient,
    };

    fn may_request(&mut self) -> bool {
        if std::mem::take(&mut self.first) {
            return true;
        }
        let left = match std::mem::replace(&mut self.last, TokenRefusal::Transient) {
            TokenRefusal::Transient => &mut self.transient_failures,
            TokenRefusal::Secret => &mut self.secrets,
            TokenRefusal::Other => return false,
        };
        *left = match left.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }
}

/// Each has a reason, and the reason is true. So their number is bounded by what happens, however many call.
pub(super) fn every_token_request_is_needed(_: &Setup, log: &[Entry]) -> Result<(), String> {
    let mut history = History::default();
    for Entry { at, what } in log {
        match what {
            What::FetchStarted(reason) => {
                if let Err(why) = history.check(*reason, *at) {
                    return broken(*at, what, why);
                }
                history.reason = Some(*reason);
                history.retry_after = None;
                history.secret_published = false;
            }
            What::TokenRequested => history.asked = *at,
            What::TokenIssued { token, lifetime } => history.issued = (*token, *lifetime),
            What::TokenRefused { retry_after, .. } => history.retry_after = *retry_after,
            What::Fetched => {
                history.ended(*at);
                history.failure = None;
                let (number, lifetime) = history.issued;
                history.current = Some(Current {
                    number,
                    asked: history.asked,
                    lifetime,
                    rejected: false,
                    jumped: false,
                });
            }
            What::FetchFailed { transient } => {
                history.ended(*at);
                let failures = history.failure.map_or(0, |failure| failure.failures) + 1;
                history.failure = Some(Failure {
                    at: history.moment(*at),
                    failures,
                    transient: *transient,
                });
            }
            What::Answered {
                token,
                about_token: true,
                ..
            } => {
                if let Some(current) = &mut history.current {
                    current.rejected |= current.number == *token;
                }
            }
            What::Invalidated => history.current = None,
            What::Jumped(seconds) => {
                history.skew += seconds;
                if let Some(current) = history.current.as_mut().filter(|_| *seconds > 0) {
                    current.jumped = true;
                }
            }
            What::RefreshNow => history.forced_refreshes += 1,
            What::SecretPublished => history.secret_published = true,
            _ => {}
        }
    }
    Ok(())
}

#[derive(Default)]
struct History {
    current: Option<Current>,
    failure: Option<Failure>,
    /// Of the last token request.
    reason: Option<FetchReason>,
    asked: Duration,
    issued: (usize, Duration),
    retry_after: Option<Duration>,
    /// When the last refresh ended that a rejection or a caller of `refresh_now` caused.
    forced: Option<Moment>,
    forced_refreshes: u32,
    secret_published: bool,
    /// By how many seconds the civil clock is ahead of where it began.
    skew: i64,
}

/// A time by both clocks.
#[derive(Clone, Copy)]
struct Moment {
    at: Duration,
    skew: i64,
}

impl Moment {
    /// A machine that was suspended counts by the clock that counted more.
    fn elapsed(self, now: Self) -> Duration {
        let monotonic = now.at - self.at;
        let ahead = u64::try_from(now.skew - self.skew).unwrap_or(0);
        monotonic + Duration::from_secs(ahead)
    }
}

#[derive(Clone, Copy)]
struct Current {
    number: usize,
    asked: Duration,
    lifetime: Duration,
    rejected: bool,
    /// The civil clock has, forwards: the token may seem to be older than it is.
    jumped: bool,
}

#[derive(Clone, Copy)]
struct Failure {
    at: Moment,
    failures: u32,
    transient: bool,
}

impl History {
    fn moment(&self, at: Duration) -> Moment {
        let skew = self.skew;
        Moment { at, skew }
    }

    fn ended(&mut self, at: Duration) {
        if matches!(
            self.reason,
            Some(FetchReason::Forced | FetchReason::Rejected)
        ) {
            self.forced = Some(self.moment(at));
        }
    }

    fn check(&mut self, reason: FetchReason, at: Duration) -> Result<(), String> {
        let now = self.moment(at);
        if let Some(failure) = self.failure.filter(|_| reason != FetchReason::Forced) {
            let (elapsed, backoff) = (failure.at.elapsed(now), self.backoff(failure));
            let recheck =
                self.secret_published && !failure.transient && elapsed >= RECHECK_INTERVAL;
            if elapsed < backoff && !recheck {
                return Err(format!("backing off: {elapsed:?} of {backoff:?}"));
            }
        }
        let is_so = match (reason, self.current) {
            (FetchReason::Forced, _) => {
                self.forced_refreshes = self
                    .forced_refreshes
                    .checked_sub(1)
                    .ok_or("nobody wanted it")?;
                true
            }
            (FetchReason::Cold | FetchReason::Expired, None) => true,
            (FetchReason::Expired, Some(token)) => {
                token.jumped || at >= token.asked + token.lifetime
            }
            (FetchReason::Early, Some(token)) => token.jumped || at >= token.asked + token.due(),
            (FetchReason::Rejected, Some(token)) => {
                let cooldown = COOLDOWN.min(token.lifetime / 2);
                let early = self
                    .forced
                    .is_some_and(|forced| forced.elapsed(now) < cooldown);
                token.rejected && !early
            }
            _ => false,
        };
        if is_so {
            Ok(())
        } else {
            Err("the reason is not true".to_owned())
        }
    }

    /// Minimum time without a token request after a failure.
    fn backoff(&self, failure: Failure) -> Duration {
        let doubled = |first: Duration, longest: Duration| {
            first
                .saturating_mul(1 << failure.failures.saturating_sub(1).min(20))
                .min(longest)
        };
        let own = if failure.transient {
            doubled(Duration::from_secs(1), Duration::from_secs(60)) / 2
        } else {
            doubled(Duration::from_secs(30), Duration::from_secs(500))
        };
        own.max(self.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
    }
}

impl Current {
    /// After what time it is renewed at the earliest: the guide `pictures`.
    fn due(&self) -> Duration {
        let second = Duration::from_secs(1);
        let last = second.min(self.lifetime.saturating_sub(second));
        let lead = Duration::from_secs(30).min((self.lifetime / 5).max(last));
        self.lifetime - lead - lead.min(self.lifetime / 20)
    }
}

const RECHECK_INTERVAL: Duration = Duration::from_secs(5);
const COOLDOWN: Duration = Duration::from_secs(10);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
