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
    key: String,
    problem: String,
}

impl ConfigError {
    pub(super) fn new(key: String, problem: impl Into<String>) -> Self {
        Self {
            key,
            problem: problem.into(),
        }
    }

    /// The key's name in the file, or the variable's in the environment.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
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
        write!(f, "{} {}", self.key, self.problem)
    }
}

impl Error for ConfigError {}
