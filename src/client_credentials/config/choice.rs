//! A key with a fixed set of values, each of which has keys of its own.

use super::{Config, ConfigError};

/// A value, and the keys that belong to it, in groups.
pub(super) type Choice = (&'static str, &'static [&'static [&'static str]]);

impl Config {
    /// The value of `key`, or else `default`, after a look for keys that belong to other values only.
    pub(super) fn chosen(
        &self,
        key: &str,
        default: &'static str,
        choices: &[Choice],
    ) -> Result<&'static str, ConfigError> {
        let given = self.text(key).unwrap_or(default);
        let Some((name, own)) = choices.iter().find(|(name, _)| *name == given) else {
            let wrong = format!("is none of {}", names(choices, |_| true));
            return Err(self.wrong(key, wrong));
        };
        let mut stray = choices.iter().flat_map(|(_, keys)| keys.concat());
        let stray = stray.find(|stray| self.is_set(stray) && !own.concat().contains(stray));
        let Some(stray) = stray else {
            return Ok(name);
        };
        let by_default = if self.is_set(key) { "" } else { " by default" };
        let wrong = format!(
            "is set, and does not go with {key}, which is {name}{by_default}; remove it, or set {key} to {}",
            names(choices, |keys| keys.concat().contains(&stray)),
            key = self.key(key),
        );
        Err(self.wrong(stray, wrong))
    }
}

fn names(choices: &[Choice], filter: impl Fn(&[&[&'static str]]) -> bool) -> String {
    let names = choices.iter().filter(|(_, keys)| filter(keys));
    let names: Vec<_> = names.map(|(name, _)| *name).collect();
    names.join(", ")
}
