//! A run over time: requests in flight, waiting requests, the quota and the tokens.

mod svg;
mod text;

use std::time::Duration;

use crate::record::Event;

/// What both forms of the plot show. Times are in seconds since the start of the run.
#[derive(Debug)]
pub struct Plot {
    end: f64,
    /// Most requests that can be in flight.
    workers: u32,
    /// Requests that the API accepts per window.
    quota: u32,
    /// Requests that were sent and have no response yet.
    in_flight: Steps,
    /// Requests that wait in a layer, for the quota or for a token.
    waiting: Steps,
    /// What remains of the quota, as the API announces it.
    remaining: Steps,
    tokens: Vec<Token>,
    /// When the quota is exhausted, requests wait, and none is in flight.
    holds: Vec<(f64, f64)>,
}

/// A value that changes at some times.
#[derive(Clone, Debug, Default)]
struct Steps(Vec<(f64, u32)>);

/// The life of a token.
#[derive(Debug)]
struct Token {
    requested: f64,
    fetched: f64,
    expires: f64,
    /// When the next token arrived, or the run ended: until then it is in use.
    used_until: f64,
    revoked: Option<f64>,
}

impl Plot {
    pub fn new(events: &[(Duration, Event)], workers: u32, quota: u32) -> Self {
        let end = events.last().map_or(0.0, |(at, _)| at.as_secs_f64());
        let mut plot = Self {
            end,
            workers,
            quota,
            in_flight: Steps::default(),
            waiting: Steps::default(),
            remaining: Steps::default(),
            tokens: Vec::new(),
            holds: Vec::new(),
        };
        let (mut calls, mut in_flight, mut exhausted) = (0_u32, 0_u32, false);
        let (mut requested, mut held_since) = (0.0, None);
        for &(at, event) in events {
            let at = at.as_secs_f64();
            match event {
                Event::Called => calls += 1,
                Event::Returned => calls = calls.saturating_sub(1),
                Event::Sent => in_flight += 1,
                Event::Answered { remaining } => {
                    in_flight = in_flight.saturating_sub(1);
                    if let Some(remaining) = remaining {
                        exhausted = remaining == 0;
                        plot.remaining.push(at, remaining);
                    }
                }
                Event::TokenRequested => requested = at,
                Event::TokenFetched { expires_in } => {
                    if let Some(last) = plot.tokens.last_mut() {
                        last.used_until = last.revoked.unwrap_or(at);
                    }
                    plot.tokens.push(Token {
                        requested,
                        fetched: at,
                        expires: at + expires_in.as_secs_f64(),
                        used_until: end,
                        revoked: None,
                    });
                }
                Event::Revoked => {
                    if let Some(last) = plot.tokens.last_mut() {
                        last.revoked = Some(at);
                    }
                }
            }
            let waiting = calls.saturating_sub(in_flight);
            plot.in_flight.push(at, in_flight);
            plot.waiting.push(at, waiting);
            match (exhausted && in_flight == 0 && waiting > 0, held_since) {
                (true, None) => held_since = Some(at),
                (false, Some(since)) => {
                    held_since = None;
                    if at - since >= SHORTEST_HOLD {
                        plot.holds.push((since, at));
                    }
                }
                _ => {}
            }
        }
        plot
    }
}

impl Steps {
    /// Adds a value. The last one of a time counts.
    fn push(&mut self, at: f64, value: u32) {
        match self.0.last_mut() {
            Some(last) if last.0 == at => last.1 = value,
            Some(last) if last.1 == value => {}
            _ => self.0.push((at, value)),
        }
    }

    /// Returns the mean over a period, in which the value before the first change is zero.
    fn mean(&self, from: f64, to: f64) -> f64 {
        let (mut sum, mut value, mut since) = (0.0, 0, from);
        for &(at, next) in &self.0 {
            if at >= to {
                break;
            }
            if at > since {
                sum += f64::from(value) * (at - since);
                since = at;
            }
            value = next;
        }
        (sum + f64::from(value) * (to - since)) / (to - from)
    }
}

/// Shorter gaps between two responses are not shown as holds, in seconds.
const SHORTEST_HOLD: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(at: u64, event: Event) -> (Duration, Event) {
        (Duration::from_millis(at), event)
    }

    /// Two workers, a quota of 1 per second, one token that is revoked.
    pub(super) fn run() -> Plot {
        let expires_in = Duration::from_secs(3);
        let answered = |remaining| Event::Answered {
            remaining: Some(remaining),
        };
        let events = [
            ms(0, Event::Called),
            ms(0, Event::Called),
            ms(0, Event::TokenRequested),
            ms(200, Event::TokenFetched { expires_in }),
            ms(200, Event::Sent),
            ms(300, answered(0)),
            ms(300, Event::Returned),
            ms(1200, Event::Sent),
            ms(1250, Event::Revoked),
            ms(1300, answered(0)),
            ms(1300, Event::TokenRequested),
            ms(1500, Event::TokenFetched { expires_in }),
            ms(1500, Event::Sent),
            ms(2000, answered(0)),
            ms(2000, Event::Returned),
        ];
        Plot::new(&events, 2, 1)
    }

    #[test]
    fn a_call_waits_until_it_is_sent_and_is_in_flight_until_its_response() {
        let plot = run();
        assert_eq!(plot.waiting.mean(0.0, 0.2), 2.0);
        assert_eq!(plot.in_flight.mean(0.0, 0.2), 0.0);
        assert!((plot.in_flight.mean(0.2, 0.3) - 1.0).abs() < 1e-9);
        assert!((plot.waiting.mean(0.4, 1.2) - 1.0).abs() < 1e-9);
        assert!((plot.in_flight.mean(1.1, 1.3) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_hold_needs_an_exhausted_quota() {
        // The wait for the first token is not a hold.
        let holds = run().holds;
        assert_eq!(holds, [(0.3, 1.2), (1.3, 1.5)]);
    }

    #[test]
    fn a_revoked_token_is_used_until_then() {
        let plot = run();
        assert_eq!(plot.tokens.len(), 2);
        assert_eq!(
            (plot.tokens[0].used_until, plot.tokens[0].expires),
            (1.25, 3.2)
        );
        assert_eq!(
            (plot.tokens[1].requested, plot.tokens[1].used_until),
            (1.3, 2.0)
        );
    }

    #[test]
    fn an_empty_run_has_a_plot() {
        let plot = Plot::new(&[], 2, 1);
        assert!(plot.svg().starts_with("<svg"));
        assert!(
            plot.text(&crate::terminal::Palette::NONE)
                .contains("in flight")
        );
    }
}
