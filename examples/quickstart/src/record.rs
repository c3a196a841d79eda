//! What happens during the run, with the time of each event.
#![expect(
    clippy::disallowed_methods,
    reason = "the example measures how long it takes"
)]

use std::{
    fmt::Write,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::{Response, StatusCode};
use tower_m2m::{
    BoxError,
    client_credentials::{RejectionAction, TokenEvent},
    rate_limit_retry::RateLimitEvent,
};

use crate::terminal::Palette;

/// One event. The time is since the start of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A worker called the client.
    Called,
    /// A request was sent: it has passed both layers.
    Sent,
    /// A response arrived, with the rest of the quota if the API announced it.
    Answered { remaining: Option<u32> },
    /// A worker got its response.
    Returned,
    /// A token was requested.
    TokenRequested,
    /// A token arrived.
    TokenFetched { expires_in: Duration },
    /// All tokens were revoked.
    Revoked,
}

pub type Events = Vec<(Duration, Event)>;

/// Collects events from the workers and from both layers.
#[derive(Debug)]
pub struct Record {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Events,
    counts: Summary,
}

/// The counts at the end of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    requests: u32,
    ok: u32,
    pub failed: u32,
    token_requests: u32,
    redundant_token_requests: u64,
    unauthorized_recovered: u32,
    rate_limited: u32,
    retries: u32,
    elapsed: Duration,
    optimum: Duration,
}

impl Record {
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            state: Mutex::default(),
        }
    }

    pub fn called(&self) {
        self.add(Event::Called).requests += 1;
    }

    pub fn returned(&self, result: Result<StatusCode, BoxError>) {
        let mut counts = self.add(Event::Returned);
        match result {
            Ok(status) if status.is_success() => counts.ok += 1,
            Ok(status) => {
                eprintln!("failed: {status}");
                counts.failed += 1;
            }
            Err(error) => {
                eprintln!("failed: {error}");
                counts.failed += 1;
            }
        }
    }

    pub fn revoked(&self) {
        drop(self.add(Event::Revoked));
    }

    pub fn returned_so_far(&self) -> u32 {
        let counts = &self.lock().counts;
        counts.ok + counts.failed
    }

    /// Whether a token is being fetched.
    pub fn is_fetching(&self) -> bool {
        let events = &self.lock().events;
        let last = events.iter().rev().find_map(|(_, event)| match event {
            Event::TokenRequested => Some(true),
            Event::TokenFetched { .. } => Some(false),
            _ => None,
        });
        last.unwrap_or(false)
    }

    /// For `ClientCredentialsLayerBuilder::on_event`.
    pub fn token_events(self: &Arc<Self>) -> impl Fn(&TokenEvent<'_>) + Send + Sync + 'static {
        let record = Arc::clone(self);
        move |event| match event {
            TokenEvent::FetchStarted { .. } => {
                record.add(Event::TokenRequested).token_requests += 1;
            }
            TokenEvent::Fetched { expires_in, .. } => {
                let expires_in = expires_in.unwrap_or(Duration::MAX);
                drop(record.add(Event::TokenFetched { expires_in }));
            }
            TokenEvent::Rejected {
                action: RejectionAction::Replayed,
                ..
            } => record.lock().counts.unauthorized_recovered += 1,
            _ => {}
        }
    }

    /// For `RateLimitRetryLayerBuilder::on_event`.
    pub fn limit_events(self: &Arc<Self>) -> impl Fn(&RateLimitEvent<'_>) + Send + Sync + 'static {
        let record = Arc::clone(self);
        move |event| match event {
            RateLimitEvent::Throttled { .. } => record.lock().counts.rate_limited += 1,
            RateLimitEvent::Retrying { .. } => record.lock().counts.retries += 1,
            _ => {}
        }
    }

    /// For `ServiceBuilder::map_future`: records when a request is sent and when its response arrives.
    pub fn sends<F, B, E>(
        self: &Arc<Self>,
    ) -> impl Fn(F) -> Pin<Box<dyn Future<Output = F::Output> + Send>> + Clone + use<F, B, E>
    where
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    {
        let record = Arc::clone(self);
        move |response| {
            let record = Arc::clone(&record);
            Box::pin(async move {
                drop(record.add(Event::Sent));
                let result = response.await;
                let remaining = result.as_ref().ok().and_then(remaining);
                drop(record.add(Event::Answered { remaining }));
                result
            })
        }
    }

    pub fn summary(&self, redundant_token_requests: u64, optimum: Duration) -> Summary {
        Summary {
            redundant_token_requests,
            optimum,
            ..self.lock().counts.clone()
        }
    }

    /// Returns the events, and forgets them.
    pub fn take(&self) -> Events {
        std::mem::take(&mut self.lock().events)
    }

    /// Adds an event. Returns the counts, which the caller changes in the same step.
    fn add(&self, event: Event) -> Counts<'_> {
        let mut state = self.lock();
        let at = self.began.elapsed();
        state.events.push((at, event));
        state.counts.elapsed = at;
        Counts(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counts, locked.
struct Counts<'a>(MutexGuard<'a, State>);

impl std::ops::Deref for Counts<'_> {
    type Target = Summary;

    fn deref(&self) -> &Summary {
        &self.0.counts
    }
}

impl std::ops::DerefMut for Counts<'_> {
    fn deref_mut(&mut self) -> &mut Summary {
        &mut self.0.counts
    }
}

