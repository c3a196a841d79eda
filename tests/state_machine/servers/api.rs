//! The API.

use std::{
    future::Future,
    io,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use tokio::time::sleep;
use tower_m2m::BoxError;

use super::World;
use crate::{
    log::What,
    steps::{ApiBehavior, Hint},
};

/// Which call a request belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallId(pub(crate) usize);

/// What a request meets.
enum Answer {
    Response(ResponseHints),
    NotConnected,
    Reset,
    Hang,
}

struct ResponseHints {
    status: StatusCode,
    headers: HeaderMap,
    wait: Option<Wait>,
    about_token: bool,
}

/// How long no request may arrive.
#[derive(Clone, Copy)]
enum Wait {
    /// From the answer on.
    For(Duration),
    /// Until a civil time.
    Until(SystemTime),
}

impl World {
    pub(crate) fn serve<B>(
        &self,
        request: &Request<B>,
    ) -> impl Future<Output = Result<Response<Empty<Bytes>>, BoxError>> + Send + use<B> {
        let call = request.extensions().get::<CallId>().unwrap().0;
        let token = self.token_of(request.headers());
        self.write(What::Arrived { call, token });
        let mood = self.state().api.take();
        let answer = self.answer(mood, token);
        let slow = match mood {
            ApiBehavior::Slow(delay) => delay,
            _ => Duration::ZERO,
        };
        let world = self.clone();
        async move {
            let delay = world.setup().api_latency + slow;
            if !delay.is_zero() {
                sleep(delay).await;
            }
            let events = match answer {
                Answer::Response(events) => events,
                Answer::NotConnected => {
                    world.write(What::Broke { call, sent: false });
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
                }
                Answer::Hang | Answer::Reset => {
                    let healed = world.state().healed;
                    if matches!(answer, Answer::Hang) && !healed {
                        world.0.released.notified().await;
                    }
                    world.write(What::Broke { call, sent: true });
                    return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
                }
            };
            world.write(What::Answered {
                call,
                token,
                status: events.status,
                hold: events.wait.and_then(|wait| world.hold(wait)),
                about_token: events.about_token,
            });
            let mut response = Response::new(Empty::new());
            *response.status_mut() = events.status;
            *response.headers_mut() = events.headers;
            Ok(response)
        }
    }

    fn token_of(&self, headers: &HeaderMap) -> usize {
        let value = headers.get(header::AUTHORIZATION);
        let value = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        value.map_or(0, |value| self.state().book.number(value))
    }

    fn answer(&self, mood: ApiBehavior, token: usize) -> Answer {
        let mut events = ResponseHints::new(StatusCode::OK);
        match mood {
            ApiBehavior::Honest | ApiBehavior::Slow(_) => {
                let early = self.log().now() + self.setup().api_ahead;
                if self.state().book.is_valid(token, early) {
                    self.charge(&mut events);
                } else {
                    events.reject_token();
                }
            }
            ApiBehavior::Always401 => events.reject_token(),
            ApiBehavior::Scope401 => {
                events.status = StatusCode::UNAUTHORIZED;
                events.add_header(
                    header::WWW_AUTHENTICATE,
                    "Bearer error=\"insufficient_scope\"",
                );
            }
            ApiBehavior::Status(status) => events.status = status,
            ApiBehavior::Throttle(status, hint) => {
                events.status = status;
                self.throttle(&mut events, hint);
            }
            ApiBehavior::NotConnected => return Answer::NotConnected,
            ApiBehavior::Reset => return Answer::Reset,
            ApiBehavior::Hang => return Answer::Hang,
        }
        events.add_header(header::DATE, &httpdate::fmt_http_date(self.wall()));
        Answer::Response(events)
    }

    /// Charges a quota of a number of requests per window.
    fn charge(&self, events: &mut ResponseHints) {
        let Some(quota) = self.setup().quota else {
            return;
        };
        let now = self.log().now();
        let mut state = self.state();
        let (began, used) = state
            .window
            .filter(|(began, _)| now < *began + quota.window)
            .unwrap_or((now, 0));
        let left = (began + quota.window - now).as_millis().div_ceil(1000);
        let left = u64::try_from(left).unwrap();
        if used < quota.limit {
            state.window = Some((began, used + 1));
        } else {
            events.status = StatusCode::TOO_MANY_REQUESTS;
            events.add_header(header::RETRY_AFTER, &left.to_string());
            events.wait = Some(Wait::For(Duration::from_secs(left)));
        }
        if quota.announced {
            let remaining = quota.limit.saturating_sub(used + 1);
            events.add_quota(quota.limit, remaining, left);
        }
    }

    fn throttle(&self, events: &mut ResponseHints, hint: Hint) {
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        // Dates are in whole seconds.
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(since(self.wall()).as_secs());
        let date = |wait| second + Duration::from_secs(wait);
        events.wait = match hint {
            Hint::None | Hint::Malformed => None,
            Hint::Seconds(n) | Hint::Ietf(n) | Hint::Reset(n) => {
                Some(Wait::For(Duration::from_secs(n)))
            }
            Hint::Millis(n) => Some(Wait::For(Duration::from_millis(n))),
            Hint::Date(n) | Hint::Epoch(n) => Some(Wait::Until(date(n))),
        };
        match hint {
            Hint::None => {}
            Hint::Malformed => events.add_header(header::RETRY_AFTER, "soon"),
            Hint::Seconds(n) => events.add_header(header::RETRY_AFTER, &n.to_string()),
            Hint::Date(n) => {
                events.add_header(header::RETRY_AFTER, &httpdate::fmt_http_date(date(n)))
            }
            Hint::Millis(n) => {
                let name = HeaderName::from_static("retry-after-ms");
                events.add_header(name, &n.to_string());
            }
            Hint::Ietf(n) => {
                let name = HeaderName::from_static("ratelimit");
                events.add_header(name, &format!("\"default\";r=0;t={n}"));
            }
            Hint::Reset(n) => events.add_quota(10, 0, n),
            Hint::Epoch(n) => events.add_quota(10, 0, since(date(n)).as_secs()),
        }
    }

    /// Until when no request may arrive. A hold of more than an hour is probed after an hour.
    fn hold(&self, wait: Wait) -> Option<Duration> {
        let wait = match wait {
            Wait::For(wait) => wait,
            Wait::Until(time) => {
                // A wall clock that steps by a second cannot be distinguished from dates that are rounded to one.
                let time = if self.state().stepped {
                    time - SECOND
                } else {
                    time
                };
                time.duration_since(self.wall()).ok()?
            }
        };
        Some(self.log().now() + wait.min(HOUR))
    }
}

impl ResponseHints {
    fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            wait: None,
            about_token: false,
        }
    }

    fn reject_token(&mut self) {
        self.status = StatusCode::UNAUTHORIZED;
        self.about_token = true;
        self.add_header(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"");
    }

    fn add_quota(&mut self, limit: u64, remaining: u64, reset: u64) {
        for (name, value) in [
            ("x-ratelimit-limit", limit),
            ("x-ratelimit-remaining", remaining),
            ("x-ratelimit-reset", reset),
        ] {
            self.add_header(HeaderName::from_static(name), &value.to_string());
        }
    }

    fn add_header(&mut self, name: HeaderName, value: &str) {
        self.headers
            .insert(name, HeaderValue::from_str(value).unwrap());
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
