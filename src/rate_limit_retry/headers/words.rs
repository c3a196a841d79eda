//! The words in field names and in keys of values, and their meaning.
//!
//! All lookups are case-insensitive and do not allocate: a word with upper-case letters is converted in a buffer on
//! the stack. Words longer than [`MAX_WORD_LEN`] are not known.
//!
//! The lists contain what servers send, as far as it is known. To add a word, add it to its list, make sure that
//! `is_limit_field` or `is_companion_field` in the parent module lets such names through, and add a row to the tests of
//! `name`.

use super::field::Field;
use crate::retry_after::{DAY, HOUR, MILLI, MINUTE, SECOND};

/// The meaning of a word in a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// Number allowed per window.
    Limit,
    /// Number that remains.
    Remaining,
    /// Number that is used up.
    Used,
    /// Time of the reset.
    Reset,
    /// Wait until the next attempt.
    Wait,
    /// Length of the window.
    Window,
    /// Number that is refilled.
    Refill,
    /// Name of the quota.
    Name,
    /// Policy of the quota.
    Policy,
}

impl Role {
    /// Returns the precedence of the role. The strongest role in a name applies; of equally strong ones, the last:
    /// `limit-remaining` is a remaining count, `window-limit` a limit.
    pub(super) fn strength(self) -> u8 {
        match self {
            Self::Wait => 5,
            Self::Reset => 4,
            Self::Remaining | Self::Used | Self::Refill => 3,
            Self::Name | Self::Policy => 2,
            Self::Limit | Self::Window => 1,
        }
    }

    /// Returns whether the value is a point in time or a duration.
    pub(super) fn is_time(self) -> bool {
        matches!(self, Self::Wait | Self::Reset | Self::Window)
    }

    /// Returns the field with this role.
    pub(super) fn field(self) -> Field {
        match self {
            Self::Limit => Field::Limit,
            Self::Remaining => Field::Remaining,
            Self::Used => Field::Used,
            Self::Reset => Field::Reset,
            Self::Wait => Field::RetryAfter,
            Self::Window => Field::Window,
            Self::Refill => Field::RefillAmount,
            Self::Name => Field::Name,
            Self::Policy => Field::Policy,
        }
    }

    /// Returns the role of a word, case-insensitively.
    pub(super) fn of(word: &str) -> Option<Self> {
        let mut lower = [0; MAX_WORD_LEN];
        Some(match lower_case(word, &mut lower)? {
            "limit" | "limits" | "lim" | "max" | "maximum" | "quota" | "total" | "allowed"
            | "permitted" | "capacity" => Self::Limit,
            "remaining" | "remain" | "remains" | "rem" | "left" | "available" | "avail" => {
                Self::Remaining
            }
            "used" | "usage" | "observed" | "count" | "consumed" | "spent" => Self::Used,
            "reset" | "resets" | "resettime" | "resetat" | "resetin" | "resetafter" | "expiry"
            | "expire" | "expires" | "expiration" | "next" | "until" | "renew" | "renews" => {
                Self::Reset
            }
            "retryafter" | "retryin" | "retryat" | "wait" | "backoff" => Self::Wait,
            "window" | "interval" | "period" | "duration" | "windowsize" => Self::Window,
            "fillrate" | "refillrate" | "refill" => Self::Refill,
            "resource" | "bucket" | "name" => Self::Name,
            "policy" => Self::Policy,
            _ => return None,
        })
    }
}

/// Splits a compound word into two: `dailylimit`, `apiquota`, `resettime`. The second part has a role.
pub(super) fn split_compound(word: &str) -> Option<(&str, &str)> {
    /// Words that a compound may end with.
    const TAILS: [&str; 8] = [
        "retryafter",
        "remaining",
        "resettime",
        "reset",
        "limit",
        "quota",
        "expiry",
        "usage",
    ];
    /// Words that only appear to be compounds.
    const NOT_COMPOUND: [&str; 4] = ["preset", "unlimit", "nearlimit", "overlimit"];
    if word.len() < MIN_COMPOUND_LEN || is_one_of(word, &NOT_COMPOUND) {
        return None;
    }
    TAILS.iter().find_map(|tail| {
        let at = word.len().checked_sub(tail.len()).filter(|at| *at > 0)?;
        let (head, end) = word.split_at_checked(at)?;
        end.eq_ignore_ascii_case(tail).then_some((head, end))
    })
}

/// Returns whether a word only describes the format of a point in time or a duration.
pub(super) fn is_filler(word: &str) -> bool {
    let mut lower = [0; MAX_WORD_LEN];
    matches!(
        lower_case(word, &mut lower),
        Some(
            "time"
                | "timestamp"
                | "at"
                | "in"
                | "after"
                | "on"
                | "date"
                | "epoch"
                | "unix"
                | "utc"
                | "ts"
                | "size"
                | "length"
        )
    )
}

/// Returns whether a word does not identify a quota: `limit-per-second`, `remaining-this-second`.
pub(super) fn is_article(word: &str) -> bool {
    is_one_of(word, &["per", "this", "current", "the", "a", "of"])
}

/// Returns whether a word means a refill, as in `replenish-rate`.
pub(super) fn is_refill(word: &str) -> bool {
    let mut lower = [0; MAX_WORD_LEN];
    matches!(
        lower_case(word, &mut lower),
        Some("fill" | "refill" | "replenish" | "restore" | "leak" | "recovery")
    )
}