/// The rest of the quota that a response announces.
fn remaining<B>(response: &Response<B>) -> Option<u32> {
    let value = response.headers().get("ratelimit-remaining")?;
    value.to_str().ok()?.parse().ok()
}

impl Summary {
    fn rows(&self) -> [(&'static str, u64); 10] {
        [
            ("requests", self.requests.into()),
            ("ok", self.ok.into()),
            ("failed", self.failed.into()),
            ("token_requests", self.token_requests.into()),
            ("redundant_token_requests", self.redundant_token_requests),
            ("unauthorized_recovered", self.unauthorized_recovered.into()),
            ("rate_limited", self.rate_limited.into()),
            ("retries", self.retries.into()),
            ("elapsed_ms", self.elapsed.as_millis() as u64),
            ("optimum_ms", self.optimum.as_millis() as u64),
        ]
    }

    /// Returns the counts as one JSON object.
    pub fn json(&self) -> String {
        let members = self
            .rows()
            .map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", members.join(","))
    }

    /// Returns the counts with what they mean.
    pub fn table(&self, palette: &Palette) -> String {
        let mut table = String::new();
        for (name, value) in self.rows() {
            let (colour, meaning) = match name {
                "ok" if self.ok == self.requests => (palette.good, "all of them"),
                "failed" if value == 0 => (palette.good, ""),
                "failed" => (palette.bad, ""),
                "token_requests" => (palette.plain, "one for each token, however many wait"),
                "redundant_token_requests" if value == 0 => (palette.good, ""),
                "unauthorized_recovered" => {
                    (palette.plain, "401 after the revocation, sent once more")
                }
                "rate_limited" if value == 0 => {
                    (palette.good, "no 429: requests waited for the quota")
                }
                "optimum_ms" => (
                    palette.plain,
                    "the least that the quota allows; resets are in whole seconds",
                ),
                _ => (palette.plain, ""),
            };
            let (dim, reset) = (palette.dim, palette.reset);
            let name = name.replace('_', " ");
            let line = format!("{name:<26}{colour}{value:>8}{reset}  {dim}{meaning}{reset}");
            let line = line.trim_end();
            // Writing to a string cannot fail.
            let _ = writeln!(table, "{line}");
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_all_counts_and_no_colour_without_a_terminal() {
        let summary = Summary {
            requests: 2,
            ok: 1,
            failed: 1,
            ..Summary::default()
        };

        let table = summary.table(&Palette::NONE);

        assert_eq!(table.lines().count(), summary.rows().len());
        assert!(
            table.contains("failed                           1\n"),
            "{table}"
        );
        assert!(!table.contains('\x1b'), "{table}");
        assert!(summary.table(&Palette::ANSI).contains("\x1b[31m       1"));
    }

    #[test]
    fn json_has_one_number_for_each_count() {
        let json = Summary::default().json();
        assert!(json.starts_with("{\"requests\":0,\"ok\":0,"), "{json}");
        assert!(json.ends_with("\"optimum_ms\":0}"), "{json}");
    }

    #[tokio::test]
    async fn a_response_is_recorded_with_the_rest_of_the_quota() {
        let record = Arc::new(Record::start());
        let response = Response::builder().header("ratelimit-remaining", "7");
        let response = response.body(()).unwrap();

        let sent = record.sends()(std::future::ready(Ok::<_, BoxError>(response)));
        sent.await.unwrap();

        let events: Vec<_> = record.take().into_iter().map(|(_, event)| event).collect();
        let remaining = Some(7);
        assert_eq!(events, [Event::Sent, Event::Answered { remaining }]);
    }
}
