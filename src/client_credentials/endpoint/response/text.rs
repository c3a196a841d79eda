//! Decodes and repairs the text of a response that is not well-formed JSON in UTF-8. [pure]
//!
//! `decoded` and `repaired` run only after strict parsing has failed, so they cannot change the meaning of a valid
//! response.
//!
//! Both return zeroized buffers whose capacity is computed first. Growing a buffer would leave copies of the token in
//! freed memory.

use std::borrow::Cow;

use zeroize::Zeroizing;

/// Returns the body without a byte order mark at the beginning, and without NULs and white space at the ends.
pub(super) fn trimmed(body: &[u8]) -> &[u8] {
    let mut body = body.strip_prefix(UTF_8_MARK).unwrap_or(body).trim_ascii();
    while let Some(before) = body.strip_suffix(b"\0") {
        body = before.trim_ascii_end();
    }
    body
}

/// Decodes a body that is not UTF-8: UTF-16 with a byte order mark, otherwise Latin-1.
///
/// Latin-1 maps every byte to a character, so that this cannot fail. A token in it is accepted only if it is ASCII: the
/// caller checks that.
pub(super) fn decoded(body: &[u8]) -> Zeroizing<String> {
    let units: Option<fn([u8; 2]) -> u16> = match body {
        [0xFF, 0xFE, ..] => Some(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => Some(u16::from_be_bytes),
        _ => None,
    };
    // Sufficient capacity from the start: a reallocation would leave a copy of the token in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(2 * body.len()));
    if let Some(unit) = units {
        let units = body[2..]
            .chunks_exact(2)
            .map(|pair| unit([pair[0], pair[1]]));
        let characters = char::decode_utf16(units);
        text.extend(characters.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    } else {
        text.extend(body.iter().map(|byte| char::from(*byte)));
    }
    text
}

/// Repairs JSON that parsers reject: escapes control characters within strings, and replaces unpaired surrogates.
///
/// A single pass that tracks whether it is within a string. It does not check the structure; the parser does that
/// afterwards.
pub(super) fn repaired(text: &str) -> Zeroizing<String> {
    // A control character becomes an escape sequence of 6 bytes, so 5 more each.
    let controls = text.bytes().filter(|byte| *byte < b' ').count();
    let mut json = Zeroizing::new(String::with_capacity(text.len() + 5 * controls));
    let (mut rest, mut within) = (text, false);
    while let Some(character) = rest.chars().next() {
        let (length, output) = match character {
            '\\' if within => escape(rest),
            control if control < ' ' && within => {
                let escaped = format!("\\u{:04x}", u32::from(control));
                (1, Cow::Owned(escaped))
            }
            '\0' => (1, Cow::Borrowed("")),
            other => {
                within ^= other == '"';
                let length = other.len_utf8();
                (length, Cow::Borrowed(&rest[..length]))
            }
        };
        json.push_str(&output);
        rest = &rest[length..];
    }
    json
}

/// Returns the length of the escape sequence at the beginning of `rest`, and its replacement.
///
/// Two escapes that form a surrogate pair stay together. A surrogate without its partner becomes U+FFFD.
fn escape(rest: &str) -> (usize, Cow<'_, str>) {
    match unit(rest) {
        Some(0xD800..=0xDBFF) if matches!(unit(&rest[6..]), Some(0xDC00..=0xDFFF)) => {
            (12, Cow::Borrowed(&rest[..12]))
        }
        Some(0xD800..=0xDFFF) => (6, Cow::Borrowed("\\ufffd")),
        _ => {
            let length: usize = rest.chars().take(2).map(char::len_utf8).sum();
            (length, Cow::Borrowed(&rest[..length]))
        }
    }
}

/// Returns the code unit of a `\uXXXX`.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Byte order mark of UTF-8.
const UTF_8_MARK: &[u8] = b"\xEF\xBB\xBF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn almost_valid_json_is_repaired() {
        for (text, json) in [
            ("{\"a\":\"b\nc\t\"}", r#"{"a":"b\u000ac\u0009"}"#),
            (
                r#"{"a":"\ud83d\ude00 \ud83d \ude00"}"#,
                r#"{"a":"\ud83d\ude00 \ufffd \ufffd"}"#,
            ),
            (
                r#"{"a":"\ud83d\ud83d\ude00"}"#,
                r#"{"a":"\ufffd\ud83d\ude00"}"#,
            ),
            (r#"{"a":"\"\\","b":1}"#, r#"{"a":"\"\\","b":1}"#),
            ("{\n\"a\":\0 1}\0", "{\n\"a\": 1}"),
            (r#"{"a":"\ud8"#, r#"{"a":"\ud8"#),
            (r#"{"a":"ö\"#, r#"{"a":"ö\"#),
        ] {
            assert_eq!(*repaired(text), json, "{text:?}");
        }
    }

    #[test]
    fn byte_order_marks_and_nuls_are_stripped() {
        assert_eq!(trimmed(b"\xEF\xBB\xBF {} \0\0 \0"), b"{}");
        assert_eq!(trimmed(b"\0"), b"");
        assert_eq!(*decoded(b"\xFF\xFE{\0\xF6\0"), "{ö");
        assert_eq!(*decoded(b"\xFE\xFF\0{\0\xF6"), "{ö");
        assert_eq!(*decoded(b"{\xF6"), "{ö");
    }
}
