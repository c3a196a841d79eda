//! Reads a configuration from variables or with a deserializer.
//!
//! Both sources produce the same entries, and the same schema reads them. So a key cannot behave differently in a file
//! and in the environment.

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
    /// Reads the environment variables `OAUTH_CLIENT_ID`, `OAUTH_CLIENT_SECRET` and so on, and checks the
    /// configuration.
    ///
    /// Call it once at startup. Variables that are changed later are not seen; files that the variables name are read
    /// again for every attempt.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or invalid, or that looks like a misspelled key. Other variables with the
    /// prefix are ignored, because they may belong to other programs.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_env_with_prefix("OAUTH_")
    }

    /// Reads environment variables with another prefix, such as `ORDERS_`, and checks the configuration.
    ///
    /// Give each credential of a program a prefix of its own.
    ///
    /// # Errors
    ///
    /// As for [`from_env`](Self::from_env). With an empty prefix, misspelled keys are not detected.
    pub fn from_env_with_prefix(prefix: &str) -> Result<Self, ConfigError> {
        let config = Self::from_variables(prefix, environment)?;
        // Only the names are inspected, never the values.
        for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
            let rest = name.strip_prefix(prefix).filter(|_| !prefix.is_empty());
            let key = rest.unwrap_or_default().to_ascii_lowercase();
            let meant = nearest(&key, names()).map(|key| config.name(key));
            if let Some(meant) = meant.filter(|meant| *meant != name) {
                let problem = format!("is not a known variable; did you mean {meant}?");
                return Err(ConfigError::new(&name, &problem));
            }
        }
        config.checked()
    }

    /// Reads variables from any source of values by name, such as a map in a test, and checks the configuration.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or invalid. Misspelled keys are not detected, because the names cannot be
    /// listed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// use tower_m2m::client_credentials::Config;
    ///
    /// let vars = HashMap::from([
    ///     ("APP_TOKEN_URL", "https://issuer.example/oauth/token"),
    ///     ("APP_CLIENT_ID", "orders"),
    ///     ("APP_CLIENT_SECRET", "secret"),
    /// ]);
    /// let get = |name: &str| vars.get(name).map(|value| value.to_string());
    ///
    /// assert!(Config::from_vars("APP_", get).is_ok());
    /// assert!(Config::from_vars("OTHER_", get).is_err());
    /// ```
    pub fn from_vars(
        prefix: &str,
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Self::from_variables(prefix, |name| Ok(get(name)))?.checked()
    }

    /// Reads each known key with `get`. Does not check the keys together.
    ///
    /// # Errors
    ///
    /// Names the variable that is invalid or not UTF-8.
    fn from_variables(
        prefix: &str,
        get: impl Fn(&str) -> Result<Option<String>, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let config = Self {
            prefix: Some(prefix.to_owned()),
            ..Self::default()
        };
        // Only known names are read: other variables with the prefix may belong to other programs.
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

    /// Checks the keys together, so that errors appear before the first token request.
    ///
    /// Files with secrets are not read by this check; private keys and certificates are.
    ///
    /// # Errors
    ///
    /// Names the key that is missing or contradicts another. The token source that is built for the check is discarded.
    fn checked(self) -> Result<Self, ConfigError> {
        self.source().map(|_| self)
    }

    /// Reads `entries` into this configuration. `variable` returns the value of an environment variable, for keys that
    /// end in `_variable`.
    ///
    /// # Errors
    ///
    /// Names the key whose value is invalid, an unknown key, or two keys of one secret.
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

/// Accepts any self-describing format. Unknown keys and values of the wrong type are errors that name the key.
///
/// A struct that includes this type with `#[serde(flatten)]` must declare its own keys before this field.
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_struct`: for a value that is not a table, some formats would quote that value in their own
        // error.
        deserializer.deserialize_any(Table)
    }
}

/// The visitor for a table of keys.
struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of keys, such as client_id")
    }

    /// Variables that a `_variable` key names are read from the environment.
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Config, A::Error> {
        let variable = |name: &str| environment(name).ok().flatten();
        Config::default().read(entries, &variable)
    }

    // Without these methods serde's error would contain the value, which may be a secret in place of a table.

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

/// Entries of a table. Each entry is checked when it is read, so that the format can add its position to the error.
///
/// The value is read together with its key, because an empty value makes the key count as not set.
///
/// It stands between the format and the schema: serde's derived code sees only keys that are set, and values that do
/// not reveal themselves in errors.
struct Entries<'a, A> {
    /// The format's own access to the table.
    entries: A,
    /// Returns the value of an environment variable.
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// Key of the current entry.
    key: String,
    /// Value of the current entry, until `next_value_seed` takes it.
    json: Json,
    /// Configuration under construction: records which keys are set and trimmed.
    config: Config,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    /// Returns the next key that is set. Unset keys are skipped, but unknown keys are reported even if they are empty.
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.entries.next_key::<String>()? {
            // The value is read ahead of the key's check, because an empty value makes the key count as not set.
            self.json = self.entries.next_value()?;
            // An unset known key is skipped. An unknown key is an error even if it is empty.
            if is_unset(&self.json) && names().contains(&&*key) {
                continue;
            }
            let name: StrDeserializer<'_, Invalid> = key.as_str().into_deserializer();
            let field = seed.deserialize(name).map_err(Error::custom)?;
            // A secret is one field with three keys, of which at most one may be set.
            let secret = key.trim_end_matches("_variable").trim_end_matches("_file");
            // For any other key these are two names that are never set, and the key itself.
            let keys = SECRET_ENDS.map(|end| format!("{secret}{end}"));
            if let Some(other) = keys.into_iter().find(|key| self.config.is_set(key)) {
                let both = format!("and {} are both set", self.config.name(&key));
                let problem = if other == key { "is set twice" } else { &both };
                self.key = other;
                return Err(self.invalid(&format!("{problem}; keep one of them")));
            }
            self.config.set.insert(key.clone());
            self.key = key;
            return Ok(Some(field));
        }
        Ok(None)
    }

    /// Deserializes the current value. For a key that ends in `_variable`, that is the value of the variable that it
    /// names.
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let mut json = self.json.take();
        if let (true, Some(name)) = (self.key.ends_with("_variable"), json.as_str()) {
            // The value replaces the name, and is then checked like any other value.
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

/// Error for the current key.
impl<A> Entries<'_, A> {
    fn invalid<E: Error>(&self, problem: &str) -> E {
        E::custom(ConfigError::new(&self.config.name(&self.key), problem))
    }
}

/// Reads an environment variable. Fails if its value is not UTF-8.
fn environment(name: &str) -> Result<Option<String>, ConfigError> {
    let value = std::env::var_os(name).map(std::ffi::OsString::into_string);
    let invalid = |_| ConfigError::new(name, "is not valid UTF-8");
    value.transpose().map_err(invalid)
}

/// Prefixes of the keys whose values may end with a line break without a report: PEM ends with one, and in a list of
/// words it is white space.
const MULTILINE: [&str; 6] = [
    "private_key",
    "scope",
    "resource",
    "bearer_types",
    "allowed_issuers",
    "allowed_origins",
];
