//! Reads a configuration from variables, or from a deserializer.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error, IntoDeserializer, MapAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, MapDeserializer, StrDeserializer},
    },
};
use serde_json::Value as Json;

use super::{
    Config, ConfigError,
    schema::{Keys, SECRET_ENDS, names},
    value::{Invalid, Value, is_unset, nearest},
};
use crate::client_credentials::trim::trimmed;

impl Config {
    /// From the variables `OAUTH_CLIENT_ID`, `OAUTH_CLIENT_SECRET` and so on.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong, and one that looks like a misspelt key. Others are not looked at,
    /// because they may belong to somebody else.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_env_with_prefix("OAUTH_")
    }

    /// The same with another prefix, such as `ORDERS_`.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_env_with_prefix(prefix: &str) -> Result<Self, ConfigError> {
        let config = Self::from_variables(prefix, environment)?;
        for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
            let rest = name.strip_prefix(prefix).filter(|_| !prefix.is_empty());
            let key = rest.unwrap_or_default().to_ascii_lowercase();
            let meant = nearest(&key, names()).map(|key| config.name(key));
            if let Some(meant) = meant.filter(|meant| *meant != name) {
                let problem = format!("is not read; did you mean {meant}?");
                return Err(ConfigError::new(&name, &problem));
            }
        }
        config.checked()
    }

    /// The same from anything that has values by name, such as a map in a test.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_vars(
        prefix: &str,
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Self::from_variables(prefix, |name| Ok(get(name)))?.checked()
    }

    fn from_variables(
        prefix: &str,
        get: impl Fn(&str) -> Result<Option<String>, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let config = Self {
            prefix: Some(prefix.to_owned()),
            ..Self::default()
        };
        let mut variables = Vec::new();
        for key in names() {
            if let Some(text) = get(&config.name(key))? {
                variables.push((*key, text));
            }
        }
        let variables = MapDeserializer::new(variables.into_iter());
        let read = config.read(variables, &|name| get(name).ok().flatten());
        read.map_err(|error: Invalid| ConfigError::parse(error.text, prefix))
    }

    /// Reports now what can be known before a token is requested.
    fn checked(self) -> Result<Self, ConfigError> {
        self.source().map(|_| self)
    }

    /// With `entries`. `variable` reads a variable of the environment.
    fn read<'de, A: MapAccess<'de>>(
        self,
        entries: A,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, A::Error> {
        let mut entries = Entries {
            entries,
            variable,
            key: String::new(),
            json: Json::Null,
            config: self,
        };
        let keys = Keys::deserialize(MapAccessDeserializer::new(&mut entries))?;
        Ok(Self {
            keys,
            ..entries.config
        })
    }
}

/// Takes any self-describing format. Unknown keys and values of another type are errors that name the key. With
/// `#[serde(flatten)]` the keys of your own must be fields in front of it.
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // With `deserialize_struct` some formats themselves report what is there in place of a table, and quote it.
        deserializer.deserialize_any(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of keys, such as client_id")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Config, A::Error> {
        let variable = |name: &str| environment(name).ok().flatten();
        Config::default().read(entries, &variable)
    }

    // serde would show the value, which may be a secret in place of a table.

    fn visit_str<E: Error>(self, _: &str) -> Result<Config, E> {
        Err(E::invalid_type(Unexpected::Other("a string"), &self))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Config, E> {
        Err(E::invalid_type(Unexpected::Other("a number"), &self))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Config, E> {
        Err(E::invalid_type(Unexpected::Other("a number"), &self))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Config, E> {
        Err(E::invalid_type(Unexpected::Other("a number"), &self))
    }
}

/// The entries of a table, each checked when it is read, so that a format can add where it stands.
struct Entries<'a, A> {
    entries: A,
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// The current entry.
    key: String,
    json: Json,
    config: Config,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.entries.next_key::<String>()? {
            self.json = self.entries.next_value()?;
            if is_unset(&self.json) && names().contains(&&*key) {
                continue;
            }
            let name: StrDeserializer<'_, Invalid> = key.as_str().into_deserializer();
            let field = seed.deserialize(name).map_err(Error::custom)?;
            // A secret is one field with three keys.
            let secret = key.trim_end_matches("_variable").trim_end_matches("_file");
            let keys = SECRET_ENDS.map(|end| format!("{secret}{end}"));
            if let Some(other) = keys.into_iter().find(|key| self.config.is_set(key)) {
                let both = format!("and {} are both set", self.config.name(&key));
                let problem = if other == key {
                    "is there twice"
                } else {
                    &both
                };
                self.key = other;
                return Err(self.invalid(&format!("{problem}; keep one of them")));
            }
            self.config.set.insert(key.clone());
            self.key = key;
            return Ok(Some(field));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let mut json = self.json.take();
        if let (true, Some(name)) = (self.key.ends_with("_variable"), json.as_str()) {
            let held = (self.variable)(trimmed(name)).map(Json::String);
            let held = held.filter(|held| !is_unset(held));
            json = held.ok_or_else(|| self.invalid("names a variable that is not set"))?;
        }
        let trimmed = &Cell::new(false);
        let read = seed.deserialize(Value { json, trimmed });
        let value = read.map_err(|error| self.invalid(&error.text))?;
        if trimmed.get() && !MULTILINE.into_iter().any(|key| self.key.starts_with(key)) {
            self.config.trimmed.push(self.config.name(&self.key));
        }
        Ok(value)
    }
}

impl<A> Entries<'_, A> {
    fn invalid<E: Error>(&self, problem: &str) -> E {
        E::custom(ConfigError::new(&self.config.name(&self.key), problem))
    }
}

fn environment(name: &str) -> Result<Option<String>, ConfigError> {
    let value = std::env::var_os(name).map(std::ffi::OsString::into_string);
    let invalid = |_| ConfigError::new(name, "is not valid UTF-8");
    value.transpose().map_err(invalid)
}

/// What the keys begin with whose values may end with a line break: PEM does, and between words it is white space.
const MULTILINE: [&str; 5] = [
    "private_key",
    "scope",
    "resource",
    "bearer_types",
    "allowed_origins",
];
