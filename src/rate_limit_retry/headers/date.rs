//! Written dates.
//!
//! | form | example |
//! |---|---|
//! | HTTP (RFC 9110 §5.6.7) | `Mon, 21 Sep 2026 14:14:20 GMT` and two obsolete forms |
//! | RFC 3339 and similar | `2026-09-21T14:14:20Z`, `2026-09-21 14:14:20 UTC` |
//! | JavaScript's `Date#toString` | `Mon Sep 21 2026 15:14:20 GMT+0100 (Central European Standard Time)` |
//! | `date` and Java | `Mon Sep 21 14:14:20 UTC 2026` |
//! | RFC 5322 | `Mon, 21 Sep 2026 16:14:20 +0200` |
//!
//! The forms are tried in this order. Of time zones in words, only `UTC` and `GMT` are known.
//!
//! Written by hand, because no date library accepts all of these forms, and because a reset needs neither a calendar
//! nor a time-zone database.

use std::time::{Duration, SystemTime};

use crate::{retry_after::http_date, steps::count_steps};

/// Parses a date; `None` if `text` has none of the supported forms, is longer than [`MAX_DATE_LEN`], or is before 1970.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    if text.len() > MAX_DATE_LEN {
        return None;
    }
    count_steps(text.len());
    http_date(text)
        .or_else(|| rfc3339(text))
        .or_else(|| javascript(text))
        .or_else(|| unix(text))
        .or_else(|| rfc5322(text))
}

/// Parses `Mon, 21 Sep 2026 16:14:20 +0200` (RFC 5322), with or without the day of the week.
fn rfc5322(text: &str) -> Option<SystemTime> {
    let text = text.split_once(',').map_or(text, |(_, text)| text);
    let mut words = text.split_ascii_whitespace();
    let day = words.next()?;
    let day = number(day, 2).or_else(|| number(day, 1))?;
    let month = month(words.next()?)?;
    let (year, time) = (words.next()?, words.next()?);
    let zone = offset(words.next().unwrap_or_default())?;
    instant([number(year, 4)?, month, day], clock(time)?, zone)
}

/// Parses RFC 3339. Also accepts a time without seconds (Atlassian), a space in place of the `T` or before the zone,
/// a zone in words (`UTC`, or `+0000 UTC` as Go prints it), and a missing zone, which means UTC.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_at_checked(10)?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let time = time.strip_prefix(['T', 't', ' '])?;
    let end = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let end = time.find(['U', 'G']).map_or(end, |word| word.min(end));
    let (time, zone) = time.split_at_checked(end)?;
    let zone = zone.strip_suffix(" UTC").unwrap_or(zone);
    let civil = [number(year, 4)?, number(month, 2)?, number(day, 2)?];
    instant(civil, clock(time.trim_ascii_end())?, offset(zone)?)
}

/// Parses `Mon Sep 21 14:14:20 UTC 2026`, as `date` and Java print it.
fn unix(text: &str) -> Option<SystemTime> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let month = month(words.next()?)?;
    let (day, time) = (words.next()?, words.next()?);
    let zone = offset(words.next()?)?;
    let year = words.next()?;
    let day = number(day, 2).or_else(|| number(day, 1))?;
    instant([number(year, 4)?, month, day], clock(time)?, zone)
}

/// Returns the number of the month, from 1.
fn month(word: &str) -> Option<i64> {
    Some((1..).zip(MONTHS).find(|(_, name)| *name == word)?.0)
}

/// Parses `Mon Sep 21 2026 15:14:20 GMT+0100 (Central European Standard Time)`.
fn javascript(text: &str) -> Option<SystemTime> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let month = month(words.next()?)?;
    let (day, year, time) = (words.next()?, words.next()?, words.next()?);
    let zone = words.next()?.strip_prefix("GMT")?;
    let civil = [number(year, 4)?, month, number(day, 2)?];
    instant(civil, clock(time)?, offset(zone)?)
}

/// Parses `hh:mm`, `hh:mm:ss` or `hh:mm:ss.fff` as the time since midnight.
fn clock(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let hour = number(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = number(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let seconds = parts.next().unwrap_or("00");
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    // 60 is a leap second.
    let second = number(whole, 2).filter(|second| *second <= 60)?;
    // Pads or cuts the fraction to nanoseconds.
    let fraction = format!("{:0<9}", fraction.get(..fraction.len().min(9))?);
    let nanos = u32::try_from(number(&fraction, 9)?).ok()?;
    let none_left = parts.next().is_none();
    none_left.then(|| Duration::new((hour * 3600 + minute * 60 + second).unsigned_abs(), nanos))
}

/// Parses a time zone as seconds east of Greenwich: nothing, `Z`, `UTC`, `GMT`, `+0100`, `+01:00`.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next() {
        None | Some('Z' | 'z') => return (zone.len() <= 1).then_some(0),
        Some('U' | 'G') => return matches!(zone, "UTC" | "GMT").then_some(0),
        Some('+') => 1,
        Some('-') => -1,
        Some(_) => return None,
    };
    let digits = zone[1..].replacen(':', "", 1);
    let hour_minute = number(&digits, 4)?;
    Some(sign * (hour_minute / 100 * 3600 + hour_minute % 100 * 60))
}

