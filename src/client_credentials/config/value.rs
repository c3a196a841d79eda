//! Deserializes one value of a configuration, and reports mistakes without showing it.

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

/// The value of a key. Variables hold texts only, so a text may stand for a value of any type.
pub(super) struct Value<'a> {
    pub(super) json: Json,
    /// Set when line breaks or marks are removed from the ends of a text.
    pub(super) trimmed: &'a Cell<bool>,
}

impl Value<'_> {
    /// Without line breaks and marks at its ends.
    fn text(self) -> Result<String, Invalid> {
        let Json::String(text) = self.json else {
            return Err(invalid("is not a string; put it in quotes"));
        };
        let kept = trimmed(&text);
        if kept.len() == text.len() {
            return Ok(text);
        }
        self.trimmed.set(true);
        let kept = kept.to_owned();
        // It may be a secret.
        drop(Zeroizing::new(text));
        Ok(kept)
    }

    /// The value itself, or what its text holds as JSON.
    fn parse(self) -> Result<Json, Invalid> {
        match self.json {
            Json::String(text) => {
                serde_json::from_str(trimmed(&text)).map_err(|_| invalid("is not valid JSON"))
            }
            json => Ok(json),
        }
    }

    fn number(&self) -> Option<u32> {
        match &self.json {
            Json::String(text) => trimmed(text).trim().parse().ok(),
            json => json.as_u64().and_then(|number| number.try_into().ok()),
        }
    }
}

/// Whether `json` counts as not set.
pub(super) fn is_unset(json: &Json) -> bool {
    json.is_null() || json.as_str().is_some_and(is_empty)
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Invalid;

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        let yes = match &self.json {
            Json::String(text) => trimmed(text).parse().ok(),
            json => json.as_bool(),
        };
        visitor.visit_bool(yes.ok_or_else(|| invalid("is neither true nor false"))?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        let number = self.number();
        visitor.visit_u32(number.ok_or_else(|| invalid("is not a whole number"))?)
    }

    /// A `Duration`, which is the only structure among the values: a whole number of seconds.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        let problem = "is not a whole number of seconds, such as 30";
        let seconds = self.number().ok_or_else(|| invalid(problem))?;
        visitor.visit_seq(SeqDeserializer::new([seconds, 0].into_iter()))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    /// One text, or a list of texts.
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

    /// A table of texts, or a text that holds it as JSON.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        let trimmed = self.trimmed;
        let Json::Object(members) = self.parse()? else {
            return Err(invalid("is not a table of strings by name"));
        };
        let texts = members.into_iter();
        let texts = texts.map(|(name, json)| Ok((name, Value { json, trimmed }.text()?)));
        let texts: Result<Vec<_>, Invalid> = texts.collect();
        let problem = "holds a value that is not a string; put it in quotes";
        let texts = texts.map_err(|_| invalid(problem))?;
        visitor.visit_map(MapDeserializer::new(texts.into_iter()))
    }

    /// Any JSON, or a text that holds it.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        let read = self.parse()?.deserialize_any(visitor);
        read.map_err(|_| invalid("has another type"))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// What is wrong with a value, or with the name of a key. serde's own texts would show the value.
#[derive(Debug)]
pub(super) struct Invalid {
    pub(super) text: String,
    /// The names that exist, where another one was given.
    pub(super) known: &'static [&'static str],
}

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

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        invalid(format!("is none of {}", known.join(", ")))
    }

    /// Shows the name only as far as it could be a key: `client_secret=..` is none.
    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        let of_key = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let shown: String = name.chars().take_while(of_key).take(MAX_SHOWN).collect();
        let more = if shown == name { "" } else { "…" };
        let remedy = match nearest(&name.to_ascii_lowercase(), known) {
            Some(key) => format!("did you mean {key}?"),
            None => "remove it (`tower_m2m::docs::configuration` lists them all)".to_owned(),
        };
        let text = format!("{shown}{more} is not a key; {remedy}");
        Self { text, known }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Invalid {}

/// The key that `name` may be a misspelling of.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let first = name.chars().next()?;
    let near = known.iter().filter(|key| key.starts_with(first));
    let (distance, key) = near.map(|key| (distance(key, name), *key)).min()?;
    let allowed = if key.len() < 8 { 1 } else { 2 };
    (distance <= allowed).then_some(key)
}

/// Number of letters to insert, remove or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
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

/// Maximum number of characters of an unknown key that are shown.
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
