//! Makes a server's words fit for people: RFC 6749 §5.2's characters, and nothing that could be a token. [pure]

/// `text` in RFC 6749 §5.2's character set with words that look like tokens replaced, at most `most` characters.
pub(super) fn quotable(text: &str, most: usize) -> String {
    // Cut last: half a token may not look like one.
    printable(text, usize::MAX)
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

/// RFC 6749 §5.2: `%x20-21 / %x23-5B / %x5D-7E`.
pub(super) fn printable(text: &str, most: usize) -> String {
    text.chars()
        .filter(|c| matches!(c, ' '..='!' | '#'..='[' | ']'..='~'))
        .take(most)
        .collect()
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
            assert_eq!(quotable(text, 200), quoted);
        }
    }

    #[test]
    fn the_length_is_capped() {
        assert_eq!(quotable(&"word ".repeat(100), 10), "word word ");
    }
}
