//! How long a token lives, from whatever its answer says about it. [pure]

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::date;
use crate::{
    client_credentials::{Quirk, endpoint::claims::Claims},
    retry_after::Number,
};

/// `expires_in` wins; then the absolute times: `expires_on`, `exp`, and the `exp` of a JWT; then the default.
///
/// `made` is when the answer was made by the server's own clock, so that a difference between the clocks cancels out.
pub(super) fn lifetime(
    members: &Map<String, Value>,
    token: &str,
    made: SystemTime,
    default: Duration,
    quirks: &mut Vec<Quirk>,
) -> Duration {
    match members.get("expires_in") {
        None | Some(Value::Null) => quirks.push(Quirk::NoLifetime),
        Some(value) => {
            if let Some(lifetime) = relative(value, made, quirks) {
                return lifetime;
            }
            quirks.push(Quirk::ImplausibleLifetime);
        }
    }
    let absolute = ["expires_on", "exp"].into_iter().find_map(|name| {
        let date = instant(members.get(name)?)?;
        remaining(date, made)
    });
    absolute
        .or_else(|| {
            let exp = Claims::of(token)?.exp?;
            remaining(since_epoch(exp)?, made)
        })
        .unwrap_or(default)
        .min(LONGEST)
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

/// A number, or a string or float that spells one.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// Whether it is written with a point or an exponent, which Appendix A.14 of RFC 6749 has no room for.
fn is_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::String(text) => text.contains(['.', 'e', 'E']),
        _ => false,
    }
}

/// A date: seconds since 1970, or words.
fn instant(value: &Value) -> Option<SystemTime> {
    match number(value) {
        Some(seconds) => since_epoch(seconds),
        None => date::parse(value.as_str()?),
    }
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
