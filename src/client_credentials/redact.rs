//! Makes a server's text safe to show: limits it to the characters of RFC 6749 §5.2, and removes our secrets and
//! everything that could be a token. [pure]
//!
//! 1. [`prefix`] limits a long text to [`MAX_TEXT_BYTES`] bytes, at the end of a word.
//! 2. [`redact_secrets`] replaces secrets, as they are and in the encodings in which they were sent.
//! 3. [`sanitize_charset`] removes characters outside the set, and replaces secrets again.
//! 4. [`sanitize`] replaces words that look like tokens, and shortens the result.
//!
//! The text is a server's: the work is linear in its length, whatever it contains.
//!
//! | occurrence of a secret | found by |
//! |---|---|
//! | as it is | search in the whole text |
//! | percent-encoded, or with `+` for a space | decoding each word |
//! | in base64 or base64url, also within Basic credentials | decoding each run of the alphabet, at four offsets |
//! | cut off at the end of what is read | comparison with the beginning of the secret |
//! | interrupted by characters outside the set | a second search, after these were removed |
//!
//! Secrets in other encodings are not recognized. As a last measure, [`sanitize`] replaces every long word that
//! contains a digit.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

/// Returns `text` in the character set of RFC 6749 §5.2, at most `most` characters. Replaces `secrets` and words that
/// look like tokens.
///
/// `secrets` are those of one request. The result may be logged.
pub(super) fn sanitize(text: &str, secrets: &[&str], most: usize) -> String {
    // Shortened last: half a token may not look like one.
    sanitize_charset(text, secrets, usize::MAX)
        .split(' ')
        .map(|word| if is_token_like(word) { REDACTED } else { word })
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(most)
        .collect()
}

/// Replaces `secrets` in `text`, and words that contain one percent-encoded or in base64, as it was sent. Secrets of
/// fewer than four bytes remain: they occur in any text, and the replacements would reveal them.
///
/// The work is linear in the length of the text and of the secrets, whatever they repeat.
pub(super) fn redact_secrets(text: &str, secrets: &[&str]) -> String {
    let fits = |secret: &&&str| (MIN_SECRET_LEN..=text.len()).contains(&secret.len());
    let secrets: Vec<_> = secrets
        .iter()
        .filter(fits)
        .map(|s| Needle::new(s))
        .collect();
    let mut text = text.to_owned();
    for secret in &secrets {
        text = secret.replace_in(&text);
    }
    let is_separator = |c: char| c.is_whitespace() || matches!(c, '"' | ',');
    let mut output = String::with_capacity(text.len());
    for part in text.split_inclusive(is_separator) {
        let word = part.trim_end_matches(is_separator);
        let hidden = contains_secret(word, &secrets);
        output.push_str(if hidden { SECRET } else { word });
        output.push_str(&part[word.len()..]);
    }
    output
}

/// Returns whether `word` contains one of `secrets`, encoded once or twice.
///
/// Decoded text is zeroized: it may contain the secret.
fn contains_secret(word: &str, secrets: &[Needle<'_>]) -> bool {
    if secrets.is_empty() || word.len() < MIN_SECRET_LEN {
        return false;
    }
    let hold = |bytes: &[u8]| secrets.iter().any(|secret| secret.is_in(bytes));
    let mut text = unescaped(word.as_bytes());
    // In a form, `+` stands for a space.
    if hold(&text)
        || hold(&mapped(
            &text,
            |byte| if byte == b'+' { b' ' } else { byte },
        ))
    {
        return true;
    }
    // Accepts both base64 alphabets.
    text = mapped(&text, |byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    });
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.split(|byte| !is_digit(byte)).any(|run| {
        // Characters before the encoded secret may belong to the alphabet too: all four alignments are tried.
        (0..run.len().min(4)).any(|start| {
            let rest = &run[start..];
            // One character after the last group of four encodes no byte.
            let whole = rest.len() - usize::from(rest.len() % 4 == 1);
            count(whole);
            BASE64.decode(&rest[..whole]).is_ok_and(|bytes| {
                let bytes = Zeroizing::new(bytes);
                // HTTP Basic credentials are form-encoded before base64 (RFC 6749 §2.3.1).
                hold(&bytes) || hold(&unescaped(&bytes))
            })
        })
    })
}

