//! A JSON scanner that reads a few numbers from a document in pieces.
//!
//! It keeps the containers that lead to a member, at most [`MAX_DEPTH`] of them, and counts the brackets of all others.
//! It does not reject malformed documents: at worst, it misses a member or finds one that is not there.

use super::members::{MAX_DEPTH, Members, Set, Values};

/// The state of a document between two pieces.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// What the next byte belongs to.
    lexer: Lexer,
    /// Number of open containers.
    depth: u64,
    /// The outermost open containers that lead to a member.
    containers: Vec<Container>,
    /// The current key or number, as far as it was read, if it may be that of a member.
    token: Vec<u8>,
    /// Whether the current key or number is too long, or contains a character that no member's has.
    is_other: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default)]
enum Lexer {
    /// Whitespace, punctuation, or the first byte of a value.
    #[default]
    Between,
    /// A string.
    String { is_key: bool },
    /// The byte after a backslash.
    Escape { is_key: bool },
    /// The hexadecimal digits of an escaped character.
    Unicode { is_key: bool, left: u8, value: u32 },
    /// A number, `true`, `false` or `null`.
    Scalar { ends: Set },
}

/// An open container.
#[derive(Debug)]
struct Container {
    /// Whether it is an object, not an array.
    is_object: bool,
    /// Whether the next string is a key.
    expects_key: bool,
    /// Index of the current element of an array.
    index: u64,
    /// The members in it.
    members: Set,
    /// The members in the current element, and the element itself if it is one.
    current: Set,
}

impl Scanner {
    /// Reads the next piece of a document and records the members in it. Documents may follow each other.
    pub(super) fn read(&mut self, mut piece: &[u8], members: &Members, values: &mut Values) {
        while let Some((byte, rest)) = piece.split_first() {
            match self.lexer {
                Lexer::String { is_key } => {
                    let end = piece.iter().position(|byte| matches!(byte, b'"' | b'\\'));
                    let (text, rest) = piece.split_at(end.unwrap_or(piece.len()));
                    if is_key {
                        self.push(text);
                    }
                    piece = rest.get(1..).unwrap_or_default();
                    match rest.first() {
                        Some(b'"') => self.end_string(is_key, members),
                        Some(_) => self.lexer = Lexer::Escape { is_key },
                        None => {}
                    }
                    continue;
                }
                Lexer::Escape { is_key } => self.escape(*byte, is_key),
                Lexer::Unicode {
                    is_key,
                    left,
                    value,
                } => {
                    let Some(digit) = char::from(*byte).to_digit(16) else {
                        // Malformed. The byte is read again, because it may end the string.
                        self.is_other = true;
                        self.lexer = Lexer::String { is_key };
                        continue;
                    };
                    self.unicode(is_key, left, value << 4 | digit);
                }
                Lexer::Scalar { ends } => {
                    if is_delimiter(*byte) {
                        self.end_scalar(ends, members, values);
                        // The delimiter is read again.
                        continue;
                    }
                    if ends != 0 {
                        self.push(&[*byte]);
                    }
                }
                Lexer::Between => self.between(*byte, members),
            }
            piece = rest;
        }
    }

    /// Ends the document: a number at its end is complete. The next piece begins another one.
    pub(super) fn end(&mut self, members: &Members, values: &mut Values) {
        if let Lexer::Scalar { ends } = self.lexer {
            self.end_scalar(ends, members, values);
        }
        self.lexer = Lexer::Between;
        self.depth = 0;
        self.containers.clear();
    }

