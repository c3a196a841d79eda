//! The values of a configuration, whichever way they came.

use std::collections::BTreeMap;

use serde_json::Value;
use zeroize::Zeroizing;

use super::keys::Kind;
use crate::{
    client_credentials::trim::{is_empty, trimmed},
    secret::Secret,
};

/// A value as its key wants it. Any text may be a secret, so that this has no `Debug`.
#[derive(Clone)]
pub(super) enum Given {
    Bool(bool),
    Json(Value),
    Number(u32),
    Seconds(u32),
    Table(BTreeMap<String, Secret>),
    Text(Secret),
    Words(Vec<String>),
}

impl Kind {
    /// The value, and whether line breaks or marks at its ends were removed. `None` for what counts as not set: null, and
    /// a text that is empty without them. `variable` reads an environment variable.
    ///
    /// The error says what is wrong, without the value: it may be a secret at the wrong place.
    pub(super) fn read(
        self,
        value: Value,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(Given, bool)>, &'static str> {
        let (mut around, mut removed) = (false, false);
        let value = match value {
            Value::Null => return Ok(None),
            Value::String(text) if is_empty(&text) => return Ok(None),
            Value::String(text) => Value::String(trim(text, &mut around)),
            value => value,
        };
        let given = match self {
            Self::Bool => boolean(&value).map(Given::Bool),
            Self::Json => json(value).map(Given::Json),
            Self::Number => number(&value)
                .map(Given::Number)
                .ok_or("is not a whole number"),
            Self::Seconds => number(&value)
                .map(Given::Seconds)
                .ok_or("is not a whole number of seconds, such as 30"),
            Self::Table => json(value)
                .and_then(|value| table(value, &mut removed))
                .map(Given::Table),
            Self::Text => text(value).map(Given::Text),
            Self::Texts => texts(value, &mut removed).map(Given::Words),
            Self::Variable => text_of(value)
                .and_then(|name| {
                    let held = variable(&name).filter(|held| !is_empty(held));
                    held.ok_or("names a variable that is not set")
                })
                .map(|held| Given::Text(trim(held, &mut removed).into())),
            Self::Words => words(value).map(Given::Words),
        };
        // In the others, white space means nothing.
        removed |= around && matches!(self, Self::Text | Self::Texts | Self::Variable);
        given.map(|given| Some((given, removed)))
    }
}

/// `text` without line breaks and marks at its ends; `removed` is set if there are any.
fn trim(text: String, removed: &mut bool) -> String {
    let kept = trimmed(&text);
    if kept.len() == text.len() {
        return text;
    }
    *removed = true;
    let kept = kept.to_owned();
    // It may be a secret.
    drop(Zeroizing::new(text));
    kept
}

fn boolean(value: &Value) -> Result<bool, &'static str> {
    match value {
        Value::Bool(yes) => Ok(*yes),
        Value::String(text) => text.parse().map_err(|_| BOOLEAN),
        _ => Err(BOOLEAN),
    }
}

fn json(value: Value) -> Result<Value, &'static str> {
    match value {
        Value::String(text) => serde_json::from_str(&text).map_err(|_| "is not valid JSON"),
        value => Ok(value),
    }
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|number| number.try_into().ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn table(value: Value, removed: &mut bool) -> Result<BTreeMap<String, Secret>, &'static str> {
    let Value::Object(members) = value else {
        return Err("is not a table of strings by name");
    };
    let members = members.into_iter();
    members
        .map(|(name, value)| match value {
            Value::String(value) => Ok((name, trim(value, removed).into())),
            _ => Err("holds a value that is not a string; put it in quotes"),
        })
        .collect()
}

fn text(value: Value) -> Result<Secret, &'static str> {
    text_of(value).map(Secret::from)
}

fn text_of(value: Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err("is not a string; put it in quotes"),
    }
}

/// One text as it is, or a list of them.
fn texts(value: Value, removed: &mut bool) -> Result<Vec<String>, &'static str> {
    let list = match value {
        Value::Array(list) => list,
        value => vec![value],
    };
    let texts = list.into_iter().map(|value| match value {
        Value::String(text) => Ok(trim(text, removed)),
        _ => Err("is not a string or a list of strings"),
    });
    texts.collect()
}

fn words(value: Value) -> Result<Vec<String>, &'static str> {
    let list = match value {
        Value::Array(list) => list,
        value => vec![value],
    };
    let mut words = Vec::new();
    for value in list {
        let text = value
            .as_str()
            .ok_or("is not a string or a list of strings")?;
        words.extend(text.split_whitespace().map(str::to_owned));
    }
    Ok(words)
}

const BOOLEAN: &str = "is neither true nor false";