/// Returns the nanoseconds of the unit of a wait, a reset or a window: `reset-ms`. A word in the singular, such as
/// `minute`, names a quota instead.
pub(super) fn scale_of(word: &str) -> Option<u64> {
    let mut lower = [0; MAX_WORD_LEN];
    Some(match lower_case(word, &mut lower)? {
        "ns" | "nanos" | "nanoseconds" => 1,
        "us" | "micros" | "microseconds" => 1_000,
        "ms" | "msec" | "msecs" | "millis" | "millisec" | "millisecs" | "millisecond"
        | "milliseconds" => MILLI,
        "s" | "sec" | "secs" | "seconds" => SECOND,
        "mins" | "minutes" => MINUTE,
        "hrs" | "hours" => HOUR,
        "days" => DAY,
        _ => return None,
    })
}

/// Returns the nanoseconds of a unit that follows a number: `15min`, `24-hour`, `1 minute`.
pub(super) fn unit_of(word: &str) -> Option<u64> {
    let mut lower = [0; MAX_WORD_LEN];
    Some(match lower_case(word, &mut lower)? {
        "\u{b5}s" | "\u{3bc}s" | "microsecond" => 1_000,
        "nanosecond" => 1,
        "second" => SECOND,
        "m" | "min" | "minute" => MINUTE,
        "h" | "hr" | "hour" => HOUR,
        "d" | "day" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        _ => return scale_of(word),
    })
}

/// Returns the seconds of the window that the words describe.
///
/// | words | result |
/// |---|---|
/// | `daily` | 86,400 |
/// | `per-minute` | 60 |
/// | `24-hour` | 86,400 |
/// | `app-15min` | 900 |
/// | `requests`, `m`, `v2` | `None` |
///
/// An abbreviated unit, such as `m`, counts only after a number. The first window applies.
pub(super) fn window_of<'a>(words: impl Iterator<Item = &'a str>) -> Option<u64> {
    let mut number: Option<u64> = None;
    for word in words.flat_map(parts) {
        let mut lower = [0; MAX_WORD_LEN];
        let known = match lower_case(word, &mut lower).unwrap_or_default() {
            "second" | "secondly" | "sec" => Some(SECOND),
            "minute" | "minutely" | "min" => Some(MINUTE),
            "hour" | "hourly" => Some(HOUR),
            "day" | "daily" => Some(DAY),
            "week" | "weekly" => Some(7 * DAY),
            _ => None,
        };
        // `24-hour`: after a number, abbreviations count as well.
        let unit = match number {
            Some(_) => unit_of(word),
            None => known,
        };
        if let Some(unit) = unit {
            return number
                .unwrap_or(1)
                .checked_mul(unit / SECOND)
                .filter(|window| *window > 0);
        }
        // `24hour`, or a number whose unit may be the next word.
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = word.split_at(digits);
        number = count.parse().ok();
        if let (Some(count), false) = (number, unit.is_empty()) {
            if let Some(unit) = unit_of(unit) {
                return count
                    .checked_mul(unit / SECOND)
                    .filter(|window| *window > 0);
            }
            number = None;
        }
    }
    None
}

/// Splits a name into words, at separators (`-`, `_`, `.`, `/`, space) and at changes from lower to upper case
/// (`resetInMs`). Empty words are skipped.
pub(super) fn parts(name: &str) -> Parts<'_> {
    Parts { rest: name }
}

/// Iterator over the words of a name. See [`parts`].
#[derive(Clone, Debug)]
pub(super) struct Parts<'a> {
    /// The part of the name that was not split yet.
    rest: &'a str,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let mut before = 0_u8;
            let end = self.rest.bytes().position(|byte| {
                let hump = before.is_ascii_lowercase() && byte.is_ascii_uppercase();
                before = byte;
                hump || matches!(byte, b'-' | b'_' | b'.' | b' ' | b'/')
            });
            let (word, rest) = self.rest.split_at_checked(end.unwrap_or(self.rest.len()))?;
            self.rest = rest.strip_prefix(['-', '_', '.', ' ', '/']).unwrap_or(rest);
            if !word.is_empty() {
                return Some(word);
            }
            if self.rest.is_empty() {
                return None;
            }
        }
    }
}

/// Returns whether a word is one of `words`, case-insensitively.
pub(super) fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Converts a word to lower case; `None` if it is longer than every known word. Does not allocate.
fn lower_case<'b>(word: &'b str, into: &'b mut [u8; MAX_WORD_LEN]) -> Option<&'b str> {
    let into = into.get_mut(..word.len())?;
    // The common case: field names are in lower case.
    if !word.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(word);
    }
    into.copy_from_slice(word.as_bytes());
    into.make_ascii_lowercase();
    std::str::from_utf8(into).ok()
}

/// Minimum length of a compound word, in bytes.
const MIN_COMPOUND_LEN: usize = 6;
/// Maximum length of a known word, in bytes.
const MAX_WORD_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_names_are_parsed() {
        for (words, seconds) in [
            ("daily", Some(86_400)),
            ("per-minute", Some(60)),
            ("24hour", Some(86_400)),
            ("24-hour", Some(86_400)),
            ("24-hours", Some(86_400)),
            ("app-15min", Some(900)),
            ("1m", Some(60)),
            ("10s", Some(10)),
            ("60-seconds", Some(60)),
            ("2-weeks", Some(1_209_600)),
            ("requests", None),
            ("input-tokens", None),
            ("m", None),
            ("v2", None),
            ("v2-users", None),
            ("0s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(window_of([words].into_iter()), seconds, "{words}");
        }
    }
}
