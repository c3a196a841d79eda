//! Templates: responses that differ from earlier ones in numbers only are read without parsing them.
//!
//! A server that announces its quota sends the same fields in each response, and one number in them changes: what
//! remains. A template is learned from two responses that were parsed in full. It contains the text of their fields,
//! with a gap for each number that differs. A later response is compared with it byte by byte, and only the numbers in
//! the gaps are read.
//!
//! A template does not depend on the vendor. A number may be in a gap only if both responses show what it means:
//!
//! - It is what remains of one of the limits, as the full parse has found it.
//! - Or its field counts what is used, and it is the rest of a limit whose remaining units are in another gap:
//!   `x-ratelimit-used`.
//!
//! Any other difference ends the comparison, and the response is parsed in full: another window, a countdown to the
//! reset, a further field, a response from a cache.

use http::{HeaderMap, HeaderName, HeaderValue, header::AGE};

use super::{
    info::RateLimitInfo,
    is_companion_field, is_limit_field,
    limit::{Limit, Unit},
    profile::HeaderProfile,
};

/// The fields about limits of one server, as far as the responses of one thread show them.
#[derive(Debug, Default)]
pub(crate) struct FieldHistory {
    /// The last response that was parsed in full.
    last: Option<Parsed>,
    /// What it has in common with the one before.
    template: Option<Template>,
    /// Number of responses in a row that did not fit.
    failures: u32,
}

/// A response that was parsed in full.
#[derive(Debug)]
struct Parsed {
    /// All fields, in order; of those that cannot be about limits, only the names.
    fields: Vec<(HeaderName, Option<Box<[u8]>>)>,
    /// What they mean.
    limits: Vec<Limit>,
}

/// The text of the fields, with gaps.
#[derive(Debug)]
struct Template {
    /// The fields, in order. Those without parts cannot be about limits: a response may have them or not.
    fields: Box<[(HeaderName, Option<Box<[Part]>>)]>,
    /// Number of limits of which the responses announce what remains.
    quotas: usize,
    /// What remained of each limit that a gap shows, by the last response: the least of those that may have overtaken
    /// each other.
    remaining: Box<[u64]>,
}

/// A part of a field's value.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    /// This text.
    Text(Box<[u8]>),
    /// The number that remains of the limit with this index in [`Template::remaining`].
    Remaining(usize),
    /// A number that is this sum less what remains of the limit with this index.
    Complement(usize, u64),
}

impl FieldHistory {
    /// Returns the fewest units that a response announces, if it is like those before: its fields differ from theirs
    /// only in what remains, and no more remains than before, except for responses that have overtaken each other by at
    /// most `overtaken`.
    ///
    /// `quotas`: the number of quotas that the response must announce.
    ///
    /// `None` if the response must be parsed in full. Allocates nothing.
    pub(crate) fn read(
        &mut self,
        headers: &HeaderMap,
        profile: Option<&dyn HeaderProfile>,
        quotas: usize,
        overtaken: u64,
    ) -> Option<u64> {
        let template = self.template.as_mut()?;
        (template.quotas == quotas).then(|| template.read(headers, profile, overtaken))?
    }

    /// Learns from a response that was parsed in full, with this profile.
    pub(crate) fn learn(
        &mut self,
        headers: &HeaderMap,
        profile: Option<&dyn HeaderProfile>,
        info: &RateLimitInfo,
    ) {
        let plain = info.retry_after.is_none()
            && !info.global
            && !info.limits.is_empty()
            && info.limits.iter().all(|limit| limit.unit == Unit::Requests);
        if !plain || headers.contains_key(AGE) || !is_short(headers) {
            self.failures = self.failures.saturating_add(1);
            (self.last, self.template) = (None, None);
            return;
        }
        // It fits, whether more remains or less.
        if let Some(template) = &mut self.template
            && let Some(found) = template.find(headers, profile)
        {
            found.store_in(&mut template.remaining);
            self.failures = 0;
            return;
        }
        // Where every response is different, learning costs more than it saves.
        self.failures = self.failures.saturating_add(1);
        if self.failures > MAX_FAILURES && self.failures % MAX_FAILURES > 1 {
            return;
        }
        let parsed = Parsed {
            fields: fields(headers, profile),
            limits: info.limits.clone(),
        };
        self.template = self
            .last
            .as_ref()
            .and_then(|last| Template::of(last, &parsed));
        self.last = Some(parsed);
    }
}

/// Returns whether a response is short enough to be kept.
fn is_short(headers: &HeaderMap) -> bool {
    let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    headers.len() <= MAX_FIELDS && headers.iter().map(length).sum::<usize>() <= MAX_LENGTH
}

