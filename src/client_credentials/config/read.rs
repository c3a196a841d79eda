//! A configuration from variables, and from a deserializer.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::Value;

use super::{
    Config, ConfigError,
    keys::{KEYS, NAMES, PRIVATE_KEY, nearest},
};

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
        for (name, _) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|_| !prefix.is_empty()) else {
                continue;
            };
            let Some(rest) = name.strip_prefix(prefix) else {
                continue;
            };
            let meant = nearest(&rest.to_ascii_lowercase()).map(|key| config.key(key));
            if let Some(meant) = meant.filter(|meant| meant != name) {
                let wrong = format!("is not read; did you mean {meant}?");
                return Err(ConfigError::new(name.to_owned(), wrong));
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
        let mut config = Self {
            prefix: Some(prefix.to_owned()),
            ..Self::default()
        };
        for key in NAMES {
            if let Some(text) = get(&config.key(key))? {
                config.add(key, Value::String(text), |name| get(name).ok().flatten())?;
            }
        }
        Ok(config)
    }

    /// What can be known before a token is asked for is told now.
    fn checked(self) -> Result<Self, ConfigError> {
        self.source().map(|_| self)
    }

    fn add(
        &mut self,
        name: &str,
        value: Value,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(), ConfigError> {
        let Some((key, kind)) = KEYS.into_iter().find(|(key, _)| *key == name) else {
            return Err(unknown(name));
        };
        let read = kind.read(value, variable);
        let Some((given, trimmed)) = read.map_err(|problem| self.wrong(key, problem))? else {
            return Ok(());
        };
        // PEM ends with a line break.
        if trimmed && !PRIVATE_KEY.contains(&key) {
            self.trimmed.push(key);
        }
        match self.given.insert(key, given) {
            Some(_) => Err(self.wrong(key, "is there twice; keep one of them")),
            None => Ok(()),
        }
    }
}

/// Takes any self-describing format. Unknown keys and values of another type are errors that name the key. With
/// `#[serde(flatten)]` the keys of your own must be fields in front of it.
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // With `deserialize_struct` some formats themselves tell what is there in the place of a table, and quote it.
        deserializer.deserialize_any(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TABLE)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut config = Config::default();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value()?;
            let variable = |name: &str| environment(name).ok().flatten();
            config.add(&name, value, variable).map_err(Error::custom)?;
        }
        Ok(config)
    }

    /// serde would show the value, which a secret in the place of a table must not be.
    fn visit_str<E: Error>(self, _: &str) -> Result<Config, E> {
        Err(no_table("a string"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Config, E> {
        Err(no_table("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Config, E> {
        Err(no_table("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Config, E> {
        Err(no_table("a number"))
    }
}

fn no_table<E: Error>(what: &str) -> E {
    E::custom(format_args!("{what}; expected {TABLE}"))
}

fn environment(name: &str) -> Result<Option<String>, ConfigError> {
    let value = std::env::var_os(name).map(std::ffi::OsString::into_string);
    let wrong = |_| ConfigError::new(name.to_owned(), "is not valid UTF-8");
    value.transpose().map_err(wrong)
}

/// Shows the name only as far as it could be a key: `client_secret=..` is none.
fn unknown(name: &str) -> ConfigError {
    let of_key = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut shown: String = name.chars().take_while(of_key).take(LONGEST).collect();
    if shown != name {
        shown.push('…');
    }
    let remedy = match nearest(&name.to_ascii_lowercase()) {
        Some(key) => format!("is not a key; did you mean {key}?"),
        None => "is not a key; remove it (`tower_m2m::docs::configuration` lists them all)".into(),
    };
    ConfigError::new(shown, remedy)
}

const TABLE: &str = "a table of keys, such as client_id";
/// Characters of an unknown key that are shown.
const LONGEST: usize = 40;
