//! What a header field is about, by its name alone.

use std::fmt;

use super::{
    field::Field,
    words::{Role, glued, is_article, is_filler, is_one_of, is_refill, parts, scale_of, window_of},
};

use crate::steps::examined;

/// A field of the rate-limit families: `x-ratelimit-remaining-tokens` is how many *tokens* remain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Name<'a> {
    /// Up to and with `ratelimit`: fields of one family describe each other. Empty if the name does not say that it is
    /// about a rate limit, so that it counts only together with others.
    pub(super) family: &'a str,
    pub(super) meaning: Meaning<'a>,
}

/// What a name, or a key in a value, says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Meaning<'a> {
    /// What is counted, or how the server calls the quota; empty if the family has but one.
    pub(super) dimension: Dimension<'a>,
    pub(super) field: Field,
    /// The nanoseconds of the unit that the name gives for a wait, a reset or a window.
    pub(super) scale: Option<u64>,
    /// Whether the name has the word `limit` or `quota` besides its role: `limit-remaining`.
    pub(super) is_compound: bool,
}

/// The words that a quota is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Dimension<'a> {
    words: [&'a str; MOST_WORDS],
    count: usize,
}

impl<'a> Name<'a> {
    /// `name` in lower case; `None` if it is not about limits, or longer than names are.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        if name.len() > LONGEST_NAME {
            return None;
        }
        let Some((family, rest)) = end_of_family(name).and_then(|end| name.split_at_checked(end))
        else {
            return Self::weak(name);
        };
        let rest = rest.strip_prefix('s').unwrap_or(rest);
        // Not `ratelimited`.
        if !rest.is_empty() && !rest.starts_with(['-', '_']) {
            return None;
        }
        let meaning = match Meaning::parse(rest)? {
            (meaning, Some(_)) => meaning,
            (meaning, None) => Meaning {
                field: Field::Whole,
                ..meaning
            },
        };
        Some(Self { family, meaning })
    }

    /// A name that only says limit, remaining or reset.
    fn weak(name: &'a str) -> Option<Self> {
        let name = name.strip_prefix("x-").unwrap_or(name);
        let (meaning, role) = Meaning::parse(name)?;
        let role = role.filter(|role| !matches!(role, Role::Name | Role::Policy | Role::Wait));
        role.filter(|_| !meaning.dimension.words().any(is_of_something_else))?;
        Some(Self {
            family: "",
            meaning,
        })
    }
}

impl<'a> Meaning<'a> {
    /// Splits what a name says from what it says it of: `limit-requests`, `requests-limit`, `concurrentlimit`. `None`
    /// if it has more words than names have.
    pub(super) fn parse(name: &'a str) -> Option<(Self, Option<Role>)> {
        examined(name.len());
        let mut words = Words::default();
        for word in parts(name) {
            words.push(word)?;
        }
        let (at, role) = words.role();
        let mut meaning = Self {
            dimension: Dimension::default(),
            field: role.map_or(Field::Whole, Role::field),
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

    /// The wait that `name` asks for, wherever it says so: `retry-after`, `x-write-retryafter-ms`, `retry-after-long`.
    pub(super) fn wait(name: &'a str) -> Option<Self> {
        if name.len() > LONGEST_NAME {
            return None;
        }
        let mut retries = name.as_bytes().windows(RETRY.len()).enumerate();
        let rest = retries.find_map(|(at, part)| (part == RETRY).then(|| name.get(at..))?)?;
        let (meaning, role) = Self::parse(rest)?;
        (role == Some(Role::Wait)).then_some(meaning)
    }
}

/// The words of one name, with the roles of those that have one.
#[derive(Default)]
struct Words<'a> {
    list: [(&'a str, Option<Role>); MOST_WORDS],
    count: usize,
}

impl<'a> Words<'a> {
    fn push(&mut self, word: &'a str) -> Option<()> {
        let mut role = Role::of(word);
        if role.is_none()
            && let Some((head, tail)) = glued(word)
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
            // How much of the limit is left.
            role = Some(Role::Remaining);
        }
        *self.list.get_mut(self.count)? = (word, role);
        self.count += 1;
        Some(())
    }

    /// The role that the whole name has, and the word that says so.
    fn role(&self) -> (Option<usize>, Option<Role>) {
        let all = &self.list[..self.count];
        let last = self.count.saturating_sub(1);
        let roles = all.iter().enumerate().filter_map(|(at, (_, role))| {
            let role = (*role)?;
            // Anywhere else they are about the quota itself.
            let counts = !matches!(role, Role::Name | Role::Policy) || at == last;
            counts.then_some((at, role))
        });
        let strength = |at: usize, role: Role| match (role, all[at].0) {
            // A bare number of something: `limit-count`, `count-limit`.
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
    pub(super) fn push(&mut self, word: &'a str) -> Option<()> {
        *self.words.get_mut(self.count)? = word;
        self.count += 1;
        Some(())
    }

    /// These words, and those of another.
    pub(super) fn and(mut self, other: Self) -> Option<Self> {
        for word in other.words() {
            self.push(word)?;
        }
        Some(self)
    }

    /// Whether these words begin with those of `other`.
    pub(super) fn starts_with(&self, other: &Dimension<'_>) -> bool {
        let same = self
            .words()
            .zip(other.words())
            .all(|(own, other)| own == other);
        same && self.count >= other.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.words.iter().take(self.count).copied()
    }

    /// The seconds of the window that the words name.
    pub(super) fn window(&self) -> Option<u64> {
        window_of(self.words())
    }

    /// Whether a word says that calls are counted, where no other word does.
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

/// Whether a word only describes the role of the name; `after` is the word with the role, if that comes next.
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

/// Where the first `ratelimit`, `rate-limit` or `rate_limit` ends.
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

/// Whether a limit, or what remains, is that of a page of results, or of a store.
fn is_of_something_else(word: &str) -> bool {
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

const LIMIT: &[u8] = b"limit";
const RETRY: &[u8] = b"retry";
/// Maximum number of words in a name that is read.
const MOST_WORDS: usize = 8;
/// Maximum length of a name that is read.
const LONGEST_NAME: usize = 128;

#[cfg(test)]
mod tests;
