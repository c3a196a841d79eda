//! Encodes `application/x-www-form-urlencoded` into zeroized buffers.
//!
//! A form contains the client secret, so every buffer that ever contains the encoded form is zeroized.

use std::fmt;

use crate::secret::Secret;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

/// The parameters of a token request, in order.
///
/// Names may repeat. The endpoint checks for duplicates before it sends a request.
#[derive(Clone, Default)]
pub(crate) struct Form(Vec<(String, Secret)>);

impl Form {
    /// Appends a parameter.
    pub(crate) fn push(&mut self, name: impl Into<String>, value: impl Into<Secret>) {
        self.0.push((name.into(), value.into()));
    }

    /// Returns whether a parameter with this name is set.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Returns the values of all parameters with this name.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| value.expose())
    }

    /// Returns the values of all parameters except those in `named`.
    pub(crate) fn except(&self, named: &[&str]) -> impl Iterator<Item = Secret> {
        let others = self
            .0
            .iter()
            .filter(|(name, _)| !named.contains(&name.as_str()));
        others.map(|(_, value)| value.clone())
    }

    /// Returns all names and values, in order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.expose()))
    }

    /// Replaces all parameters with this name by `values`, unless there are none.
    pub(crate) fn replace(&mut self, name: &str, values: &[&str]) {
        if values.is_empty() {
            return;
        }
        self.0.retain(|(known, _)| known != name);
        for value in values {
            self.push(name, *value);
        }
    }

    /// Appends all parameters of `other`.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Returns the name of a parameter that is set twice, except those in `repeatable`.
    pub(crate) fn repeated(&self, repeatable: &[&str]) -> Option<&str> {
        self.repeated_after(0, repeatable)
    }

    /// Returns the name of a parameter after the first `count` that is set twice, except those in `repeatable`.
    pub(crate) fn repeated_after(&self, count: usize, repeatable: &[&str]) -> Option<&str> {
        let mut added = self.0.iter().enumerate().skip(count);
        added.find_map(|(index, (name, _))| {
            let again = self.0[..index].iter().any(|(known, _)| known == name);
            (again && !repeatable.contains(&name.as_str())).then_some(name.as_str())
        })
    }

    /// Returns the number of parameters.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Encodes the form. The buffer is zeroized when the last reference to the bytes is dropped.
    pub(crate) fn encode(&self) -> Bytes {
        // Sufficient capacity from the start: a reallocation would leave a copy of the secrets in freed memory.
        let mut body = Zeroizing::new(String::with_capacity(self.max_encoded_len()));
        for (name, value) in self.pairs() {
            if !body.is_empty() {
                body.push('&');
            }
            encode_into(&mut body, name);
            body.push('=');
            encode_into(&mut body, value);
        }
        Bytes::from_owner(body)
    }

    /// Returns the maximum length of the encoded form, with every byte escaped.
    ///
    /// Three bytes for each byte of a name or a value, plus `=` and `&`. An upper bound is enough: the buffer lives
    /// only until the request was sent.
    fn max_encoded_len(&self) -> usize {
        let pairs = self.pairs();
        pairs.map(|(n, v)| 3 * (n.len() + v.len()) + 2).sum()
    }
}

/// Prints the names only, because values may be secrets.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(n, _)| n))
            .finish()
    }
}

/// Appends `value` in the encoding of RFC 6749 Appendix B, but with a space as `%20` instead of `+`, which every
/// decoder accepts.
pub(crate) fn encode_into(target: &mut String, value: &str) {
    target.extend(utf8_percent_encode(value, ESCAPED));
}

/// Characters to escape: all except ASCII letters and digits, `*`, `-`, `.` and `_`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'*')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_in_order() {
        let mut form = Form::default();
        form.push("grant_type", "client_credentials");
        form.push("scope", "a b/c:d");
        form.push("note", "ü+&=");

        assert_eq!(
            form.encode(),
            "grant_type=client_credentials&scope=a%20b%2Fc%3Ad&note=%C3%BC%2B%26%3D"
        );
    }

    #[test]
    fn the_buffer_fits_a_fully_escaped_form() {
        for repeated in 1..4 {
            let mut form = Form::default();
            for _ in 0..repeated {
                form.push("ü", "&&&&&");
            }

            // The first parameter has no `&` before it.
            assert_eq!(form.encode().len() + 1, form.max_encoded_len());
        }
    }

    #[test]
    fn except_returns_all_other_values() {
        let mut form = Form::default();
        for (name, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("b", "4")] {
            form.push(name, value);
        }
        let but = |named: &[&str]| -> Vec<_> {
            let values = form.except(named);
            values.map(|value| value.expose().to_owned()).collect()
        };

        assert_eq!(but(&["a", "c"]), ["2", "4"]);
        assert_eq!(but(&["b"]), ["1", "3"]);
        assert_eq!(form.values("b").collect::<Vec<_>>(), ["2", "4"]);
        assert_eq!(form.repeated(&[]), Some("b"));
        assert_eq!(form.repeated(&["b"]), None);
        assert!(form.contains("c") && !form.contains("d"));
    }

    #[test]
    fn debug_output_shows_names_only() {
        let mut form = Form::default();
        form.push("client_secret", "canary");

        assert_eq!(format!("{form:?}"), r#"["client_secret"]"#);
    }
}
