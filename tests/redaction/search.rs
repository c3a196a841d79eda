//! What is searched for, and how it may be hidden.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// One that resembles a token, one that does not, and two with characters that encodings change.
pub(crate) const SECRETS: [&str; 4] = [
    "Jx7-qkW2.vRz9_bTn4~LmP8hCy3",
    "QzvXkjWpgh",
    "Wd+kz/Qy=Vb&xH%j",
    "Fq\"Kv\\Zxu' pGw jTy",
];
pub(crate) const TOKEN: &str = "tOk9-Qx8vJw7kZp6rHy5nBc4";
pub(crate) const SHORT_TOKEN: &str = "TgVbNhYjUm";
pub(crate) const API_KEY: &str = "aPi5-kEy/Rw4+Xs6=Dz7Fv8";

/// The first eight bytes of a canary that are in `text`: as they are, percent-encoded, in base64, or one in the other.
pub(crate) fn find(text: &str) -> Option<&'static str> {
    let canaries = SECRETS.into_iter().chain([TOKEN, SHORT_TOKEN, API_KEY]);
    find_any(text, canaries)
}

/// The same for other canaries.
pub(crate) fn find_any<'a>(text: &str, canaries: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let forms = forms(text);
    let mut canaries = canaries;
    canaries.find_map(|canary| forms.iter().find_map(|form| part_of(canary, form)))
}

fn part_of<'a>(canary: &'a str, form: &str) -> Option<&'a str> {
    (0..=canary.len() - PART)
        .map(|at| &canary[at..at + PART])
        .find(|part| form.contains(part))
}

fn forms(text: &str) -> Vec<String> {
    let mut forms = vec![text.to_owned(), text.replace('\\', "")];
    forms.push(percent_decode(text.as_bytes()).decode_utf8_lossy().into());
    forms.push(forms[2].replace('+', " "));
    for at in 0..3 {
        let decoded = decoded(&forms[at]);
        forms.push(
            percent_decode(decoded.as_bytes())
                .decode_utf8_lossy()
                .into(),
        );
        forms.push(decoded);
    }
    forms
}

/// Whatever base64 of either alphabet there is, read from each of its first four characters on.
fn decoded(text: &str) -> String {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&STANDARD, config);
    let text = text.replace('-', "+").replace('_', "/");
    let runs = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '/');
    let mut found = String::new();
    for run in runs.filter(|run| run.len() >= PART) {
        for start in 0..4 {
            let part = &run[start..];
            // One character alone is less than a byte.
            let whole = part.len() - usize::from(part.len() % 4 == 1);
            let bytes = engine.decode(&part[..whole]).unwrap_or_default();
            found.push_str(&String::from_utf8_lossy(&bytes));
            found.push('\n');
        }
    }
    found
}

pub(crate) fn percent(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// With `%2b` rather than `%2B`.
pub(crate) fn percent_lower(text: &str) -> String {
    let encoded = percent(text);
    let mut parts = encoded.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (code, rest) = part.split_at(2);
        format!("{text}%{}{rest}", code.to_ascii_lowercase())
    })
}

const PART: usize = 8;

#[test]
fn the_search_finds_a_canary_in_every_encoding() {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    for canary in SECRETS.into_iter().chain([TOKEN, SHORT_TOKEN, API_KEY]) {
        let percent = percent(canary);
        let pair = format!("id:{canary}");
        for text in [
            canary.to_owned(),
            format!("{canary:?}"),
            format!("half of it: {}", &canary[1..9]),
            format!("client_secret={percent}&x=1"),
            format!(
                "client_secret={}&x=1",
                percent_lower(canary).replace("%20", "+")
            ),
            format!("value {}.", STANDARD.encode(canary)),
            format!("value-{}.", URL_SAFE_NO_PAD.encode(canary)),
            format!("Basic {}", STANDARD.encode(&pair)),
            format!("Basic {}", STANDARD.encode(format!("id:{percent}"))),
            self::percent(&STANDARD.encode(&pair)),
        ] {
            assert!(find(&text).is_some(), "{canary} in {text}");
        }
    }
}

#[test]
fn the_search_finds_nothing_in_ordinary_text() {
    let text = "token request to https://id.example/token was rejected: check the client id and secret [secret] Basic \
                aWQ6c29tZXRoaW5n client_secret=%2Bother";

    assert_eq!(find(text), None);
}