/// Combines a date, a time of day and an offset in seconds. Returns `None` before 1970, and for a day that the month does
/// not have.
fn instant([year, month, day]: [i64; 3], time: Duration, offset: i64) -> Option<SystemTime> {
    let first_of_next = days_since_1970(year, month + 1, 1);
    let days = days_since_1970(year, month, day);
    let valid = (1..=12).contains(&month) && day >= 1 && days < first_of_next;
    let seconds = days * 86_400 - offset;
    let since = Duration::from_secs(u64::try_from(seconds).ok().filter(|_| valid)?);
    SystemTime::UNIX_EPOCH.checked_add(since.checked_add(time)?)
}

/// Returns the number of days since 1970-01-01. Counts in years that begin in March, so that the leap day is the last
/// day of a year. Month 13 is January of the next year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_TO_1970
}

/// Parses a number with exactly `digits` ASCII digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let good = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().ok())?
}

/// Maximum length of a date, in bytes.
const MAX_DATE_LEN: usize = 128;
/// Number of days from March 1 of year 0 to January 1, 1970.
const DAYS_TO_1970: i64 = 719_468;
/// Abbreviations of the months, in order.
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_date_formats_parse_to_the_same_second() {
        for text in [
            "Mon, 21 Sep 2026 14:14:20 GMT",
            "Monday, 21-Sep-26 14:14:20 GMT",
            "Mon Sep 21 14:14:20 2026",
            "2026-09-21T14:14:20Z",
            "2026-09-21t14:14:20.0z",
            "2026-09-21T16:14:20+02:00",
            "2026-09-21T07:14:20-0700",
            "2026-09-21T19:44:20+05:30",
            "2026-09-21T10:44:20-0330",
            "2026-09-21 14:14:20",
            "2026-09-21 14:14:20Z",
            "2026-09-21 14:14:20 UTC",
            "2026-09-21 14:14:20 GMT",
            "2026-09-21 16:14:20 +0200",
            "2026-09-21 14:14:20.5 +0000 UTC",
            "2026-09-21T14:14:20 +00:00",
            "Mon, 21 Sep 2026 14:14:20 UTC",
            "Mon, 21 Sep 2026 14:14:20 +0000",
            "Mon Sep 21 14:14:20 UTC 2026",
            "Mon, 21 Sep 2026 16:14:20 +0200",
            "21 Sep 2026 14:14:20 GMT",
            "Mon Sep 21 2026 15:14:20 GMT+0100 (Central European Standard Time)",
            "Mon Sep 21 2026 14:14:20 GMT",
        ] {
            assert_eq!(seconds(text), Some(1_790_000_060), "{text}");
        }
        assert_eq!(seconds("2026-09-21T14:14Z"), Some(1_790_000_040));
        // A leap second is the next one.
        assert_eq!(seconds("2026-09-21T14:13:60Z"), Some(1_790_000_040));
        assert_eq!(seconds("2024-02-29T00:00:00Z"), Some(1_709_164_800));
        assert_eq!(seconds("2023-12-31T00:00:00Z"), Some(1_703_980_800));
    }

    #[test]
    fn other_text_is_not_a_date() {
        for text in [
            "",
            "2026",
            "2026-09-21",
            "2026-13-21T14:14:20Z",
            "2026-09-21T24:14:20Z",
            "2026-09-21T14:60:20Z",
            "2026-09-21T14:14:61Z",
            "2026-09-21T14:14:20+1",
            "2026-09-21T14:14:20+a1:00",
            "2026-09-2aT14:14:20Z",
            "2026-09-221T14:14:20Z",
            "2026-09-32T14:14:20Z",
            "2026-09-00T14:14:20Z",
            "2026-09-31T14:14:20Z",
            "2026-02-29T14:14:20Z",
            "2100-02-29T14:14:20Z",
            "Mon Feb 30 14:14:20 UTC 2026",
            "2026-00-21T14:14:20Z",
            "2026-09-21T14:14:20ZZ",
            "2026-09-21 14:14:20 CET",
            "2026-09-21 14:14:20 UTCX",
            "Mon Sep 21 14:14:20 CET 2026",
            "2026-09-21T14:14:20:00Z",
            "2026-09-21T14:14:20.x",
            "1969-12-31T23:59:59Z",
            "Mon Xxx 21 2026 15:14:20 GMT+0100",
            "Mon Sep 21 2026 15:14:20 CET",
            "\u{661}026-09-21T14:14:20Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn dates_round_trip(seconds in 0..253_402_300_799_u64) {
            let date = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let words = httpdate::fmt_http_date(date);
            let words: Vec<&str> = words.split([' ', ',']).filter(|w| !w.is_empty()).collect();
            let [week, day, month, year, time, zone] = words[..] else { panic!() };

            prop_assert_eq!(javascript(&format!("{week} {month} {day} {year} {time} {zone}+0000")), Some(date));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", near in "[-0-9TZ:.+ GMTa-z]{0,40}") {
            parse(&text);
            parse(&near);
        }
    }

    fn seconds(text: &str) -> Option<u64> {
        let since = parse(text)?.duration_since(SystemTime::UNIX_EPOCH);
        Some(since.unwrap().as_secs())
    }
}
