//! What is wrong with a configuration.

use std::{error::Error, fmt};

/// A key that is missing, wrong, or contradicts another. Its text says what to do, and never holds a value.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::Config;
///
/// let error = Config::from_vars("OAUTH_", |_| None).unwrap_err();
///
/// assert!(error.key().starts_with("OAUTH_"));
/// eprintln!("{error}");
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct ConfigError {
    /// Begins with the key.
    text: String,
    /// Length of the key.
    key: usize,
}

impl ConfigError {
    pub(super) fn new(key: &str, problem: &str) -> Self {
        let text = format!("{key} {problem}");
        let key = key.len();
        Self { text, key }
    }

    /// From a text that begins with the name of a variable, and that with `prefix`.
    pub(super) fn parse(text: String, prefix: &str) -> Self {
        let key = text[prefix.len()..].find(' ').unwrap_or_default();
        let key = prefix.len() + key;
        Self { text, key }
    }

    /// The key's name in the file, or the variable's in the environment.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.text[..self.key]
    }
}

/// The text, because this is what a `main` prints that returns it.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigError({self})")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for ConfigError {}