    /// Reads a byte outside of strings and scalars.
    fn between(&mut self, byte: u8, members: &Members) {
        match byte {
            b'{' | b'[' => self.open(byte == b'{', members),
            b'}' | b']' => {
                if self.innermost().is_some() {
                    self.containers.pop();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b',' => {
                let depth = self.containers.len().saturating_sub(1);
                if let Some(container) = self.innermost() {
                    container.index = container.index.saturating_add(1);
                    container.expects_key = container.is_object;
                    container.current = match container.is_object {
                        true => 0,
                        false => members.with_index(container.members, depth, container.index),
                    };
                }
            }
            b'"' => {
                let is_key = self.innermost().is_some_and(|inside| inside.expects_key);
                self.begin_token();
                self.lexer = Lexer::String { is_key };
            }
            b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
            first => {
                let current = self.current(members);
                let ends = members.ending_at(current, self.containers.len());
                self.begin_token();
                if ends != 0 {
                    self.push(&[first]);
                }
                self.lexer = Lexer::Scalar { ends };
            }
        }
    }

    /// Opens a container. It is kept if it leads to a member.
    fn open(&mut self, is_object: bool, members: &Members) {
        let inside = self.current(members);
        let depth = self.containers.len();
        // `current` is empty in a container that is not kept, so that its containers are not kept either.
        if inside != 0 && depth < MAX_DEPTH {
            self.containers.push(Container {
                is_object,
                expects_key: is_object,
                index: 0,
                members: inside,
                current: match is_object {
                    true => 0,
                    false => members.with_index(inside, depth, 0),
                },
            });
        }
        self.depth = self.depth.saturating_add(1);
    }

    /// Returns the innermost container, if it is kept.
    fn innermost(&mut self) -> Option<&mut Container> {
        let is_kept = self.containers.len() as u64 == self.depth;
        self.containers.last_mut().filter(|_| is_kept)
    }

    /// Returns the members in the value that begins here, and the value itself if it is one.
    fn current(&mut self, members: &Members) -> Set {
        if self.depth == 0 {
            return members.all();
        }
        self.innermost().map_or(0, |container| container.current)
    }

    /// Reads the byte after a backslash.
    fn escape(&mut self, byte: u8, is_key: bool) {
        self.lexer = Lexer::String { is_key };
        match byte {
            b'u' => {
                self.lexer = Lexer::Unicode {
                    is_key,
                    left: 4,
                    value: 0,
                };
            }
            b'"' | b'\\' | b'/' => self.push(&[byte]),
            // No member has control characters in its key.
            _ => self.is_other = true,
        }
    }

    /// Reads a hexadecimal digit of an escaped character, whose `value` contains it.
    fn unicode(&mut self, is_key: bool, left: u8, value: u32) {
        if left > 1 {
            self.lexer = Lexer::Unicode {
                is_key,
                left: left - 1,
                value,
            };
            return;
        }
        // Half of a surrogate pair is not a character: such keys are not compared.
        match char::from_u32(value) {
            Some(character) => self.push(character.encode_utf8(&mut [0; 4]).as_bytes()),
            None => self.is_other = true,
        }
        self.lexer = Lexer::String { is_key };
    }

    /// Ends a string. A key selects the members of the value after it.
    fn end_string(&mut self, is_key: bool, members: &Members) {
        self.lexer = Lexer::Between;
        if !is_key {
            return;
        }
        let (is_other, key) = (self.is_other, std::mem::take(&mut self.token));
        let depth = self.containers.len().saturating_sub(1);
        if let Some(container) = self.innermost() {
            container.expects_key = false;
            container.current = match is_other {
                true => 0,
                false => members.with_key(container.members, depth, &key),
            };
        }
        // Its memory is reused.
        self.token = key;
    }

    /// Ends a number or a word.
    fn end_scalar(&mut self, ends: Set, members: &Members, values: &mut Values) {
        self.lexer = Lexer::Between;
        if ends != 0
            && !self.is_other
            && let Some(value) = amount(&self.token)
        {
            values.record(members, ends, value);
        }
    }

    /// Begins a key or a number.
    fn begin_token(&mut self) {
        self.token.clear();
        self.is_other = false;
    }

    /// Adds to the current key or number.
    fn push(&mut self, text: &[u8]) {
        if self.is_other || self.token.len().saturating_add(text.len()) > MAX_TOKEN {
            self.is_other = true;
        } else {
            self.token.extend_from_slice(text);
        }
    }
}

/// Returns whether the byte ends a number or a word.
fn is_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b',' | b'}' | b']' | b':' | b'{' | b'[' | b'"' | b' ' | b'\t' | b'\n' | b'\r'
    )
}

