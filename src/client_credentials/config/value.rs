//! Deserializes one value of a configuration. Errors never contain the value.
//!
//! Variables contain only text, and formats differ in their types. So each requested type accepts its own
//! representation and a text: `30` and `"30"`, `true` and `"true"`, a list and a single text.
//!
//! | type in the schema | accepted |
//! |---|---|
//! | text | a string |
//! | list of texts | a list of strings, or one string |
//! | number, seconds | a whole number, or a string with one |
//! | boolean | a boolean, or `"true"` or `"false"` |
//! | variant | the name of a variant |
//! | table of texts | a table, or a string with a JSON object |
//! | any JSON | any value, or a string with JSON |

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{
        self, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::client_credentials::trim::{is_empty, trimmed};

/// The value of a key. Variables contain only text, so a text is accepted for a value of any type.
///
/// Implements serde's `Deserializer` for the types of the schema alone. Any other type is read as JSON.
pub(super) struct Value<'a> {
    /// The value as read.
    pub(super) json: Json,
    /// Set to `true` when line breaks, byte order marks or NUL characters are removed from the ends of a text.
    pub(super) trimmed: &'a Cell<bool>,
}

impl Value<'_> {
    /// Returns the text, trimmed at both ends.
    ///
    /// # Errors
    ///
    /// If the value is not a string. A number is not converted, because its text form is ambiguous: `007` or `1e3`.
    fn text(self) -> Result<String, Invalid> {
        let Json::String(text) = self.json else {
            return Err(invalid("is not a string; put it in quotes"));
        };
        let trimmed_text = trimmed(&text);
        if trimmed_text.len() == text.len() {
            return Ok(text);
        }
        self.trimmed.set(true);
        let trimmed_text = trimmed_text.to_owned();
        // The text may be a secret: the untrimmed copy is zeroized.
        drop(Zeroizing::new(text));
        Ok(trimmed_text)
    }

    /// Returns the value itself, or the JSON that its text contains.
    fn parse(self) -> Result<Json, Invalid> {
        match self.json {
            Json::String(text) => {
                serde_json::from_str(trimmed(&text)).map_err(|_| invalid("is not valid JSON"))
            }
            json => Ok(json),
        }
    }

    /// Returns the number that the value is or that its text contains.
    fn number(&self) -> Option<u32> {
        match &self.json {
            Json::String(text) => trimmed(text).trim().parse().ok(),
            json => json.as_u64().and_then(|number| number.try_into().ok()),
        }
    }
}

/// Returns whether `json` counts as not set: null, or an empty text.
///
/// An unset variable is often passed on as an empty one, for example by Compose or Kubernetes.
pub(super) fn is_unset(json: &Json) -> bool {
    json.is_null() || json.as_str().is_some_and(is_empty)
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Invalid;

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        visitor.visit_some(self)
    }

    /// Accepts a boolean, or the text `true` or `false`.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        let yes = match &self.json {
            Json::String(text) => trimmed(text).parse().ok(),
            json => json.as_bool(),
        };
        visitor.visit_bool(yes.ok_or_else(|| invalid("is neither true nor false"))?)
    }

    /// Accepts a number, or a text that contains one.
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        let number = self.number();
        visitor.visit_u32(number.ok_or_else(|| invalid("is not a whole number"))?)
    }

    /// Accepts a whole number of seconds. The only structure in the schema is `Duration`, which serde reads as seconds
    /// and nanoseconds.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        let problem = "is not a whole number of seconds, such as 30";
        let seconds = self.number().ok_or_else(|| invalid(problem))?;
        // The two fields of a `Duration` in serde's format: seconds and nanoseconds.
        visitor.visit_seq(SeqDeserializer::new([seconds, 0].into_iter()))
    }

    /// Accepts a text.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        visitor.visit_string(self.text()?)
    }

    /// Accepts the name of a variant.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    /// Accepts one text or a list of texts.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        let trimmed = self.trimmed;
        let list = match self.json {
            Json::Array(list) => list,
            json => vec![json],
        };
        let texts = list.into_iter().map(|json| Value { json, trimmed }.text());
        let texts: Result<Vec<_>, _> = texts.collect();
        let texts = texts.map_err(|_| invalid("is not a string or a list of strings"))?;
        visitor.visit_seq(SeqDeserializer::new(texts.into_iter()))
    }

    /// Accepts a table of texts, or a text that contains one as JSON.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        let trimmed = self.trimmed;
        let Json::Object(members) = self.parse()? else {
            return Err(invalid("is not a table whose values are strings"));
        };
        let texts = members.into_iter();
        let texts = texts.map(|(name, json)| Ok((name, Value { json, trimmed }.text()?)));
        let texts: Result<Vec<_>, Invalid> = texts.collect();
        let problem = "contains a value that is not a string; put it in quotes";
        let texts = texts.map_err(|_| invalid(problem))?;
        visitor.visit_map(MapDeserializer::new(texts.into_iter()))
    }

    /// Accepts any JSON, or a text that contains JSON.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        let read = self.parse()?.deserialize_any(visitor);
        read.map_err(|_| invalid("has the wrong type"))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// Problem with a value or with the name of a key. Replaces serde's own errors, which contain the value.
