//! The meaning of a response's fields, from their names and the profile.
//!
//! The same name always resolves to the same meaning: fields are resolved again when lists are read, and both passes
//! have to agree on the quota.

use http::HeaderMap;

use super::{
    Field, HeaderProfile,
    name::{Dimension, Meaning, Name},
    profile::vendor_field,
};

/// The meaning of a field, from its name and the profile.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResolvedField<'a> {
    /// Prefix that fields of the same family share.
    pub(super) family: &'a str,
    /// Words that distinguish the quota within its family.
    pub(super) dimension: Dimension<'a>,
    /// What the value describes.
    pub(super) field: Field,
    /// Unit of the value in nanoseconds, if the name gives one.
    pub(super) scale: Option<u64>,
    /// Whether the name contains the word `limit` or `quota` in addition to its role.
    pub(super) is_compound: bool,
}

impl<'a> ResolvedField<'a> {
    /// Returns the meaning of a field; `None` if it is not about limits. `declared` is the meaning that the
    /// profile gives.
    ///
    /// In order of precedence:
    ///
    /// - the profile's meaning;
    /// - the meaning of an unambiguous name, such as `x-sentry-rate-limits`;
    /// - a wait in the name, for names without a rate-limit prefix;
    /// - the words of the name.
    ///
    /// If the name has a rate-limit prefix, the profile or the table provides only the field. Family and dimension
    /// still follow from the name.
    pub(super) fn resolve(name: &'a str, declared: Option<Field>) -> Option<Self> {
        let own = declared.or_else(|| vendor_field(name));
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
            && let Some(wait) = Meaning::parse_wait(name)
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
            // The meaning that a profile gives includes the unit.
            (Some(field), Some(parsed)) if !parsed.family.is_empty() => Some(Self {
                scale: None,
                ..known(parsed, field)
            }),
            (Some(field), _) => Some(Self {
                // All fields that only a profile recognizes describe one quota.
                family: if declared.is_some() {
                    PROFILE_FAMILY
                } else {
                    name
                },
                dimension: Dimension::default(),
                field,
                scale: None,
                is_compound: false,
            }),
        }
    }
}

/// Returns the name, the value and the profile's meaning of each field that may be about limits. At most
/// [`MAX_FIELDS`] fields; omits values longer than [`MAX_VALUE_LEN`].
pub(super) fn fields<'a>(
    headers: &'a HeaderMap,
    profile: Option<&'a dyn HeaderProfile>,
) -> impl Iterator<Item = (&'a str, &'a [u8], Option<Field>)> {
    let fields = headers.iter().filter_map(move |(name, value)| {
        let (name, value) = (name.as_str(), value.as_bytes());
        let declared = profile.and_then(|profile| profile.field(name));
        let counts =
            declared.is_some() || super::is_limit_field(name) || super::is_companion_field(name);
        (counts && value.len() <= MAX_VALUE_LEN).then(|| (name, value.trim_ascii(), declared))
    });
    fields.take(MAX_FIELDS)
}

/// Family of the fields that only a profile recognizes.
const PROFILE_FAMILY: &str = "profile";
/// Maximum number of field lines about limits in a response. Further lines are ignored.
const MAX_FIELDS: usize = 256;
/// Maximum length of a value, in bytes. A longer value is ignored.
const MAX_VALUE_LEN: usize = 4096;
