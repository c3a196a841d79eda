//! The meaning of a header field, from its name alone.
//!
//! | name | family | dimension | field |
//! |---|---|---|---|
//! | `x-ratelimit-remaining-tokens` | `x-ratelimit` | `tokens` | remaining |
//! | `x-rate-limit-limit` | `x-rate-limit` | | limit |
//! | `ratelimit-reset-ms` | `ratelimit` | | reset, in milliseconds |
//! | `x-ratelimit` | `x-ratelimit` | | complete description |
//! | `x-acme-remaining` | | `acme` | remaining |
//!
//! A name is split into words. One of them has the role that determines the field. A word may give the unit. Articles
//! and fillers are skipped, and the other words are the dimension.
//!
//! # Strong and weak names
//!
//! A name with `ratelimit` in it is about a rate limit. A name with only `limit`, `remaining` or `reset` may be about a
//! page of results or a disk. Such a weak name has an empty family; words such as `page` or `storage` exclude it, and
//! it counts only if several fields together describe a quota
//! ([`is_credible`](super::quota_fields::QuotaFields::is_credible)).
//!
//! # Bounds
//!
//! Names are borrowed, and words are kept in arrays on the stack: parsing allocates nothing. A name with more than
//! [`MAX_WORDS`] words or [`MAX_NAME_LEN`] bytes is not about limits.

use std::fmt;

use super::{
    field::Field,
    words::{
        Role, is_article, is_filler, is_one_of, is_refill, parts, scale_of, split_compound,
        window_of,
    },
};

use crate::steps::count_steps;

/// The name of a field about limits: `x-ratelimit-remaining-tokens` is the number of remaining *tokens*.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Name<'a> {
    /// The name up to and including `ratelimit`; fields of one family describe each other. Empty if the name does not
    /// mention a rate limit: such a field counts only together with others.
    pub(super) family: &'a str,
    /// The meaning of the rest of the name.
    pub(super) meaning: Meaning<'a>,
}

/// The meaning of a field name, or of a key in a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Meaning<'a> {
    /// What is counted, or the server's name for the quota. Empty if the family has only one.
    pub(super) dimension: Dimension<'a>,
    /// What the value describes.
    pub(super) field: Field,
    /// Nanoseconds of the unit that the name gives for a wait, a reset or a window.
    pub(super) scale: Option<u64>,
    /// Whether the name contains the word `limit` or `quota` in addition to its role: `limit-remaining`.
    pub(super) is_compound: bool,
}

/// The words that identify a quota. Two fields of one family with equal dimensions describe the same quota.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Dimension<'a> {
    /// The words; only the first `count` are used.
    words: [&'a str; MAX_WORDS],
    /// Number of words.
    count: usize,
}

impl<'a> Name<'a> {
    /// Parses a name in lower case. Returns `None` if it is not about limits or is longer than [`MAX_NAME_LEN`].
    ///
    /// With a rate-limit prefix, a name without a role is a complete description.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        if name.len() > MAX_NAME_LEN {
            return None;
        }
        let Some((family, rest)) = end_of_family(name).and_then(|end| name.split_at_checked(end))
        else {
            return Self::parse_weak(name);
        };
        let rest = rest.strip_prefix('s').unwrap_or(rest);
        // Excludes `ratelimited`.
        if !rest.is_empty() && !rest.starts_with(['-', '_']) {
            return None;
        }
        let meaning = match Meaning::parse(rest)? {
            (meaning, Some(_)) => meaning,
            (meaning, None) => Meaning {
                field: Field::Combined,
                ..meaning
            },
        };
        Some(Self { family, meaning })
    }

    /// Parses a name that contains only a word such as limit, remaining or reset, without a rate-limit prefix.
    fn parse_weak(name: &'a str) -> Option<Self> {
        let name = name.strip_prefix("x-").unwrap_or(name);
        let (meaning, role) = Meaning::parse(name)?;
        let role = role.filter(|role| !matches!(role, Role::Name | Role::Policy | Role::Wait));
        role.filter(|_| !meaning.dimension.words().any(is_unrelated))?;
        Some(Self {
            family: "",
            meaning,
        })
    }
}

