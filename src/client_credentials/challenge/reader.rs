//! Parser for one field line of `WWW-Authenticate`. [pure]
//!
//! The grammar (RFC 9110 §11.2, §11.3, §11.6.1):
//!
//! ```text
//! WWW-Authenticate = #challenge
//! challenge        = auth-scheme [ 1*SP ( token68 / #auth-param ) ]
//! auth-param       = token BWS "=" BWS ( token / quoted-string )
//! ```
//!
//! A comma separates challenges as well as parameters. A word before `=` and a value is a parameter, any other word is
//! a scheme.
//!
//! The work is counted with [`count_steps`], for the test that it is linear in the length of the line.

use crate::steps::count_steps;

/// Iterator over the parts of one field line, as tolerant as possible without guessing: commas may be missing or
/// repeated, and malformed parts are skipped up to the next comma. Holds the bytes that are left.
///
/// `Copy`, so that a part can be tried and given up without a cost. Every step consumes at least one byte or ends.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

/// Next part of a line.
pub(super) enum Part<'a> {
    /// The scheme of a new challenge.
    Scheme(&'a [u8]),
    /// Name and value of a parameter of the challenge before it. Quotes and escapes are removed from the value.
    Parameter(&'a [u8], Vec<u8>),
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `line`.
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self(line)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        loop {
            // Lists may have empty elements (RFC 9110 §5.6.1).
            self.skip_bytes(|byte| is_space(byte) || byte == b',');
            if self.0.is_empty() {
                return None;
            }
            let word = self.take_bytes(is_token);
            if word.is_empty() {
                self.skip_malformed();
            } else if let Some(value) = self.value() {
                return Some(Part::Parameter(word, value));
            } else if self.0.first() == Some(&b'=') {
                // A name and `=` without a value.
                self.skip_malformed();
            } else {
                self.skip_token68();
                return Some(Part::Scheme(word));
            }
        }
    }
}

impl<'a> Reader<'a> {
    /// Consumes `=` and the value of a parameter. Without one, consumes white space only and returns `None`.
    ///
    /// White space around `=` is "bad" (BWS, RFC 9110 §5.6.3) but has to be accepted.
    fn value(&mut self) -> Option<Vec<u8>> {
        self.skip_bytes(is_space);
        // A copy, so that nothing is consumed without a value.
        let mut after = Self(self.0.strip_prefix(b"=")?);
        after.skip_bytes(is_space);
        let value = match after.0.strip_prefix(b"\"") {
            Some(quoted) => {
                after.0 = quoted;
                after.quoted()
            }
            None => {
                Some(after.take_bytes(is_unquoted).to_vec()).filter(|value| !value.is_empty())?
            }
        };
        self.0 = after.0;
        Some(value)
    }

    /// Consumes a quoted string (RFC 9110 §5.6.4) up to its closing quote, or up to the end of the line without one.
    fn quoted(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut bytes = self.0.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => break,
                // The next byte is literal. A backslash at the end of the line is dropped.
                b'\\' => text.extend(bytes.next()),
                byte => text.push(*byte),
            }
        }
        // Counted once for all bytes up to the closing quote.
        count_steps(self.0.len() - bytes.len());
        self.0 = bytes.as_slice();
        text
    }

    /// Skips a `token68` (RFC 9110 §11.2). Only a comma or the end of the line after it distinguishes it from a
    /// parameter.
    fn skip_token68(&mut self) {
        let mut after = *self;
        after.skip_bytes(is_token68);
        after.skip_bytes(|byte| byte == b'=');
        after.skip_bytes(is_space);
        if matches!(after.0.first(), None | Some(b',')) {
            self.0 = after.0;
        }
    }

    /// Skips malformed text up to the next comma outside quotes.
    fn skip_malformed(&mut self) {
        while let Some((byte, rest)) = self.0.split_first() {
            match byte {
                b',' => return,
                b'"' => {
                    self.0 = rest;
                    self.quoted();
                }
                _ => self.0 = rest,
            }
        }
    }

    /// Skips bytes as long as they are `wanted`.
    fn skip_bytes(&mut self, wanted: impl Fn(u8) -> bool) {
        self.take_bytes(wanted);
    }

    /// Consumes bytes as long as they are `wanted`.
    fn take_bytes(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !wanted(*byte));
        count_steps(end.unwrap_or(self.0.len()) + 1);
        let (taken, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Optional white space (`OWS`, RFC 9110 §5.6.3).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Characters of a `token` (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Characters of a `token68` (RFC 9110 §11.2), except the `=` at its end.
fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

/// Characters of an unquoted value. More than a `token` allows, because servers omit quotes around URIs and scopes.
fn is_unquoted(byte: u8) -> bool {
    !is_space(byte) && !matches!(byte, b',' | b'"')
}