/// Decodes percent-encoding. Zeroized when dropped, as it may contain a secret.
fn unescaped(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    count(bytes.len());
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    decoded.extend(percent_decode(bytes));
    decoded
}

/// Maps each byte. Zeroized when dropped, as it may contain a secret.
fn mapped(bytes: &[u8], map: impl Fn(u8) -> u8) -> Zeroizing<Vec<u8>> {
    count(bytes.len());
    let mut mapped = Zeroizing::new(Vec::with_capacity(bytes.len()));
    mapped.extend(bytes.iter().copied().map(map));
    mapped
}

/// A secret to search for with the algorithm of Knuth, Morris and Pratt: at most two comparisons per byte, whatever
/// repeats.
///
/// A naive search would take time proportional to the product of both lengths for texts that a server can choose.
struct Needle<'a> {
    /// The secret.
    bytes: &'a [u8],
    /// For each prefix of `bytes`, the length of its longest proper border.
    borders: Vec<usize>,
}

impl<'a> Needle<'a> {
    /// Computes the borders of `secret`.
    fn new(secret: &'a str) -> Self {
        let bytes = secret.as_bytes();
        let mut needle = Self {
            bytes,
            borders: vec![0; bytes.len()],
        };
        let mut matched = 0;
        for (at, byte) in bytes.iter().enumerate().skip(1) {
            matched = needle.advance(matched, *byte);
            needle.borders[at] = matched;
        }
        needle
    }

    /// Returns how many bytes of the needle the text ends with after `byte`, given that it ended with `matched` of them
    /// before.
    fn advance(&self, mut matched: usize, byte: u8) -> usize {
        count(1);
        // Falls back to the longest prefix of the needle that still matches.
        while matched > 0 && self.bytes.get(matched) != Some(&byte) {
            count(1);
            matched = self.borders[matched - 1];
        }
        matched + usize::from(self.bytes.get(matched) == Some(&byte))
    }

    /// Returns whether `bytes` contains the needle.
    fn is_in(&self, bytes: &[u8]) -> bool {
        let mut matched = 0;
        self.bytes.len() <= bytes.len()
            && bytes.iter().any(|byte| {
                matched = self.advance(matched, *byte);
                matched == self.bytes.len()
            })
    }

    /// Replaces all occurrences of the needle in `text`.
    fn replace_in(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let (mut rest, mut matched) = (0, 0);
        for (at, byte) in text.bytes().enumerate() {
            matched = self.advance(matched, byte);
            if matched == self.bytes.len() {
                replaced.push_str(&text[rest..at + 1 - matched]);
                replaced.push_str(SECRET);
                (rest, matched) = (at + 1, 0);
            }
        }
        replaced.push_str(&text[rest..]);
        replaced
    }

    /// Returns how many bytes of the needle `text` ends with.
    fn partial_match_len(&self, text: &str) -> usize {
        let bytes = text.bytes();
        bytes.fold(0, |matched, byte| self.advance(matched, byte))
    }
}

/// Returns the beginning of a text that is too long to be read in full. Without its last word, which may be half a
/// secret, and without the beginning of a secret that contains spaces.
///
/// [`REDACTED`] if there is no white space in the first part: a word of that length cannot be judged.
fn prefix(text: &str, secrets: &[&str]) -> String {
    let mut end = MAX_TEXT_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let Some((whole, _)) = text[..end].rsplit_once(char::is_whitespace) else {
        return REDACTED.to_owned();
    };
    trim_partial_secrets(whole, secrets).to_owned()
}

/// Removes the beginning of a secret from the end of `text`.
///
/// A secret with spaces may begin before the cut and end after it.
fn trim_partial_secrets<'a>(mut text: &'a str, secrets: &[&str]) -> &'a str {
    for secret in secrets {
        let mut end = secret.len().min(text.len());
        while !secret.is_char_boundary(end) {
            end -= 1;
        }
        let begun = Needle::new(&secret[..end]).partial_match_len(text);
        if begun >= MIN_SECRET_LEN {
            text = &text[..text.len() - begun];
        }
    }
    text
}