impl<'a> Meaning<'a> {
    /// Separates the role of a name from its dimension: `limit-requests`, `requests-limit`, `concurrentlimit`.
    /// Returns `None` if it has more than [`MAX_WORDS`] words.
    ///
    /// | name | dimension | field | scale |
    /// |---|---|---|---|
    /// | `limit-requests`, `requests-limit` | `requests` | limit | |
    /// | `limit-per-minute` | `minute` | limit | |
    /// | `limit-remaining` | | remaining | |
    /// | `reset-ms` | | reset | milliseconds |
    /// | `seconds-remaining` | | reset | seconds |
    pub(super) fn parse(name: &'a str) -> Option<(Self, Option<Role>)> {
        count_steps(name.len());
        let mut words = Words::default();
        for word in parts(name) {
            words.push(word)?;
        }
        let (at, role) = words.role();
        let mut meaning = Self {
            dimension: Dimension::default(),
            field: role.map_or(Field::Combined, Role::field),
            scale: None,
            is_compound: false,
        };
        let all = words.list.get(..words.count)?;
        for (index, (word, own)) in all.iter().enumerate() {
            let is_noun = *own == Some(Role::Limit) && is_one_of(word, &["limit", "quota"]);
            let before = index.checked_sub(1).map_or("", |before| all[before].0);
            let numbered = before.bytes().all(|byte| byte.is_ascii_digit()) && !before.is_empty();
            if Some(index) == at {
                continue;
            }
            if is_noun && role.is_some() {
                meaning.is_compound = true;
            } else if role.is_some_and(Role::is_time)
                && let (Some(scale), false) = (scale_of(word), numbered)
            {
                meaning.scale = Some(scale);
            } else if role.is_none_or(|role| {
                let after = all.get(index + 1).filter(|_| at == Some(index + 1));
                !is_part_of_role(word, role, after.map_or("", |after| after.0))
            }) {
                let today = word.eq_ignore_ascii_case("today");
                meaning.dimension.push(if today { "day" } else { word })?;
            }
        }
        Some((meaning, role))
    }

    /// Returns the meaning of a name that contains a wait at any position: `retry-after`, `x-write-retryafter-ms`,
    /// `retry-after-long`.
    pub(super) fn parse_wait(name: &'a str) -> Option<Self> {
        if name.len() > MAX_NAME_LEN {
            return None;
        }
        let mut retries = name.as_bytes().windows(RETRY.len()).enumerate();
        let rest = retries.find_map(|(at, part)| (part == RETRY).then(|| name.get(at..))?)?;
        let (meaning, role) = Self::parse(rest)?;
        (role == Some(Role::Wait)).then_some(meaning)
    }
}

