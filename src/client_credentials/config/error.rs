//! The error type of configurations.
//!
//! The name of the key is stored as the length of a prefix of the message, so that both need one allocation only.

use std::{error::Error, fmt};

/// A key of a [`Config`](super::Config) that is missing or invalid, or that contradicts another.
///
/// The text names the key and the remedy. It never contains a value, because the value may be a secret.
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
    /// The whole message, which begins with the name of the key.
    text: String,
    /// Length of the name, in bytes.
    key: usize,
}

impl ConfigError {
    /// Creates an error from the name of a key and its problem.
    pub(super) fn new(key: &str, problem: &str) -> Self {
        let text = format!("{key} {problem}");
        let key = key.len();
        Self { text, key }
    }

    /// Creates an error from a message that begins with the name of a variable, whose name begins with `prefix`.
    pub(super) fn parse(text: String, prefix: &str) -> Self {
        // The prefix may contain spaces, so the search for the end of the name begins after it.
        let key = text[prefix.len()..].find(' ').unwrap_or_default();
        let key = prefix.len() + key;
        Self { text, key }
    }

    /// Returns the name of the key: as in the file, or the name of the variable.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.text[..self.key]
    }
}

/// Prints the message, because a `main` function that returns this error prints it with `Debug`.
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
