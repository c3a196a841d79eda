//! Determines the lifetime of a token from its response. [pure]
//!
//! A lifetime that is too long costs a rejected request, and one that is too short costs a token request. So an
//! implausible value is limited rather than rejected.
//!
//! Numbers are distinguished by their size: below 10⁹ they are seconds from now, from 10⁹ seconds since 1970, and from
//! 10¹¹ milliseconds since 1970. A lifetime of 10⁹ seconds would be 31 years, so that the ranges do not overlap in
//! practice.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::date;
use crate::{
    client_credentials::{
        NonConformance,
        endpoint::claims::{Claims, number},
    },
    retry_after::Number,
};

/// Returns the lifetime, limited to one year.
///
/// The first of these that is present counts: `expires_in`, another member that contains the expiration, the `exp` of a
/// JWT, the default. If the `exp` of a JWT is earlier than the members say, it takes precedence, because APIs enforce
/// it.
///
/// `made` is the time of the response by the server's own clock, so that a difference between the clocks cancels out.
///
/// Never fails. What cannot be read is reported as a deviation, and the next source of a lifetime is tried.
pub(super) fn lifetime(
    members: &Map<String, Value>,
    token: &str,
    made: SystemTime,
    default_lifetime: Duration,
    non_conformances: &mut Vec<NonConformance>,
) -> Duration {
    let claimed = Claims::of(token).and_then(|claims| from_claims(&claims, made));
    match (announced(members, made, non_conformances), claimed) {
        (Some(announced), Some(claimed)) if claimed < announced => {
            non_conformances.push(NonConformance::ShorterLifetime);
            claimed
        }
        (announced, claimed) => announced.or(claimed).unwrap_or(default_lifetime),
    }
    .min(MAX_LIFETIME)
}

/// Returns the lifetime that the members of the response contain.
///
/// A lifetime of zero counts: the token is then used for the minimum lifetime of a second.
fn announced(
    members: &Map<String, Value>,
    made: SystemTime,
    non_conformances: &mut Vec<NonConformance>,
) -> Option<Duration> {
    match members.get("expires_in") {
        None | Some(Value::Null) => non_conformances.push(NonConformance::NoLifetime),
        Some(value) => {
            if let Some(lifetime) = relative(value, made, non_conformances) {
                return Some(lifetime);
            }
            non_conformances.push(NonConformance::ImplausibleLifetime);
        }
    }
    let names = ["expires_on", "expires_at", "exp", "expires"];
    names
        .into_iter()
        .find_map(|name| absolute(members.get(name)?, made))
}

/// Returns the remaining lifetime of a JWT, if its claims are plausible: it expires after it was issued, and has not
/// expired yet.
///
/// An implausible claim is ignored and not reported: the token is opaque to its client (RFC 9068 §6).
fn from_claims(claims: &Claims, made: SystemTime) -> Option<Duration> {
    let exp = claims.exp?;
    // Some servers send milliseconds.
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

/// Returns the interval after which the server recommends a refresh (`refresh_in`, Microsoft Entra), if there is one.
pub(super) fn refresh_in(members: &Map<String, Value>) -> Option<Duration> {
    let seconds = number(members.get("refresh_in")?).filter(|seconds| *seconds > 0.0)?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads `expires_in`: seconds; or, if the number is large enough, a date in seconds or milliseconds since 1970; or a
/// textual date.
///
/// Fractions are rounded down, so that the token is not used past its end.
fn relative(
    value: &Value,
    made: SystemTime,
    non_conformances: &mut Vec<NonConformance>,
) -> Option<Duration> {
    let Some(seconds) = number(value) else {
        let date = date::parse(value.as_str()?)?;
        non_conformances.push(NonConformance::AbsoluteLifetime);
        return Some(
            date.duration_since(made)
                .unwrap_or_default()
                .min(MAX_LIFETIME),
        );
    };
    if value.is_string() {
        non_conformances.push(NonConformance::TextualLifetime);
    }
    if is_fraction(value) {
        non_conformances.push(NonConformance::FractionalLifetime);
    }
    if seconds <= 0.0 {
        non_conformances.push(NonConformance::ImplausibleLifetime);
        return Some(Duration::ZERO);
    }
    // A number of this size is a date rather than a lifetime of decades.
    if let Some(date) = Number::parse(format!("{seconds:.0}").as_bytes())
        .filter(|number| number.whole >= START_OF_EPOCH_SECONDS)
        .and_then(|number| number.wait(made))
    {
        non_conformances.push(NonConformance::AbsoluteLifetime);
        return Some(date.min(MAX_LIFETIME));
    }
    let lifetime = Duration::try_from_secs_f64(seconds.floor())
        .ok()
        .filter(|lifetime| *lifetime <= MAX_LIFETIME);
    if lifetime.is_none() {
        non_conformances.push(NonConformance::ImplausibleLifetime);
    }
    Some(lifetime.unwrap_or(MAX_LIFETIME))
}

/// Returns whether the number has a decimal point or an exponent, which RFC 6749 Appendix A.14 does not allow.
fn is_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::String(text) => text.contains(['.', 'e', 'E']),
        _ => false,
    }
}

/// Returns the time until a date: in seconds or milliseconds since 1970, or textual. A number that is too small for a
/// date counts as seconds from now.
///
/// A date in the past yields `None`, and the next source of a lifetime is tried.
fn absolute(value: &Value, made: SystemTime) -> Option<Duration> {
    let Some(seconds) = number(value) else {
        return remaining(date::parse(value.as_str()?)?, made);
    };
    // First as a date or a number of seconds from now, whichever the size suggests; then strictly as a date.
    let from_epoch = Number::parse(format!("{seconds:.0}").as_bytes())
        .and_then(|number| number.wait(made))
        .filter(|left| !left.is_zero());
    from_epoch.or_else(|| remaining(since_epoch(seconds)?, made))
}

/// Returns the time that is `seconds` after the start of 1970.
fn since_epoch(seconds: f64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// Returns the time until `date`. A date in the past is ignored, because the token has just been issued.
fn remaining(date: SystemTime, made: SystemTime) -> Option<Duration> {
    date.duration_since(made)
        .ok()
        .filter(|left| !left.is_zero())
}

/// Maximum lifetime. A longer one is milliseconds taken for seconds, or practically unlimited. In either case a 401
/// corrects it.
const MAX_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Smallest number of seconds that is read as a date: September 2001.
const START_OF_EPOCH_SECONDS: u64 = 1_000_000_000;
/// Smallest number that is read as milliseconds: March 1973.
const START_OF_EPOCH_MILLIS: f64 = 1e11;
