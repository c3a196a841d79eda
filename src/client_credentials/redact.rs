//! Makes a server's words fit for people: RFC 6749 §5.2's characters, no secret of ours, and nothing that could be a
//! token. [pure]

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

/// `text` in RFC 6749 §5.2's character set, with `secrets` and words that look like tokens replaced, at most `most`
/// characters.
pub(super) fn quotable(text: &str, secrets: &[&str], most: usize) -> String {
    // Cut last: half a token may not look like one.
    printable(text, secrets, usize::MAX)
        .split(' ')
        .map(|word| {
            if looks_like_a_token(word) {
                "[redacted]"
            } else {
                word
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(most)
        .collect()
}

/// `text` with `secrets` replaced, and with words replaced that hold one percent-encoded or in base64, as in what was
/// sent. Secrets of less than four bytes stay: they are found in any text, which would tell what they are.
pub(super) fn without(text: &str, secrets: &[&str]) -> String {
    let secrets = secrets.iter().filter(|secret| secret.len() >= SHORTEST);
    let mut text = text.to_owned();
    for secret in secrets.clone() {
        text = text.replace(secret, SECRET);
    }
    let is_separator = |c: char| c.is_whitespace() || matches!(c, '"' | ',');
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(is_separator) {
        let word = part.trim_end_matches(is_separator);
        let hidden = secrets.clone().any(|secret| hides(word, secret));
        shown.push_str(if hidden { SECRET } else { word });
        shown.push_str(&part[word.len()..]);
    }
    shown
}

fn hides(word: &str, secret: &str) -> bool {
    let decoded = unescaped(word.as_bytes());
    let mut text = Zeroizing::new(String::from_utf8_lossy(&decoded).into_owned());
    if text.contains(secret) || text.replace('+', " ").contains(secret) {
        return true;
    }
    // Both alphabets at once.
    *text = text.replace('-', "+").replace('_', "/");
    let is_digit = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    text.split(|c| !is_digit(c)).any(|run| {
        // What stands before it may be of the same characters.
        (0..run.len().min(4)).any(|start| {
            let rest = &run[start..];
            let whole = rest.len() - usize::from(rest.len() % 4 == 1);
            BASE64.decode(&rest[..whole]).is_ok_and(|bytes| {
                let bytes = Zeroizing::new(bytes);
                holds(&bytes, secret) || holds(&unescaped(&bytes), secret)
            })
        })
    })
}

fn unescaped(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(percent_decode(bytes).collect())
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes
        .windows(secret.len())
        .any(|part| part == secret.as_bytes())
}

const SECRET: &str = "[secret]";
const SHORTEST: usize = 4;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `text` in RFC 6749 §5.2's character set, `%x20-21 / %x23-5B / %x5D-7E`, with `secrets` replaced, at most `most`
/// characters.
pub(super) fn printable(text: &str, secrets: &[&str], most: usize) -> String {
    let is_printable = |c: &char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
    let text: String = without(text, secrets)
        .chars()
        .filter(is_printable)
        .collect();
    // Once more: what is left may have been taken apart by what is gone.
    let text = without(&text, secrets);
    text.chars().take(most).collect()
}

/// Long, with a digit, and of the characters that tokens are made of, with the punctuation that may surround them.
///
/// A URL's path is not one, but what stands in its query may be.
fn looks_like_a_token(word: &str) -> bool {
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
    use super::*;

    #[test]
    fn words_that_look_like_tokens_are_replaced() {
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
            assert_eq!(quotable(text, &[], 200), quoted);
        }
    }

    #[test]
    fn a_secret_is_replaced_in_every_form_in_which_it_was_sent() {
        for (text, shown) in [
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
            assert_eq!(without(text, &["", "the", "p@ss w/ö!", "passw0rd!"]), shown);
        }
    }

    #[test]
    fn a_secret_is_not_put_together_by_what_cannot_be_printed() {
        for text in [
            "my can\u{1}ary",
            "my can\u{fffd}ary",
            "my can\\ary",
            "my Y2Fu\nYXJ5",
            "my can\"ary",
        ] {
            assert_eq!(printable(text, &["canary"], 200), "my [secret]");
            assert_eq!(quotable(text, &["canary"], 200), "my [secret]");
        }
    }

    #[test]
    fn the_length_is_capped() {
        assert_eq!(quotable(&"word ".repeat(100), &[], 10), "word word ");
    }
}
