//! How long a token lives, from whatever its answer says about it. [pure]

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::date;
use crate::{
    client_credentials::{
        Quirk,
        endpoint::claims::{Claims, number},
    },
    retry_after::Number,
};

/// `expires_in` wins; then the other members that say when the token expires; then the `exp` of a JWT; then the default.
/// A JWT's `exp` shortens what the members say: an API goes by that.
///
/// `made` is when the answer was made by the server's own clock, so that a difference between the clocks cancels out.
pub(super) fn lifetime(
    members: &Map<String, Value>,
    token: &str,
    made: SystemTime,
    default: Duration,
    quirks: &mut Vec<Quirk>,
) -> Duration {
    let claimed = Claims::of(token).and_then(|claims| claimed(&claims, made));
    match (told(members, made, quirks), claimed) {
        (Some(told), Some(claimed)) if claimed < told => {
            quirks.push(Quirk::ShorterLifetime);
            claimed
        }
        (told, claimed) => told.or(claimed).unwrap_or(default),
    }
    .min(LONGEST)
}

fn told(
    members: &Map<String, Value>,
    made: SystemTime,
    quirks: &mut Vec<Quirk>,
) -> Option<Duration> {
    match members.get("expires_in") {
        None | Some(Value::Null) => quirks.push(Quirk::NoLifetime),
        Some(value) => {
            if let Some(lifetime) = relative(value, made, quirks) {
                return Some(lifetime);
            }
            quirks.push(Quirk::ImplausibleLifetime);
        }
    }
    let names = ["expires_on", "expires_at", "exp", "expires"];
    names
        .into_iter()
        .find_map(|name| absolute(members.get(name)?, made))
}

/// What is left of the life of a JWT, where its claims are plausible: it ends after it began, and has not ended yet.
fn claimed(claims: &Claims, made: SystemTime) -> Option<Duration> {
    let exp = claims.exp?;
    // Milliseconds are sent, too.
    let seconds = |date: f64| {
        if date >= START_OF_EPOCH_MILLIS {
            date / 1000.0
        } else {
            date
        }
    };
    let ends_before_it_began = claims.iat.is_some_and(|iat| seconds(exp) <= seconds(iat));
    if ends_before_it_began {
        return None;
    }
    remaining(since_epoch(seconds(exp))?, made)
}

/// When the server would have the token renewed (`refresh_in`, Entra), if it says so.
pub(super) fn refresh_in(members: &Map<String, Value>) -> Option<Duration> {
    let seconds = number(members.get("refresh_in")?).filter(|seconds| *seconds > 0.0)?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// `expires_in` as seconds, or, told by its size, as a date in seconds or milliseconds since 1970, or a date in words.
fn relative(value: &Value, made: SystemTime, quirks: &mut Vec<Quirk>) -> Option<Duration> {
    let Some(seconds) = number(value) else {
        let date = date::parse(value.as_str()?)?;
        quirks.push(Quirk::AbsoluteLifetime);
        return Some(date.duration_since(made).unwrap_or_default().min(LONGEST));
    };
    if value.is_string() {
        quirks.push(Quirk::TextualLifetime);
    }
    if is_fraction(value) {
        quirks.push(Quirk::FractionalLifetime);
    }
    if seconds <= 0.0 {
        quirks.push(Quirk::ImplausibleLifetime);
        return Some(Duration::ZERO);
    }
    if let Some(date) = Number::parse(format!("{seconds:.0}").as_bytes())
        .filter(|number| number.whole >= START_OF_EPOCH_SECONDS)
        .and_then(|number| number.wait(made))
    {
        quirks.push(Quirk::AbsoluteLifetime);
        return Some(date.min(LONGEST));
    }
    let lifetime = Duration::try_from_secs_f64(seconds.floor())
        .ok()
        .filter(|lifetime| *lifetime <= LONGEST);
    if lifetime.is_none() {
        quirks.push(Quirk::ImplausibleLifetime);
    }
    Some(lifetime.unwrap_or(LONGEST))
}

/// Whether it is written with a point or an exponent, which Appendix A.14 of RFC 6749 has no room for.
fn is_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::String(text) => text.contains(['.', 'e', 'E']),
        _ => false,
    }
}

/// What is left until a date, in seconds or milliseconds since 1970 or in words; a number that is too small for a date
/// is seconds from now.
fn absolute(value: &Value, made: SystemTime) -> Option<Duration> {
    let Some(seconds) = number(value) else {
        return remaining(date::parse(value.as_str()?)?, made);
    };
    let near = Number::parse(format!("{seconds:.0}").as_bytes())
        .and_then(|number| number.wait(made))
        .filter(|left| !left.is_zero());
    near.or_else(|| remaining(since_epoch(seconds)?, made))
}

fn since_epoch(seconds: f64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// A date in the past says nothing about a token that was issued now.
fn remaining(date: SystemTime, made: SystemTime) -> Option<Duration> {
    date.duration_since(made)
        .ok()
        .filter(|left| !left.is_zero())
}

/// Longer lives are milliseconds taken for seconds, or as good as for ever; a 401 corrects either.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

const START_OF_EPOCH_SECONDS: u64 = 1_000_000_000;
const START_OF_EPOCH_MILLIS: f64 = 1e11;