/// Replacement for a secret.
const SECRET: &str = "[secret]";
/// Replacement for a word that looks like a token.
const REDACTED: &str = "[redacted]";
/// Minimum length of a secret that is replaced, in bytes.
const MIN_SECRET_LEN: usize = 4;
/// Maximum number of bytes of a text that are read.
pub(super) const MAX_TEXT_BYTES: usize = 4096;
/// Base64, with and without padding. Trailing bits are allowed, because a run of characters may end within a group.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns `text` in the character set of RFC 6749 §5.2, `%x20-21 / %x23-5B / %x5D-7E`, with `secrets` replaced, at
/// most `most` characters. Reads only the beginning of a long text.
pub(super) fn sanitize_charset(text: &str, secrets: &[&str], most: usize) -> String {
    let is_printable = |c: &char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
    let filtered = |text: &str| {
        redact_secrets(text, secrets)
            .chars()
            .filter(is_printable)
            .collect()
    };
    let text: String = if text.len() > MAX_TEXT_BYTES {
        let text: String = filtered(&prefix(text, secrets));
        trim_partial_secrets(&text, secrets).to_owned()
    } else {
        filtered(text)
    };
    // Again: removed characters may have separated the parts of a secret.
    let text = redact_secrets(&text, secrets);
    text.chars().take(most).collect()
}

/// Returns the path of a URL for messages: short, and with secrets and words that look like tokens replaced.
///
/// Segments are judged one by one. The query is not passed in.
pub(super) fn path(path: &str, secrets: &[&str]) -> String {
    let mut path = path;
    let is_long = path.len() > MAX_TEXT_BYTES;
    if is_long {
        let mut end = MAX_TEXT_BYTES;
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        path = path[..end].rsplit_once('/').map_or("", |(whole, _)| whole);
    }
    let path = redact_secrets(path, secrets);
    let mut output = String::new();
    let mut characters = 0;
    for (number, segment) in path.split('/').enumerate() {
        let segment = if is_token_like(segment) {
            REDACTED
        } else {
            segment
        };
        characters += segment.chars().count() + 1;
        if characters > MAX_PATH_CHARS {
            output.push_str("/...");
            return output;
        }
        if number > 0 {
            output.push('/');
        }
        output.push_str(segment);
    }
    if is_long {
        output.push_str("/...");
    }
    output
}

/// Maximum number of characters of a path that are shown.
const MAX_PATH_CHARS: usize = 200;

/// Counts steps of work, for the test that it is linear in the length of the text. Does nothing outside tests.
#[cfg(not(test))]
fn count(_: usize) {}

#[cfg(test)]
fn count(steps: usize) {
    STEPS.with(|all| all.set(all.get() + steps));
}

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many steps `work` takes.
#[cfg(test)]
pub(super) fn steps(work: impl FnOnce()) -> usize {
    let before = STEPS.with(std::cell::Cell::get);
    work();
    STEPS.with(std::cell::Cell::get) - before
}

