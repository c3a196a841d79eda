//! Every key, and what its value is.

/// What a key's value is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bool,
    Json,
    Number,
    Seconds,
    /// Texts by name.
    Table,
    Text,
    /// A text, or a list of texts in a file.
    Texts,
    /// The name of an environment variable that holds a text.
    Variable,
    /// One text or several.
    Words,
}

/// In the order of the guide's table.
pub(super) const KEYS: [(&str, Kind); 48] = [
    ("client_id", Kind::Text),
    ("client_auth", Kind::Text),
    ("client_secret", Kind::Text),
    ("client_secret_file", Kind::Text),
    ("client_secret_variable", Kind::Variable),
    ("private_key", Kind::Text),
    ("private_key_file", Kind::Text),
    ("private_key_variable", Kind::Variable),
    ("key_id", Kind::Text),
    ("signing_algorithm", Kind::Text),
    ("assertion_audience", Kind::Text),
    ("assertion_typ", Kind::Bool),
    ("assertion_file", Kind::Text),
    ("assertion_type", Kind::Text),
    ("certificate_file", Kind::Text),
    ("token_url", Kind::Text),
    ("issuer", Kind::Text),
    ("ca_file", Kind::Text),
    ("scope", Kind::Words),
    ("audience", Kind::Texts),
    ("resource", Kind::Words),
    ("authorization_details", Kind::Json),
    ("parameters", Kind::Table),
    ("grant", Kind::Text),
    ("grant_assertion_file", Kind::Text),
    ("subject_token_file", Kind::Text),
    ("subject_token_type", Kind::Text),
    ("requested_token_type", Kind::Text),
    ("default_lifetime", Kind::Seconds),
    ("bearer_types", Kind::Words),
    ("token_retries", Kind::Number),
    ("revoke_on_shutdown", Kind::Text),
    ("revocation_audience", Kind::Text),
    ("api_key", Kind::Text),
    ("api_key_file", Kind::Text),
    ("api_key_variable", Kind::Variable),
    ("allowed_origins", Kind::Words),
    ("assume_origin", Kind::Text),
    ("header", Kind::Text),
    ("scheme", Kind::Text),
    ("name", Kind::Text),
    ("refresh_before", Kind::Seconds),
    ("fetch_timeout", Kind::Seconds),
    ("max_token_backoff", Kind::Seconds),
    ("refresh_cooldown", Kind::Seconds),
    ("max_waiting", Kind::Number),
    ("replay", Kind::Bool),
    ("dangerously_allow_http", Kind::Bool),
];

/// The same names, as serde wants them.
pub(super) const NAMES: [&str; KEYS.len()] = {
    let mut names = [""; KEYS.len()];
    let mut index = 0;
    while index < KEYS.len() {
        names[index] = KEYS[index].0;
        index += 1;
    }
    names
};

/// The key that somebody who wrote `name` may have meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let first = name.chars().next()?;
    let near = NAMES.into_iter().filter(|key| key.starts_with(first));
    let near = near.map(|key| (distance(key, name), key)).min()?;
    let allowed = if near.1.len() < 8 { 1 } else { 2 };
    (near.0 <= allowed).then_some(near.1)
}

/// How many letters are to be inserted, removed or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// A secret: its value, its file, its variable.
pub(super) type SecretKeys = [&'static str; 3];

pub(super) const CLIENT_SECRET: SecretKeys = [
    "client_secret",
    "client_secret_file",
    "client_secret_variable",
];
pub(super) const PRIVATE_KEY: SecretKeys =
    ["private_key", "private_key_file", "private_key_variable"];
pub(super) const API_KEY: SecretKeys = ["api_key", "api_key_file", "api_key_variable"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        for (name, meant) in [
            ("client_sceret", Some("client_secret")),
            ("scopes", Some("scope")),
            ("token_uri", Some("token_url")),
            ("allowed_origin", Some("allowed_origins")),
            ("client_id", Some("client_id")),
            ("a_client_id", None),
            ("port", None),
            ("service_host", None),
            ("", None),
        ] {
            assert_eq!(nearest(name), meant, "{name}");
        }
    }

    const KINDS: [&str; 7] = [
        "JSON", "number", "seconds", "table", "text", "words", "yes/no",
    ];

    #[test]
    fn the_guide_lists_every_key() {
        let guide = include_str!("../../docs/configuration.md");
        let mut rows = guide.lines().filter_map(|line| {
            let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let kind = rest.split(' ').next()?;
            KINDS.contains(&kind).then_some(key)
        });

        assert!(NAMES.into_iter().eq(rows.by_ref()), "{:?}", rows.next());
    }
}