/// Returns the fields of a response: the names of all, and the values of those that may be about limits.
fn fields(
    headers: &HeaderMap,
    profile: Option<&dyn HeaderProfile>,
) -> Vec<(HeaderName, Option<Box<[u8]>>)> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        // A copy: the value may be a part of a large buffer.
        let value = is_relevant(name, profile).then(|| value.as_bytes().into());
        (name.clone(), value)
    };
    headers.iter().map(field).collect()
}

/// Returns whether a field may be about limits.
fn is_relevant(name: &HeaderName, profile: Option<&dyn HeaderProfile>) -> bool {
    let text = name.as_str();
    is_limit_field(text)
        || is_companion_field(text)
        || *name == AGE
        || profile.is_some_and(|profile| profile.field(text).is_some())
}

impl Template {
    /// Returns the template of two responses; `None` if they differ in more than in what remains.
    fn of(first: &Parsed, second: &Parsed) -> Option<Self> {
        let limits = |parsed: &Parsed| {
            let limits = parsed.limits.iter();
            limits.map(|limit| limit.limit).collect::<Vec<_>>()
        };
        let relevant = |parsed: &'_ Parsed| -> Vec<(HeaderName, Box<[u8]>)> {
            let fields = parsed.fields.iter();
            fields
                .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
                .collect()
        };
        let (before, after) = (relevant(first), relevant(second));
        if before.len() != after.len() || limits(first) != limits(second) {
            return None;
        }
        let mut gaps = Gaps {
            first: &first.limits,
            second: &second.limits,
            shown: Vec::new(),
        };
        // What remains comes before its complement, whatever the order of the fields.
        for ((_, one), (_, other)) in before.iter().zip(&after) {
            for (one, other) in runs(one).zip(runs(other)) {
                gaps.show(one, other);
            }
        }
        // Every limit whose units have changed must have a gap, or else they were derived from something else.
        let explained = |at: usize| {
            gaps.shown.contains(&at) || first.limits[at].remaining == second.limits[at].remaining
        };
        if gaps.shown.is_empty() || !(0..second.limits.len()).all(explained) {
            return None;
        }
        let mut before = before.iter();
        let template = |(name, value): &(HeaderName, Option<Box<[u8]>>)| {
            let Some(value) = value else {
                return Some((name.clone(), None));
            };
            let (known, earlier) = before.next()?;
            let parts = gaps.parts(name, earlier, value).filter(|_| known == name)?;
            Some((name.clone(), Some(parts)))
        };
        Some(Self {
            fields: second.fields.iter().map(template).collect::<Option<_>>()?,
            quotas: second
                .limits
                .iter()
                .filter(|limit| limit.remaining.is_some())
                .count(),
            remaining: gaps
                .shown
                .iter()
                .filter_map(|at| second.limits[*at].remaining)
                .collect(),
        })
    }

    /// Reads a response. See [`FieldHistory::read`].
    fn read(
        &mut self,
        headers: &HeaderMap,
        profile: Option<&dyn HeaderProfile>,
        overtaken: u64,
    ) -> Option<u64> {
        let found = self.find(headers, profile)?;
        let found = found.remaining.get(..self.remaining.len())?;
        let overtaking = |(found, known): (&Option<u64>, &u64)| {
            found.is_some_and(|found| found <= known.saturating_add(overtaken))
        };
        if !found.iter().zip(&self.remaining).all(overtaking) {
            return None;
        }
        for (found, known) in found.iter().zip(&mut self.remaining) {
            *known = found.map_or(*known, |found| found.min(*known));
        }
        found.iter().copied().flatten().min()
    }

    /// Compares a response with the template. Returns the numbers in the gaps.
    fn find(&self, headers: &HeaderMap, profile: Option<&dyn HeaderProfile>) -> Option<Found> {
        let mut found = Found::default();
        let mut expected = &*self.fields;
        for (name, value) in headers {
            if let Some(((known, parts), rest)) = expected.split_first()
                && known == name
            {
                expected = rest;
                if let Some(parts) = parts {
                    found.read(parts, value.as_bytes())?;
                }
            } else if is_relevant(name, profile) {
                // Fields that cannot be about limits may be missing before it.
                let next = expected.iter().position(|(_, parts)| parts.is_some())?;
                let ((known, parts), rest) = expected.get(next..)?.split_first()?;
                if known != name {
                    return None;
                }
                expected = rest;
                found.read(parts.as_ref()?, value.as_bytes())?;
            }
        }
        let complete = expected.iter().all(|(_, parts)| parts.is_none());
        (complete && found.complements_fit()).then_some(found)
    }
}

