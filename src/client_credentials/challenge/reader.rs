//! Takes a field line of `WWW-Authenticate` apart. [pure]

use super::Challenge;
use crate::steps::examined;

/// Reads one field line, as tolerantly as it can be done without guessing: commas may be missing or too many, and what
/// fits nowhere is passed over up to the next comma.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    pub(super) secrets: &'a [&'a str],
}

impl<'a> Reader<'a> {
    pub(super) fn read(&mut self, found: &mut Vec<Challenge>) {
        // Parameters before the first scheme belong to no challenge.
        let mut current = None;
        loop {
            self.skip(|byte| is_space(byte) || byte == b',');
            if self.rest.is_empty() {
                return;
            }
            let word = self.take(is_token);
            if word.is_empty() {
                self.pass_over();
            } else if let Some(value) = self.value() {
                if let Some(challenge) = current.and_then(|at: usize| found.get_mut(at)) {
                    challenge.add(word, &value, self.secrets);
                }
            } else if self.rest.first() == Some(&b'=') {
                self.pass_over();
            } else if found.len() < MOST_CHALLENGES {
                current = Some(found.len());
                found.push(Challenge::new(word, self.secrets));
                self.skip_token68();
            } else {
                return;
            }
        }
    }

    /// The value of a parameter, if one follows; stays where it is otherwise, but for white space.
    fn value(&mut self) -> Option<Vec<u8>> {
        self.skip(is_space);
        let mut after = Self {
            rest: self.rest.strip_prefix(b"=")?,
            ..*self
        };
        after.skip(is_space);
        let value = match after.rest.strip_prefix(b"\"") {
            Some(quoted) => {
                after.rest = quoted;
                after.quoted()
            }
            None => Some(after.take(is_unquoted).to_vec()).filter(|value| !value.is_empty())?,
        };
        self.rest = after.rest;
        Some(value)
    }

    /// A quoted string (RFC 9110 §5.6.4) up to its closing quote, or to the end of the line if that is missing.
    fn quoted(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut bytes = self.rest.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => text.extend(bytes.next()),
                byte => text.push(*byte),
            }
        }
        examined(self.rest.len() - bytes.len());
        self.rest = bytes.as_slice();
        text
    }

    /// `token68` (RFC 9110 §11.2), which is told from a parameter by what follows it.
    fn skip_token68(&mut self) {
        let mut after = Self { ..*self };
        after.skip(is_token68);
        after.skip(|byte| byte == b'=');
        after.skip(is_space);
        if matches!(after.rest.first(), None | Some(b',')) {
            self.rest = after.rest;
        }
    }

    /// Passes over what is malformed, up to the next comma outside of quotes.
    fn pass_over(&mut self) {
        while let Some((byte, rest)) = self.rest.split_first() {
            match byte {
                b',' => return,
                b'"' => {
                    self.rest = rest;
                    self.quoted();
                }
                _ => self.rest = rest,
            }
        }
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        self.take(wanted);
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !wanted(*byte));
        examined(end.unwrap_or(self.rest.len()) + 1);
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 §11.2, without the `=` at the end.
fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

/// More than a token: servers forget to quote URIs and scopes.
fn is_unquoted(byte: u8) -> bool {
    !is_space(byte) && !matches!(byte, b',' | b'"')
}

const MOST_CHALLENGES: usize = 32;
