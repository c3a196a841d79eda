//! Takes a field line of `WWW-Authenticate` apart. [pure]

use crate::steps::examined;

/// Reads one field line, as tolerantly as it can be done without guessing: commas may be missing or too many, and what
/// fits nowhere is skipped up to the next comma.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

/// What comes next in a line.
pub(super) enum Part<'a> {
    /// A challenge begins.
    Scheme(&'a [u8]),
    /// A parameter of the challenge before it.
    Parameter(&'a [u8], Vec<u8>),
}

impl<'a> Reader<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self(line)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        loop {
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
                self.skip_malformed();
            } else {
                self.skip_token68();
                return Some(Part::Scheme(word));
            }
        }
    }
}

impl<'a> Reader<'a> {
    /// The value of a parameter, if one follows; stays where it is otherwise, but for white space.
    fn value(&mut self) -> Option<Vec<u8>> {
        self.skip_bytes(is_space);
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

    /// A quoted string (RFC 9110 §5.6.4) up to its closing quote, or to the end of the line if that is missing.
    fn quoted(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut bytes = self.0.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => text.extend(bytes.next()),
                byte => text.push(*byte),
            }
        }
        examined(self.0.len() - bytes.len());
        self.0 = bytes.as_slice();
        text
    }

    /// `token68` (RFC 9110 §11.2), which is told from a parameter by what follows it.
    fn skip_token68(&mut self) {
        let mut after = *self;
        after.skip_bytes(is_token68);
        after.skip_bytes(|byte| byte == b'=');
        after.skip_bytes(is_space);
        if matches!(after.0.first(), None | Some(b',')) {
            self.0 = after.0;
        }
    }

    /// Skips what is malformed, up to the next comma outside of quotes.
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

    fn skip_bytes(&mut self, wanted: impl Fn(u8) -> bool) {
        self.take_bytes(wanted);
    }

    fn take_bytes(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !wanted(*byte));
        examined(end.unwrap_or(self.0.len()) + 1);
        let (taken, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
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
