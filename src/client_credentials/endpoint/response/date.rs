//! Textual dates, as `expires_on` and `expires_in` may contain. [pure]
//!
//! Some servers send a date where RFC 6749 has a number of seconds.

use std::time::{Duration, SystemTime};

/// Parses an HTTP-date (RFC 9110 §5.6.7), a date of RFC 3339, or Azure's `MM/dd/yyyy hh:mm:ss [AM|PM] +00:00`.
///
/// Time zones are honored. A date without one, or before 1970, is not accepted: guessing could make a token live for
/// hours too long.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    httpdate::parse_http_date(text)
        .ok()
        .or_else(|| rfc3339(text))
        .or_else(|| azure(text))
}

/// Parses a date of RFC 3339. A space may stand between date and time. Fractions of a second are ignored.
///
/// Accepts the offsets `Z` and `±hh:mm`.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_at_checked(10)?;
    let [year, month, day] = numbers(date, '-')?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone_at);
    let time = time.split('.').next()?;
    seconds([year, month, day], numbers(time, ':')?, offset(zone)?)
}

/// Parses a date as Azure writes it.
///
/// Azure App Service has sent this format for its managed identities.
fn azure(text: &str) -> Option<SystemTime> {
    let mut words = text.split_whitespace();
    let [month, day, year] = numbers(words.next()?, '/')?;
    let [mut hour, minute, second] = numbers(words.next()?, ':')?;
    let mut word = words.next()?;
    let half = ["AM", "PM"].iter().position(|half| *half == word);
    if let Some(half) = half {
        // `14:00:00 PM` is sent as well: an hour above 12 is already in the 24-hour clock.
        if hour <= 12 {
            hour = hour % 12 + 12 * i64::try_from(half).ok()?;
        }
        word = words.next()?;
    }
    seconds([year, month, day], [hour, minute, second], offset(word)?)
}

/// Parses exactly three numbers of at most four digits.
fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let digits =
            !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse().ok())?
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

/// Parses an offset from UTC. Returns minutes to the east.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    Some(
        sign * (hours.parse::<u8>().ok().map(i64::from)? * 60
            + minutes.parse::<u8>().ok().map(i64::from)?),
    )
}

/// Converts a civil date to a system time. Returns `None` for an implausible date or one before 1970.
///
/// The formula is that of the proleptic Gregorian calendar. Days are not checked against the length of their month: 31
/// February is read as a day in March.
fn seconds(
    [year, month, day]: [i64; 3],
    [hour, minute, second]: [i64; 3],
    offset: i64,
) -> Option<SystemTime> {
    let plausible = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !plausible {
        return None;
    }
    // Days since 1970, with years that begin in March, so that the leap day is the last day of a year.
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + (hour * 60 + minute - offset) * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_parsed_in_all_formats() {
        for (text, expected) in [
            ("Mon, 21 Sep 2026 14:13:20 GMT", Some(1_790_000_000)),
            ("2026-09-21T14:13:20Z", Some(1_790_000_000)),
            ("2026-09-21t16:13:20.123+02:00", Some(1_790_000_000)),
            ("2026-09-21 14:13:20Z", Some(1_790_000_000)),
            ("09/21/2026 14:13:20 +00:00", Some(1_790_000_000)),
            ("9/21/2026 2:13:20 PM +00:00", Some(1_790_000_000)),
            ("09/21/2026 14:13:20 PM +00:00", Some(1_790_000_000)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2026-09-21T12:43:20-01:30", Some(1_790_000_000)),
            ("2026-09-21T19:43:20+05:30", Some(1_790_000_000)),
            // A leap second is the first of the next minute.
            ("2026-09-21T14:12:60Z", Some(1_789_999_980)),
            ("2026-09-21T23:59:59Z", Some(1_790_035_199)),
            ("9/21/2026 12:13:20 PM +00:00", Some(1_789_992_800)),
            ("9/21/2026 12:13:20 AM +00:00", Some(1_789_949_600)),
            ("2026-09-21T24:00:00Z", None),
            ("2026-09-21T14:60:00Z", None),
            ("2026-09-21T14:13:61Z", None),
            ("+9/21/2026 14:13:20 +00:00", None),
            ("00009/21/2026 14:13:20 +00:00", None),
            ("9//2026 14:13:20 +00:00", None),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-21T14:13:20Z", None),
            ("2026-09-21", None),
            ("soon", None),
        ] {
            let expected = expected.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), digits in "[0-9/:+ TZ.-]{0,40}") {
            parse(&text);
            parse(&digits);
        }
    }
}
