//! Promises to callers and to the API.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use http::StatusCode;

use super::broken;
use crate::{
    log::{Entry, Outcome, What},
    steps::Setup,
};

/// Exactly one, unless it leaves first.
pub(super) fn every_caller_gets_one_outcome(_: &Setup, log: &[Entry]) -> Result<(), String> {
    let mut open = HashMap::new();
    for Entry { at, what } in log {
        match what {
            What::Began { call, .. } => {
                open.insert(*call, true);
            }
            What::Ended { call, .. } | What::Left { call }
                if open.insert(*call, false) != Some(true) =>
            {
                return broken(*at, what, "has ended before");
            }
            _ => {}
        }
    }
    match open.iter().find(|(_, open)| **open) {
        Some((call, _)) => Err(format!("call {call} has no outcome")),
        None => Ok(()),
    }
}

/// The response that comes back is the API's last one, and says truly how often the request was sent.
pub(super) fn a_caller_gets_the_last_answer(setup: &Setup, log: &[Entry]) -> Result<(), String> {
    let mut sent: HashMap<usize, u32> = HashMap::new();
    let mut last: HashMap<usize, Option<StatusCode>> = HashMap::new();
    for Entry { at, what } in log {
        match what {
            What::Arrived { call, .. } => *sent.entry(*call).or_default() += 1,
            What::Answered { call, status, .. } => {
                last.insert(*call, Some(*status));
            }
            What::Broke { call, .. } => {
                last.insert(*call, None);
            }
            What::Ended { call, outcome } => {
                let (sent, last) = (sent.get(call), last.get(call).copied().flatten());
                match outcome {
                    Outcome::Response(status, attempts) => {
                        if last != Some(*status) {
                            return broken(*at, what, "is not the last answer");
                        }
                        // A replay whose body fails is not reported to the outer layer.
                        if sent != Some(attempts) && !setup.apart {
                            return broken(*at, what, "was sent more often or less");
                        }
                    }
                    Outcome::Client if last.is_some() => {
                        return broken(*at, what, "is not the last answer");
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn no_caller_waits_beyond_the_deadline(
    setup: &Setup,
    log: &[Entry],
) -> Result<(), String> {
    let Some(deadline) = setup.deadline else {
        return Ok(());
    };
    let mut began = HashMap::new();
    for Entry { at, what } in log {
        match what {
            What::Began { call, .. } => {
                began.insert(*call, *at);
            }
            What::Ended { call, .. } if *at > began[call] + deadline + TICK => {
                return broken(*at, what, "is too late");
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn not_sent_errors_are_accurate(_: &Setup, log: &[Entry]) -> Result<(), String> {
    let mut under_way = HashMap::new();
    for Entry { at, what } in log {
        match what {
            What::Arrived { call, .. } => {
                under_way.insert(*call, true);
            }
            What::Answered { call, .. } | What::Broke { call, .. } => {
                under_way.insert(*call, false);
            }
            What::Ended { call, outcome } => {
                let sure = Outcome::Deadline {
                    possibly_processed: false,
                };
                let sure = *outcome == sure || *outcome == Outcome::HoldTooLong;
                if sure && under_way.get(call) == Some(&true) {
                    return broken(*at, what, "the request was under way");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Nothing is sent after a success, nor, unless idempotent, after a failure that leaves the effect unknown.
pub(super) fn possibly_processed_requests_are_not_retried(
    _: &Setup,
    log: &[Entry],
) -> Result<(), String> {
    let mut posts = HashMap::new();
    let mut over = HashMap::new();
    for Entry { at, what } in log {
        match what {
            What::Began { call, post } => {
                posts.insert(*call, *post);
            }
            What::Arrived { call, .. } if over.contains_key(call) => {
                return broken(*at, what, "may have been processed");
            }
            What::Answered { call, status, .. } => {
                let unknown = posts[call] && status.is_server_error();
                if status.is_success() || unknown {
                    over.insert(*call, ());
                }
            }
            What::Broke { call, sent: true } if posts[call] => {
                over.insert(*call, ());
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first one and five retries, each with one replay.
pub(super) fn attempts_are_bounded(_: &Setup, log: &[Entry]) -> Result<(), String> {
    let mut sent: HashMap<usize, u32> = HashMap::new();
    for Entry { at, what } in log {
        if let What::Arrived { call, .. } = what {
            let sent = sent.entry(*call).or_default();
            *sent += 1;
            if *sent > 12 {
                return broken(*at, what, "once more");
            }
        }
    }
    Ok(())
}

/// A hold of the API applies to all requests, and one by a 503 to reads or to writes, until a request that was sent after
/// the rejected one is accepted: then the server rejects single requests. The rejected request waits in any case. Of two
/// separate layers, the inner one replays and waits on its own.
///
/// A request is sent when it is admitted, and waits for its token after that. So it may arrive after one that was admitted
/// later.
pub(super) fn no_request_is_sent_before_a_hold_ends(
    setup: &Setup,
    log: &[Entry],
) -> Result<(), String> {
    let mut holds = Holds::default();
    let posts: HashSet<_> = log
        .iter()
        .filter_map(|entry| match entry.what {
            What::Began { call, post: true } => Some(call),
            _ => None,
        })
        .collect();
    for (index, Entry { at, what }) in log.iter().enumerate() {
        match what {
            What::Began { call, .. } => {
                holds.ready.insert(*call, index);
            }
            What::Answered {
                call, status, hold, ..
            } => {
                let class = usize::from(posts.contains(call));
                holds.on_response(*call, class, *status, *hold);
                holds.ready.insert(*call, index);
            }
            What::Broke { call, .. } => {
                holds.ready.insert(*call, index);
            }
            What::Forgotten => holds.forget(),
            // A civil clock that is set forward counts like a machine that was suspended: holds end by either clock.
            What::Jumped(seconds) => {
                let asleep = Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
                holds.shorten(asleep);
            }
            What::Arrived { call, .. } => {
                let held = holds.until(*call, usize::from(posts.contains(call)));
                if *at < held && !setup.apart {
                    return broken(*at, what, format!("held until {:.3}", held.as_secs_f64()));
                }
                holds.arrived.insert(*call, index);
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is held until when.
#[derive(Default)]
struct Holds {
    /// All requests.
    all: Duration,
    /// Reads and writes, and the earliest time at which the last one that was rejected can have been sent.
    classes: [(Duration, usize); 2],
    /// Single requests.
    calls: HashMap<usize, Duration>,
    /// The last arrival of each call.
    arrived: HashMap<usize, usize>,
    /// The beginning of each call, or the end of its last attempt.
    ready: HashMap<usize, usize>,
}

impl Holds {
    fn on_response(
        &mut self,
        call: usize,
        class: usize,
        status: StatusCode,
        hold: Option<Duration>,
    ) {
        let arrived = self.arrived.get(&call).copied().unwrap_or_default();
        let ready = self.ready.get(&call).copied().unwrap_or_default();
        let (until, rejected) = &mut self.classes[class];
        match hold {
            Some(hold) if status == StatusCode::SERVICE_UNAVAILABLE => {
                *until = (*until).max(hold);
                *rejected = (*rejected).max(ready);
                self.calls.insert(call, hold);
            }
            Some(hold) => self.all = self.all.max(hold),
            None if status.is_success() && *rejected < arrived => *until = Duration::ZERO,
            None => {}
        }
    }

    /// Which requests were sent before which stays known.
    fn forget(&mut self) {
        *self = Self {
            arrived: std::mem::take(&mut self.arrived),
            ready: std::mem::take(&mut self.ready),
            ..Self::default()
        };
    }

    fn shorten(&mut self, asleep: Duration) {
        self.all = self.all.saturating_sub(asleep);
        let classes = self.classes.iter_mut().map(|(until, _)| until);
        for until in classes.chain(self.calls.values_mut()) {
            *until = until.saturating_sub(asleep);
        }
    }

    fn until(&self, call: usize, class: usize) -> Duration {
        let own = self.calls.get(&call).copied().unwrap_or_default();
        self.all.max(self.classes[class].0).max(own)
    }
}

pub(super) fn no_request_waits_while_holding_readiness(
    _: &Setup,
    log: &[Entry],
) -> Result<(), String> {
    for Entry { at, what } in log {
        if let What::Known(known) = what
            && known.ready_held > 0
        {
            return broken(*at, what, "somebody does");
        }
    }
    Ok(())
}

/// When everything works again, and the longest wait is over.
pub(super) fn afterwards_requests_succeed(setup: &Setup, log: &[Entry]) -> Result<(), String> {
    let healed = log.iter().rposition(|entry| entry.what == What::Healed);
    let after = &log[healed.unwrap()..];
    for Entry { at, what } in after {
        match what {
            What::Ended { outcome, .. } => match outcome {
                Outcome::Response(StatusCode::OK, _) => {}
                // Too short for a token request and an answer.
                Outcome::Deadline { .. } | Outcome::HoldTooLong if setup.deadline.is_some() => {}
                _ => return broken(*at, what, "all is well"),
            },
            What::Began { .. } => {}
            _ => {}
        }
    }
    Ok(())
}

/// tokio's timers count in milliseconds.
const TICK: Duration = Duration::from_millis(2);