/// The words of one name, with their roles.
#[derive(Default)]
struct Words<'a> {
    /// The words; only the first `count` are used.
    list: [(&'a str, Option<Role>); MAX_WORDS],
    /// Number of words.
    count: usize,
}

impl<'a> Words<'a> {
    /// Adds a word, or the two parts of a compound word. Returns `None` if there is no room.
    ///
    /// Some roles depend on the word before: `after` is a wait only after `retry`, and `status` is a remaining count
    /// only after `limit`.
    fn push(&mut self, word: &'a str) -> Option<()> {
        let mut role = Role::of(word);
        if role.is_none()
            && let Some((head, tail)) = split_compound(word)
        {
            self.push(head)?;
            return self.push(tail);
        }
        let before = self
            .count
            .checked_sub(1)
            .map_or("", |last| self.list[last].0);
        let is_wait =
            before.eq_ignore_ascii_case("retry") && is_one_of(word, &["after", "in", "at"]);
        if is_wait {
            role = Some(Role::Wait);
        } else if word.eq_ignore_ascii_case("rate") && is_refill(before) {
            role = Some(Role::Refill);
        } else if word == "status" && before == "limit" {
            // `limit-status` is a remaining count.
            role = Some(Role::Remaining);
        }
        *self.list.get_mut(self.count)? = (word, role);
        self.count += 1;
        Some(())
    }

    /// Returns the role of the whole name, and the index of the word that determines it.
    ///
    /// The strongest role applies, and of equally strong ones the last. A remaining count in a unit of time is a
    /// reset: `seconds-remaining`.
    fn role(&self) -> (Option<usize>, Option<Role>) {
        let all = &self.list[..self.count];
        let last = self.count.saturating_sub(1);
        let roles = all.iter().enumerate().filter_map(|(at, (_, role))| {
            let role = (*role)?;
            // At any other position, these words describe the quota itself.
            let counts = !matches!(role, Role::Name | Role::Policy) || at == last;
            counts.then_some((at, role))
        });
        let strength = |at: usize, role: Role| match (role, all[at].0) {
            // `limit-count` and `count-limit`: "count" adds no meaning.
            (Role::Used, "count") => 0,
            _ => role.strength(),
        };
        let Some((at, role)) = roles.max_by_key(|(at, role)| (strength(*at, *role), *at)) else {
            return (None, None);
        };
        let is_duration = role == Role::Remaining
            && all.iter().enumerate().any(|(at, (word, _))| {
                let before = at.checked_sub(1).map_or("", |before| all[before].0);
                let numbered = before.bytes().any(|byte| byte.is_ascii_digit());
                !numbered
                    && (word.eq_ignore_ascii_case("time")
                        || scale_of(word).is_some_and(|_| *word != "s"))
            });
        (Some(at), Some(if is_duration { Role::Reset } else { role }))
    }
}

impl<'a> Dimension<'a> {
    /// Adds a word. Returns `None` if there is no room.
    pub(super) fn push(&mut self, word: &'a str) -> Option<()> {
        *self.words.get_mut(self.count)? = word;
        self.count += 1;
        Some(())
    }

    /// Returns these words followed by those of `other`. Returns `None` if there is no room.
    pub(super) fn concat(mut self, other: Self) -> Option<Self> {
        for word in other.words() {
            self.push(word)?;
        }
        Some(self)
    }

    /// Returns whether these words begin with those of `other`.
    pub(super) fn starts_with(&self, other: &Dimension<'_>) -> bool {
        let same = self
            .words()
            .zip(other.words())
            .all(|(own, other)| own == other);
        same && self.count >= other.count
    }

    /// Returns whether there are no words.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the words, in order.
    pub(super) fn words(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.words.iter().take(self.count).copied()
    }

    /// Returns the seconds of the window that the words describe.
    pub(super) fn window(&self) -> Option<u64> {
        window_of(self.words())
    }

    /// Returns whether a word indicates that requests are counted.
    pub(super) fn counts_requests(&self) -> bool {
        self.words().flat_map(parts).any(|word| {
            matches!(
                word,
                "request" | "requests" | "req" | "call" | "calls" | "api" | "rate" | "throttle"
            )
        })
    }
}

impl fmt::Display for Dimension<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.words().enumerate() {
            if at > 0 {
                f.write_str("-")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

/// Returns whether a word only describes the role of the name. `after` is the next word if that determines the role,
/// and otherwise empty.
fn is_part_of_role(word: &str, role: Role, after: &str) -> bool {
    let of_the_role = match role {
        Role::Wait => word.eq_ignore_ascii_case("retry"),
        Role::Refill => is_refill(word) || word.eq_ignore_ascii_case("rate"),
        Role::Limit => {
            after.eq_ignore_ascii_case("capacity") && is_one_of(word, &["burst", "bucket"])
        }
        _ => false,
    };
    of_the_role
        || is_article(word)
        || is_one_of(word, &["count", "number"])
        || (role.is_time() && is_filler(word))
}

/// Returns the end of the first `ratelimit`, `rate-limit` or `rate_limit`.
fn end_of_family(name: &str) -> Option<usize> {
    let name = name.as_bytes();
    let mut limits = name.windows(LIMIT.len()).enumerate();
    let at = limits.find_map(|(at, part)| {
        if part != LIMIT {
            return None;
        }
        let before = &name[..at];
        let separated = before.strip_suffix(b"-").or(before.strip_suffix(b"_"));
        separated.unwrap_or(before).ends_with(b"rate").then_some(at)
    });
    Some(at? + LIMIT.len())
}

/// Returns whether the word indicates that a limit or a remaining count belongs to something else, such as a page of
/// results or a store.
fn is_unrelated(word: &str) -> bool {
    matches!(
        word,
        "page"
            | "pages"
            | "paging"
            | "pagination"
            | "offset"
            | "cursor"
            | "result"
            | "results"
            | "item"
            | "items"
            | "record"
            | "records"
            | "row"
            | "rows"
            | "list"
            | "total"
            | "content"
            | "body"
            | "upload"
            | "download"
            | "file"
            | "files"
            | "storage"
            | "disk"
            | "memory"
            | "cpu"
            | "length"
            | "depth"
            | "header"
            | "headers"
            | "password"
            | "session"
            | "cache"
            | "age"
    )
}

/// The second half of a rate-limit prefix.
const LIMIT: &[u8] = b"limit";
/// The beginning of a wait.
const RETRY: &[u8] = b"retry";
/// Maximum number of words in a name.
const MAX_WORDS: usize = 8;
/// Maximum length of a name, in bytes.
const MAX_NAME_LEN: usize = 128;

#[cfg(test)]
mod tests;