///
/// The reason why the schema is not read with serde's own errors: those quote the value, which may be a secret that was
/// put under the wrong key.
#[derive(Debug)]
pub(super) struct Invalid {
    /// Message, without the name of the key.
    pub(super) text: String,
    /// Known names, if the problem is an unknown one. Empty otherwise.
    pub(super) known: &'static [&'static str],
}

/// Creates a problem with a message.
fn invalid(text: impl Into<String>) -> Invalid {
    let text = text.into();
    Invalid { text, known: &[] }
}

impl de::Error for Invalid {
    fn custom<T: fmt::Display>(text: T) -> Self {
        invalid(text.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        invalid(format!("is not {expected}"))
    }

    /// Ignores the unexpected value, which may be a secret.
    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    /// Ignores the unknown variant, which may be a secret.
    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        invalid(format!("is not one of {}", known.join(", ")))
    }

    /// Shows only the part of the name that could belong to a key, because a line such as `client_secret=…` may be
    /// given as a name.
    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        let of_key = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let excerpt: String = name.chars().take_while(of_key).take(MAX_SHOWN).collect();
        let more = if excerpt == name { "" } else { "…" };
        let remedy = match nearest(&name.to_ascii_lowercase(), known) {
            Some(key) => format!("did you mean {key}?"),
            None => "remove it (`tower_m2m::docs::configuration` lists them all)".to_owned(),
        };
        let text = format!("{excerpt}{more} is not a known key; {remedy}");
        Self { text, known }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Invalid {}

/// Returns the key that `name` may be a misspelling of. Only keys with the same first letter are considered.
///
/// A misspelled first letter is rare, and this condition avoids suggestions for unrelated variables.
///
/// Ties are broken by the alphabet, so that an error is the same in each run.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let first = name.chars().next()?;
    let similar = known.iter().filter(|key| key.starts_with(first));
    let (distance, key) = similar.map(|key| (distance(key, name), *key)).min()?;
    // A short key tolerates one edit, so that a different short word does not match.
    let allowed = if key.len() < 8 { 1 } else { 2 };
    (distance <= allowed).then_some(key)
}

/// Returns the edit distance (Levenshtein): the number of bytes to insert, remove or replace.
///
/// Uses a single row of the table.
///
/// O(|one| · |other|) time. `other` may be any name from the environment, whose length the system bounds.
fn distance(one: &str, other: &str) -> usize {
    // Invariant: `row[j]` is the distance between the bytes of `one` read so far and the first `j` bytes of `other`.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// Maximum number of characters of an unknown key that an error shows.
const MAX_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use serde::de::Error;

    use super::{super::schema::names, *};

    #[test]
    fn a_misspelling_is_recognized_and_another_word_is_not() {
        for (name, meant) in [
            ("client_sceret", Some("client_secret")),
            ("scopes", Some("scope")),
            ("token_uri", Some("token_url")),
            ("allowed_origin", Some("allowed_origins")),
            ("client_id", Some("client_id")),
            ("a_client_id", None),
            ("port", None),
            ("service_host", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names()), meant, "{name}");
        }
    }

    #[test]
    fn no_error_of_serde_shows_a_value() {
        for error in [
            Invalid::invalid_type(Unexpected::Str("canary"), &"a number"),
            Invalid::invalid_value(Unexpected::Str("canary"), &"a number"),
            Invalid::unknown_variant("canary", &["a", "b"]),
            Invalid::unknown_field("client=canary", &["a", "b"]),
        ] {
            assert!(!error.text.contains("canary"), "{error}");
        }
    }
}
