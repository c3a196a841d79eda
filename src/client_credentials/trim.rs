//! Removes what editors, shells and secret stores add to the ends of a value: line breaks, byte order marks, NUL.
//! [pure]
//!
//! Used for secrets, ids, keys of the configuration and their values, so that a value means the same wherever it comes
//! from. Each change is reported as [`TokenEvent::ValueTrimmed`](super::TokenEvent::ValueTrimmed), because a value that
//! is used differently from how it was written must not go unnoticed.

/// Returns `text` without line breaks, blank lines, byte order marks and NUL characters at both ends. Spaces on its
/// first and last line remain: they may belong to a secret.
///
/// Returns a part of `text`, and never copies a secret. Linear in the length of the blanks at both ends.
pub(super) fn trimmed(text: &str) -> &str {
    // The last mark among the leading blanks: spaces after it belong to the first line.
    let leading = text
        .char_indices()
        .take_while(|(_, c)| is_blank(*c))
        .filter(|(_, c)| is_mark(*c))
        .last();
    let text = &text[leading.map_or(0, |(index, c)| index + c.len_utf8())..];
    // The first mark among the trailing blanks: spaces before it belong to the last line.
    let trailing = text
        .char_indices()
        .rev()
        .take_while(|(_, c)| is_blank(*c))
        .filter(|(_, c)| is_mark(*c))
        .last();
    &text[..trailing.map_or(text.len(), |(index, _)| index)]
}

/// Returns whether there are only white space and such marks.
pub(super) fn is_empty(text: &str) -> bool {
    text.chars().all(is_blank)
}

/// White space, including spaces, or a mark.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || is_mark(c)
}

/// Line breaks, the byte order mark and NUL.
fn is_mark(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\0'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrounding_line_breaks_and_marks_are_trimmed_and_spaces_kept() {
        for (text, kept) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n\n", "secret"),
            ("\u{FEFF}secret\r\n", "secret"),
            ("\u{FEFF}\n\u{FEFF}secret\0", "secret"),
            ("secret\n  \n\t", "secret"),
            ("  \n  secret", "  secret"),
            (" secret ", " secret "),
            (" secret \n", " secret "),
            ("se\ncr\0et", "se\ncr\0et"),
            ("s\u{2028}", "s"),
            ("ü\u{85}", "ü"),
            ("\n", ""),
            ("\n \n", ""),
            ("", ""),
        ] {
            assert_eq!(trimmed(text), kept, "{text:?}");
        }
    }

    #[test]
    fn only_white_space_and_marks_count_as_empty() {
        assert!(
            ["", " ", "\n", "\u{FEFF}", " \0 "]
                .into_iter()
                .all(is_empty)
        );
        assert!(!is_empty(" a "));
    }
}
