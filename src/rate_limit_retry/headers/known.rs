//! What the fields of a response are about, by their names and the profile.

use http::HeaderMap;

use super::{
    Field, Profile,
    name::{Dimension, Meaning, Name},
    profile::unmistakable,
};

/// What a field is about, by its name and the profile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) family: &'a str,
    pub(super) dimension: Dimension<'a>,
    pub(super) field: Field,
    pub(super) scale: Option<u64>,
    pub(super) is_compound: bool,
}

impl<'a> Known<'a> {
    pub(super) fn of(name: &'a str, told: Option<Field>) -> Option<Self> {
        let own = told.or_else(|| unmistakable(name));
        let parsed = Name::parse(name);
        let known = |name: Name<'a>, field| Self {
            family: name.family,
            dimension: name.meaning.dimension,
            field,
            scale: name.meaning.scale,
            is_compound: name.meaning.is_compound,
        };
        if own.is_none()
            && parsed.is_none_or(|name| name.family.is_empty())
            && let Some(wait) = Meaning::wait(name)
        {
            return Some(Self {
                family: name,
                dimension: Dimension::default(),
                field: Field::RetryAfter,
                scale: wait.scale,
                is_compound: false,
            });
        }
        match (own, parsed) {
            (None, None) => None,
            (None, Some(parsed)) => Some(known(parsed, parsed.meaning.field)),
            // A profile knows the unit, too.
            (Some(field), Some(parsed)) if !parsed.family.is_empty() => Some(Self {
                scale: None,
                ..known(parsed, field)
            }),
            (Some(field), _) => Some(Self {
                // What a profile names by itself is about one quota.
                family: if told.is_some() { PROFILE } else { name },
                dimension: Dimension::default(),
                field,
                scale: None,
                is_compound: false,
            }),
        }
    }
}

/// The fields that are about limits, with what a profile says of them, as far as they are read.
pub(super) fn fields<'a>(
    headers: &'a HeaderMap,
    profile: Option<&'a dyn Profile>,
) -> impl Iterator<Item = (&'a str, &'a [u8], Option<Field>)> {
    let fields = headers.iter().filter_map(move |(name, value)| {
        let (name, value) = (name.as_str(), value.as_bytes());
        let told = profile.and_then(|profile| profile.field(name));
        let counts = told.is_some() || super::is_about_limits(name) || super::may_belong(name);
        (counts && value.len() <= MOST_BYTES).then(|| (name, value.trim_ascii(), told))
    });
    fields.take(MOST_FIELDS)
}

/// The family of fields that only a profile knows.
const PROFILE: &str = "profile";
/// Maximum number of field lines about limits in a response; further lines are ignored.
const MOST_FIELDS: usize = 256;
/// Maximum length of a value; a longer field is ignored.
const MOST_BYTES: usize = 4096;