/// Reads an amount: a number from 0 to 2⁵³.
fn amount(number: &[u8]) -> Option<f64> {
    let text = str::from_utf8(number).ok()?;
    // `f64` accepts more than JSON does: words, a leading sign and a leading point.
    let is_number = text.starts_with(|first: char| first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let value: f64 = text.parse().ok().filter(|_| is_number)?;
    (value <= MAX_AMOUNT).then_some(value)
}

/// Maximum length of a key or a number that is compared, in bytes. Longer than any known key.
const MAX_TOKEN: usize = 128;
/// Maximum amount: 2⁵³, up to which JSON numbers are interoperable (RFC 8259 §6).
const MAX_AMOUNT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit_retry::Cost;

    /// Scans a document in pieces of this length.
    fn scan_in(document: &[u8], length: usize, members: &Members) -> Option<Cost> {
        let (mut scanner, mut values) = (Scanner::default(), Values::new(members));
        for piece in document.chunks(length) {
            scanner.read(piece, members, &mut values);
        }
        scanner.end(members, &mut values);
        assert!(scanner.token.capacity() <= 2 * MAX_TOKEN);
        assert!(scanner.containers.len() <= MAX_DEPTH);
        values.cost(members)
    }

    fn scan(document: &str) -> Option<Cost> {
        scan_in(document.as_bytes(), 7, &Members::known())
    }

    fn tokens(document: &str) -> Option<u64> {
        scan(document)?.amount("tokens")
    }

    #[test]
    fn a_document_may_be_split_anywhere() {
        let document = br#"{"choices":[{"text":"} \" \u0022 usage","n":[[1],{}]}],"usage":{"prompt_tokens":12,"completion_tokens":30,"total_tokens":42}}"#;
        let expected = Cost::new()
            .with("tokens", 42)
            .with("input-tokens", 12)
            .with("output-tokens", 30);
        for length in 1..=document.len() {
            let cost = scan_in(document, length, &Members::known());
            assert_eq!(cost, Some(expected.clone()), "{length}");
        }
    }

    #[test]
    fn only_the_path_itself_counts() {
        for document in [
            r#"{"total_tokens":1}"#,
            r#"{"other":{"usage":{"total_tokens":1}}}"#,
            r#"{"usage":{"details":{"total_tokens":1}}}"#,
            r#"{"usage":[{"total_tokens":1}]}"#,
            r#"[{"usage":{"total_tokens":1}}]"#,
            r#"{"text":"\"usage\":{\"total_tokens\":1}"}"#,
            r#"{"usage":null}"#,
            r#"{"usage":{"total_tokens":"1"}}"#,
            r#"{"usage":{"total_tokens":{"total_tokens":1}}}"#,
            r#"{"usage":{"x":1,"y":"total_tokens"}}"#,
        ] {
            assert_eq!(scan(document), None, "{document}");
        }
        assert_eq!(
            tokens(r#"{ "usage" : { "a":[1,{}], "total_tokens" : 5 } }"#),
            Some(5)
        );
        assert_eq!(tokens(r#"{"\u0075sage":{"total\u005ftokens":5}}"#), Some(5));
        // The last one counts.
        assert_eq!(
            tokens(
                r#"{"usage":{"total_tokens":5},"usage":{"total_tokens":6}}{"usage":{"total_tokens":7}}"#
            ),
            Some(7)
        );
    }

    #[test]
    fn own_members_are_found_by_their_pointers() {
        let mut members = Members::known();
        members.add("/a~1b/1/c~0d", "own".into());
        members.add("/usage/total_tokens", "tokens".into());
        let document = br#"{"a/b":[{"c~d":1},{"c~d":2},{"c~d":3}],"usage":{"total_tokens":4.2}}"#;

        let cost = scan_in(document, 3, &members);

        let expected = Cost::new().with("tokens", 5).with("own", 2);
        assert_eq!(cost, Some(expected));
    }

    #[test]
    fn numbers_that_are_no_amounts_are_ignored() {
        for (number, expected) in [
            ("0", Some(0)),
            ("-0", None),
            ("1e3", Some(1000)),
            ("0.2", Some(1)),
            ("9007199254740992", Some(1 << 53)),
            ("9007199254740994", None),
            ("18446744073709551616", None),
            ("1e400", None),
            ("-5", None),
            ("+5", None),
            ("NaN", None),
            ("Infinity", None),
            ("inf", None),
            ("true", None),
            (".5", None),
            ("1.5.5", None),
        ] {
            let document = format!(r#"{{"usage":{{"total_tokens":{number}}}}}"#);
            assert_eq!(tokens(&document), expected, "{number}");
        }
        let long = format!(r#"{{"usage":{{"total_tokens":{}1}}}}"#, "0".repeat(10_000));
        assert_eq!(tokens(&long), None);
    }

    #[test]
    fn hostile_documents_cost_no_memory() {
        let nested = "[".repeat(1 << 20);
        assert_eq!(tokens(&nested), None);
        let objects = r#"{"usage":"#.repeat(1 << 17);
        assert_eq!(tokens(&objects), None);
        let key = format!(
            r#"{{"{}":1,"usage":{{"total_tokens":3}}}}"#,
            "k".repeat(1 << 20)
        );
        assert_eq!(tokens(&key), Some(3));
        let closed = "]".repeat(1 << 16) + r#"{"usage":{"total_tokens":3}}"#;
        assert_eq!(tokens(&closed), Some(3));
        let escapes = format!(
            r#"{{"{}":1,"usage":{{"total_tokens":3}}}}"#,
            r"\ud800\q\u12".repeat(1 << 12)
        );
        assert_eq!(tokens(&escapes), Some(3));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(document: Vec<u8>, length in 1usize..64) {
            scan_in(&document, length, &Members::known());
        }

        #[test]
        fn whatever_precedes_the_usage_in_the_object_does_not_hide_it(
            text: String,
            value in 0u64..1 << 53,
            length in 1usize..64,
        ) {
            let document = serde_json::json!({
                "a": { "text": text, "more": [text, [text], { "usage": { "total_tokens": 1 } }] },
                "usage": { "note": text, "total_tokens": value },
                "z": text,
            });
            let document = document.to_string();
            let cost = scan_in(document.as_bytes(), length, &Members::known());
            proptest::prop_assert_eq!(cost, Some(Cost::new().with("tokens", value)));
        }
    }
}