/// The numbers in the gaps of one response.
#[derive(Default)]
struct Found {
    /// What remains of each limit.
    remaining: [Option<u64>; MAX_GAPS],
    /// The last complement: the index of the limit, the sum and the number.
    complement: Option<(usize, u64, u64)>,
}

impl Found {
    /// Compares a value with its parts, and reads the numbers in the gaps. `None` if they differ, or if two gaps show
    /// different units of one limit.
    fn read(&mut self, parts: &[Part], mut value: &[u8]) -> Option<()> {
        for part in parts {
            match part {
                Part::Text(text) => value = value.strip_prefix(&**text)?,
                Part::Remaining(at) => {
                    let number = take_number(&mut value)?;
                    let known = self.remaining.get_mut(*at)?;
                    if known.is_some_and(|known| known != number) {
                        return None;
                    }
                    *known = Some(number);
                }
                Part::Complement(at, sum) => {
                    if !self.complements_fit() {
                        return None;
                    }
                    self.complement = Some((*at, *sum, take_number(&mut value)?));
                }
            }
        }
        value.is_empty().then_some(())
    }

    /// Replaces what remained of each limit.
    fn store_in(&self, remaining: &mut [u64]) {
        for (found, known) in self.remaining.iter().zip(remaining) {
            *known = found.unwrap_or(*known);
        }
    }

    /// Returns whether the last complement and what remains have the sum that they had before. If the limit's gap
    /// comes later, the sum is not known yet.
    fn complements_fit(&self) -> bool {
        self.complement.is_none_or(|(at, sum, number)| {
            let remaining = self.remaining.get(at).copied().flatten();
            remaining.is_none_or(|remaining| remaining.checked_add(number) == Some(sum))
        })
    }
}

/// The limits of two responses, and those that gaps show.
struct Gaps<'a> {
    first: &'a [Limit],
    second: &'a [Limit],
    /// The indices of the limits that have a gap.
    shown: Vec<usize>,
}

impl Gaps<'_> {
    /// Returns the index of the limit of which these numbers remained in the two responses.
    fn find(&self, first: u64, second: u64) -> Option<usize> {
        let pairs = self.first.iter().zip(self.second);
        let mut remaining = pairs.map(|(one, other)| (one.remaining, other.remaining));
        remaining.position(|pair| pair == (Some(first), Some(second)))
    }

    /// Notes the limit of which these numbers remained.
    fn show(&mut self, first: &[u8], second: &[u8]) {
        let numbers = number(first).zip(number(second)).filter(|(a, b)| a != b);
        if let Some(at) = numbers.and_then(|(first, second)| self.find(first, second))
            && !self.shown.contains(&at)
            && self.shown.len() < MAX_GAPS
        {
            self.shown.push(at);
        }
    }

    /// Returns what a pair of different numbers means.
    fn meaning(&self, first: u64, second: u64, counts_used: bool) -> Option<Part> {
        let shown = |at: usize| self.shown.iter().position(|shown| *shown == at);
        if let Some(at) = self.find(first, second) {
            return shown(at).map(Part::Remaining);
        }
        // The rest of a limit. Any other number that rises, such as a reset, has a meaning of its own.
        if !counts_used {
            return None;
        }
        self.shown.iter().enumerate().find_map(|(index, at)| {
            let sum = self.first[*at].remaining?.checked_add(first)?;
            let same = self.second[*at].remaining?.checked_add(second)? == sum;
            same.then_some(Part::Complement(index, sum))
        })
    }

    /// Returns the parts of a field with these two values; `None` if a difference is not explained.
    fn parts(&self, name: &HeaderName, first: &[u8], second: &[u8]) -> Option<Box<[Part]>> {
        let counts_used = name.as_str().contains("used") || name.as_str().contains("usage");
        let mut parts: Vec<Part> = Vec::new();
        if runs(first).count() != runs(second).count() {
            return None;
        }
        for (one, other) in runs(first).zip(runs(second)) {
            let part = if one == other {
                Part::Text(other.into())
            } else {
                self.meaning(number(one)?, number(other)?, counts_used)?
            };
            match (parts.last_mut(), part) {
                // Adjacent texts are compared at once.
                (Some(Part::Text(text)), Part::Text(more)) => {
                    *text = [&**text, &*more].concat().into();
                }
                (_, part) => parts.push(part),
            }
        }
        Some(parts.into())
    }
}