/// Returns whether `word` could be a token: long, with a digit, and made of the characters of tokens and of punctuation
/// around them.
///
/// A URL is not, unless it has a query, a fragment or user information, which may contain one.
///
/// Twenty characters keep ordinary words and most codes. A UUID is replaced, which costs a hint and discloses nothing.
fn is_token_like(word: &str) -> bool {
    let is_url = word.starts_with("https://") && !word.contains(['?', '#', '@']);
    word.len() >= 20
        && !is_url
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~+/=:'\"`,;()<>[]{}?&#@!%|".contains(&b))
        && word.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_like_tokens_are_redacted() {
        for (text, quoted) in [
            (
                "token eyJhbGciOiJIUzI1NiJ9.abc123 expired",
                "token [redacted] expired",
            ),
            ("token=\"0123456789abcdef0123\"", "[redacted]"),
            (
                "see https://docs.example/errors/401/invalid",
                "see https://docs.example/errors/401/invalid",
            ),
            (
                "https://api.example/?access_token=abcdef012345",
                "[redacted]",
            ),
            ("the client  is\nunknown", "the client  isunknown"),
            ("say \"no\"", "say no"),
        ] {
            assert_eq!(sanitize(text, &[], 200), quoted);
        }
    }

    #[test]
    fn a_secret_is_redacted_in_every_encoding() {
        for (text, output) in [
            (
                "the secret p@ss w/ö! is wrong",
                "the secret [secret] is wrong",
            ),
            (
                "id=me&secret=p%40ss+w%2F%c3%b6%21 is wrong",
                "[secret] is wrong",
            ),
            (
                "Basic bWU6cEBzcyB3L8O2IQ==, said you",
                "Basic [secret], said you",
            ),
            ("got:cEBzcyB3L8O2IQ", "[secret]"),
            ("bWU6cCU0MHNzJTIwdyUyRiVDMyVCNiUyMQ==", "[secret]"),
            ("x=\"cEBzcyB3L8O2IQ==\",  y", "x=\"[secret]\",  y"),
            // With a letter more than base64 has.
            ("it is cGFzc3cwcmQhs", "it is [secret]"),
        ] {
            assert_eq!(
                redact_secrets(text, &["", "the", "p@ss w/ö!", "passw0rd!"]),
                output
            );
        }
    }

    #[test]
    fn removing_unprintable_characters_does_not_reassemble_a_secret() {
        for text in [
            "my can\u{1}ary",
            "my can\u{fffd}ary",
            "my can\\ary",
            "my Y2Fu\nYXJ5",
            "my can\"ary",
        ] {
            assert_eq!(sanitize_charset(text, &["canary"], 200), "my [secret]");
            assert_eq!(sanitize(text, &["canary"], 200), "my [secret]");
        }
    }

    proptest! {
        #[test]
        fn redaction_takes_linear_time(
            period in "[a-z%+/=A-Z0-9]{1,3}",
            length in 1usize..20_000,
            of_secret in 0.0..1.0f64,
            end in "[a-z ]{0,2}",
        ) {
            let text = period.repeat(length / period.len() + 1);
            let cut = (text.len() as f64 * of_secret) as usize;
            let secret = format!("{}{end}", &text[..cut]);

            let steps = steps(|| drop(redact_secrets(&text, &[&secret, "other"])));

            prop_assert!(steps <= 60 * (text.len() + secret.len() + 5), "{steps}");
        }

        #[test]
        fn redaction_of_long_text_is_bounded(
            word in "[a-z0-9]{1,9}",
            gap in "[ ]{0,1}",
            length in 10_000usize..300_000,
        ) {
            let text = format!("{word}{gap}").repeat(length / word.len() + 1);

            let steps = steps(|| drop(sanitize(&text, &["canary", &text[..9_000]], 200)));

            prop_assert!(steps <= 200 * MAX_TEXT_BYTES, "{steps}");
        }
    }

    #[test]
    fn a_secret_at_the_truncation_point_is_redacted() {
        // What is replaced is short, so that the end of what is read may stand within what is quoted.
        for (secret, filler) in [
            ("canary".repeat(60), "canary".repeat(60)),
            (
                "can ary of four words ".repeat(40),
                "can ary of four words ".repeat(40),
            ),
            ("can ary of four words".to_owned(), "x".repeat(4)),
        ] {
            for space in 0..40 {
                let text = format!("{}{}", " ".repeat(space), format!("{filler} ").repeat(900));
                let secrets = [secret.trim()];

                let output = sanitize(&text, &secrets, 10_000);

                assert!(!output.contains("can"), "{space}: {output}");
            }
        }
        assert_eq!(sanitize(&"word".repeat(2_000), &[], 200), "[redacted]");
    }

    #[test]
    fn paths_are_shortened_and_redacted() {
        for (given, output) in [
            ("/oauth2/token", "/oauth2/token"),
            ("/login/0123456789abcdef0123/x", "/login/[redacted]/x"),
            ("/login/canary/x", "/login/[secret]/x"),
            ("", ""),
        ] {
            assert_eq!(path(given, &["canary"]), output);
        }
        let long = path(&"/a".repeat(30_000), &[]);
        assert!(long.ends_with("/a/...") && long.len() <= 210, "{long}");
    }

    #[test]
    fn the_length_is_capped() {
        assert_eq!(sanitize(&"word ".repeat(100), &[], 10), "word word ");
    }
}
