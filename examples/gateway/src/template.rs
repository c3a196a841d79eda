//! Path templates: what the log says of a path, so that no identifier of a caller's gets there.

use std::borrow::Cow;

/// The templates of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Templates(Option<matchit::Router<String>>);

impl Templates {
    /// # Errors
    ///
    /// Which of them is malformed, or contradicts another.
    pub(crate) fn new(templates: &[String]) -> Result<Self, String> {
        if templates.is_empty() {
            return Ok(Self(None));
        }
        let mut router = matchit::Router::new();
        for template in templates {
            if !template.starts_with('/') {
                return Err(format!("{template:?} does not start with a slash"));
            }
            let inserted = router.insert(template.as_str(), template.clone());
            inserted.map_err(|error| format!("{template:?}: {error}"))?;
        }
        Ok(Self(Some(router)))
    }

    /// The template of `path`; without configured ones, `path` with `{}` for everything that may be an identifier.
    pub(crate) fn of<'a>(&'a self, path: &str) -> Cow<'a, str> {
        match &self.0 {
            Some(router) => match router.at(path) {
                Ok(found) => found.value.as_str().into(),
                Err(_) => "other".into(),
            },
            None => guess(path).into(),
        }
    }
}

fn guess(path: &str) -> String {
    let mut template = String::new();
    let mut segments = path.split('/').skip(1);
    for segment in segments.by_ref().take(MAX_SEGMENTS) {
        template.push('/');
        template.push_str(if is_word(segment) { segment } else { "{}" });
    }
    if segments.next().is_some() {
        template.push_str("/...");
    }
    template
}

/// Whether it is part of an API rather than data: a word in lower case, or a version.
fn is_word(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    match bytes {
        [] => true,
        [b'v', digits @ ..]
            if matches!(digits.len(), 1 | 2) && digits.iter().all(u8::is_ascii_digit) =>
        {
            true
        }
        _ => {
            segment.len() <= MAX_WORD_LEN
                && bytes
                    .iter()
                    .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_'))
        }
    }
}

/// Maximum number of segments that the log shows.
const MAX_SEGMENTS: usize = 8;

/// Maximum length of a segment that is taken for a word.
const MAX_WORD_LEN: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_in_a_path_are_not_shown() {
        let templates = Templates::default();
        for (path, template) in [
            ("/", "/"),
            ("/v1/orders/4711/line-items", "/v1/orders/{}/line-items"),
            ("/orders/", "/orders/"),
            ("/users/a@b.example", "/users/{}"),
            ("/files/0b7c0f3e-77c5-4f0e-8d7a-3b1f8f2d2c11", "/files/{}"),
            ("/t/eyJhbGciOiJub25lIn0", "/t/{}"),
            ("/x%0a", "/{}"),
            ("/a/b/c/d/e/f/g/h/i", "/a/b/c/d/e/f/g/h/..."),
            ("/abcdefghijklmnopqrstuvwxyzabc", "/{}"),
        ] {
            assert_eq!(templates.of(path), template, "{path}");
        }
    }

    #[test]
    fn only_configured_templates_are_used() {
        let given = ["/users/{name}", "/orders/{id}/items"].map(str::to_owned);
        let templates = Templates::new(&given).unwrap();

        assert_eq!(templates.of("/users/alice"), "/users/{name}");
        assert_eq!(templates.of("/orders/7/items"), "/orders/{id}/items");
        assert_eq!(templates.of("/secrets/alice"), "other");
        for wrong in [&["users"][..], &["/a/{b", "/c"], &["/a/{b}", "/a/{c}"]] {
            let wrong: Vec<_> = wrong.iter().map(|text| (*text).to_owned()).collect();
            assert!(Templates::new(&wrong).is_err(), "{wrong:?}");
        }
    }
}