/// Takes the number at the start of `value`. `None` if there is none, or if it has too many digits.
fn take_number(value: &mut &[u8]) -> Option<u64> {
    let (mut number, mut digits) = (0_u64, 0);
    for byte in *value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        // Cannot overflow: a number with more than `MAX_DIGITS` is not used.
        number = number.wrapping_mul(10).wrapping_add(digit.into());
        digits += 1;
    }
    *value = value.get(digits..)?;
    (1..=MAX_DIGITS).contains(&digits).then_some(number)
}

/// Returns the number that this run of digits is. `None` for any other run, and for too many digits.
fn number(run: &[u8]) -> Option<u64> {
    take_number(&mut { run })
}

/// Splits a value into runs of digits and runs of anything else, in turn.
fn runs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.chunk_by(|one, next| one.is_ascii_digit() == next.is_ascii_digit())
}

/// Maximum number of fields of a response with a template. It bounds the memory of a thread for each partition.
const MAX_FIELDS: usize = 64;
/// Maximum length of their names and values together.
const MAX_LENGTH: usize = 4096;
/// Number of responses in a row that do not fit after which only one of as many is learned from.
const MAX_FAILURES: u32 = 32;
/// Maximum number of limits that a template reads.
const MAX_GAPS: usize = 4;
/// Maximum number of digits of a number, which then fits.
const MAX_DIGITS: usize = 19;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::rate_limit_retry::headers::{Field, read, read_with};

    /// Fields of a response, by name and value.
    fn response(fields: &[(&'static str, String)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, String)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        };
        fields.iter().map(field).collect()
    }

    /// A history of these responses.
    fn learned(responses: &[HeaderMap]) -> FieldHistory {
        let mut history = FieldHistory::default();
        for headers in responses {
            history.learn(
                headers,
                None,
                &read(StatusCode::OK, headers, SystemTime::UNIX_EPOCH),
            );
        }
        history
    }

    /// The field sets of servers, with `remaining` units.
    fn didit(remaining: u64) -> HeaderMap {
        response(&[
            ("x-ratelimit-limit", "300".into()),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT".into()),
            ("x-ratelimit-remaining", remaining.to_string()),
            ("x-ratelimit-reset", "60".into()),
        ])
    }

    fn github(remaining: u64) -> HeaderMap {
        response(&[
            ("x-ratelimit-used", (5000 - remaining).to_string()),
            ("x-ratelimit-limit", "5000".into()),
            ("x-ratelimit-remaining", remaining.to_string()),
            ("x-ratelimit-reset", "3600".into()),
            ("x-ratelimit-resource", "core".into()),
        ])
    }

    fn draft10(remaining: u64) -> HeaderMap {
        response(&[
            ("ratelimit-policy", r#""default";q=300;w=60"#.into()),
            ("ratelimit", format!(r#""default";r={remaining};t=59"#)),
        ])
    }

    fn two_policies(remaining: u64) -> HeaderMap {
        let value = format!(
            r#""burst";r={remaining};t=59, "daily";r={};t=7000"#,
            remaining + 4000
        );
        let policy = r#""burst";q=300;w=60, "daily";q=5000;w=86400"#;
        response(&[("ratelimit-policy", policy.into()), ("ratelimit", value)])
    }

    /// The number of quotas of a field set.
    fn quotas(set: fn(u64) -> HeaderMap) -> usize {
        read(StatusCode::OK, &set(1), SystemTime::UNIX_EPOCH)
            .limits
            .len()
    }

    /// Gives a meaning to fields whose names have none.
    #[derive(Debug)]
    struct Acme;

    impl HeaderProfile for Acme {
        fn field(&self, name: &str) -> Option<Field> {
            match name {
                "acme-left" => Some(Field::Remaining),
                "acme-back-in" => Some(Field::Reset),
                _ => None,
            }
        }
    }

    #[test]
    fn a_profile_determines_which_fields_matter() {
        let acme = |left: u64, back_in: &str, id: &str| {
            response(&[
                ("acme-left", left.to_string()),
                ("request-id", id.into()),
                ("acme-back-in", back_in.into()),
            ])
        };
        let mut history = FieldHistory::default();
        for headers in [acme(200, "59", "a"), acme(199, "59", "b")] {
            let info = read_with(&Acme, StatusCode::OK, &headers, SystemTime::UNIX_EPOCH);
            assert_eq!(info.limits.len(), 1);
            history.learn(&headers, Some(&Acme), &info);
        }

        assert_eq!(
            history.read(&acme(198, "59", "c"), Some(&Acme), 1, 0),
            Some(198)
        );
        assert_eq!(history.read(&acme(197, "58", "d"), Some(&Acme), 1, 0), None);
        let mut further = acme(197, "59", "e");
        further.append("acme-back-in", HeaderValue::from_static("3600"));
        assert_eq!(history.read(&further, Some(&Acme), 1, 0), None);
    }

    #[test]
    fn a_response_that_differs_in_what_remains_is_read_without_a_parse() {
        for set in [didit, github, draft10, two_policies] {
            let mut history = learned(&[set(200), set(199)]);
            let quotas = quotas(set);

            assert_eq!(history.read(&set(150), None, quotas, 0), Some(150));
            assert_eq!(history.read(&set(99), None, quotas, 0), Some(99));
            assert_eq!(history.read(&set(0), None, quotas, 0), Some(0));
            // Another quota is not announced.
            assert_eq!(history.read(&set(0), None, quotas + 1, 0), None);
        }
    }

    #[test]
    fn one_response_is_not_enough() {
        for set in [didit, github, draft10, two_policies] {
            assert_eq!(
                learned(&[set(200)]).read(&set(199), None, quotas(set), 0),
                None
            );
            // Nothing has changed between the two.
            assert_eq!(
                learned(&[set(200), set(200)]).read(&set(199), None, quotas(set), 0),
                None
            );
        }
    }

    #[test]
    fn more_than_remained_before_is_parsed_in_full() {
        let mut history = learned(&[didit(200), didit(190)]);

        assert_eq!(history.read(&didit(191), None, 1, 0), None);
        assert_eq!(history.read(&didit(192), None, 1, 2), Some(192));
        // The least that was seen counts.
        assert_eq!(history.read(&didit(193), None, 1, 2), None);
    }

    #[test]
    fn any_other_difference_is_parsed_in_full() {
        let changed: [fn(&mut HeaderMap); 8] = [
            |headers| set(headers, "x-ratelimit-reset", "61"),
            |headers| set(headers, "x-ratelimit-limit", "301"),
            |headers| set(headers, "x-ratelimit-remaining", "-1"),
            |headers| set(headers, "x-ratelimit-remaining", "1e2"),
            |headers| set(headers, "x-ratelimit-remaining", "99999999999999999999"),
            |headers| set(headers, "retry-after", "1"),
            |headers| set(headers, "age", "5"),
            |headers| drop(headers.remove("x-ratelimit-reset")),
        ];
        for change in changed {
            let mut headers = didit(100);
            change(&mut headers);

            let mut history = learned(&[didit(200), didit(199)]);
            assert_eq!(history.read(&headers, None, 1, 0), None, "{headers:?}");
        }
    }

    fn set(headers: &mut HeaderMap, name: &'static str, value: &'static str) {
        headers.insert(name, HeaderValue::from_static(value));
    }

    #[test]
    fn fields_that_are_not_about_limits_may_come_and_go() {
        let mut history = learned(&[didit(200), didit(199)]);
        let headers = response(&[
            ("set-cookie", "remaining=1".into()),
            ("x-ratelimit-limit", "300".into()),
            ("content-length", "7".into()),
            ("x-ratelimit-remaining", "150".into()),
            ("x-ratelimit-reset", "60".into()),
        ]);

        assert_eq!(history.read(&headers, None, 1, 0), Some(150));
    }

    #[test]
    fn what_is_used_must_fit_what_remains() {
        let mut history = learned(&[github(4000), github(3999)]);
        let mut headers = github(3000);
        set(&mut headers, "x-ratelimit-used", "7");

        assert_eq!(history.read(&headers, None, 1, 0), None);
    }

    #[test]
    fn a_quota_of_another_unit_or_a_wait_ends_the_template() {
        let mut history = learned(&[didit(200), didit(199)]);
        let mut headers = didit(198);
        set(&mut headers, "x-ratelimit-limit-tokens", "100");
        set(&mut headers, "x-ratelimit-remaining-tokens", "10");
        let info = read(StatusCode::OK, &headers, SystemTime::UNIX_EPOCH);

        history.learn(&headers, None, &info);

        assert_eq!(history.read(&didit(197), None, 1, 0), None);
    }

    #[test]
    fn a_countdown_is_learned_again_once_it_pauses() {
        let with_reset = |remaining, reset: &'static str| {
            let mut headers = didit(remaining);
            set(&mut headers, "x-ratelimit-reset", reset);
            headers
        };
        let mut history = learned(&[with_reset(200, "60"), with_reset(199, "59")]);
        assert_eq!(history.read(&with_reset(198, "59"), None, 1, 0), None);

        let headers = with_reset(198, "59");
        let info = read(StatusCode::OK, &headers, SystemTime::UNIX_EPOCH);
        history.learn(&headers, None, &info);

        assert_eq!(history.read(&with_reset(197, "59"), None, 1, 0), Some(197));
    }
}
