//! References to the upstream's own origin, which callers cannot reach: they become references to the gateway.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LOCATION, LINK, LOCATION},
};
use tower_m2m::Origin;

/// Rewrites `Location`, `Content-Location`, the targets in `Link` and that of `Refresh`.
pub(crate) fn rewrite(headers: &mut HeaderMap, upstream: &Origin) {
    for name in [LOCATION, CONTENT_LOCATION] {
        each(headers, &name, |text| relative(text, upstream));
    }
    each(headers, &LINK, |text| links(text, upstream));
    each(headers, &REFRESH, |text| refresh(text, upstream));
}

fn each(headers: &mut HeaderMap, name: &HeaderName, rewrite: impl Fn(&str) -> Option<String>) {
    let http::header::Entry::Occupied(mut entry) = headers.entry(name) else {
        return;
    };
    for value in entry.iter_mut() {
        // A value may have bytes beyond ASCII, in whatever encoding: each becomes a character, and a byte again.
        let text: String = value.as_bytes().iter().copied().map(char::from).collect();
        if let Some(written) = rewrite(&text) {
            let bytes: Option<Vec<u8>> = written
                .chars()
                .map(|letter| u8::try_from(letter).ok())
                .collect();
            if let Some(Ok(written)) = bytes.map(|bytes| HeaderValue::from_bytes(&bytes)) {
                *value = written;
            }
        }
    }
}

/// The value of a `Refresh`, such as `0; url=/orders`, with its target rewritten.
fn refresh(value: &str, upstream: &Origin) -> Option<String> {
    let (before, target) = value.split_once('=')?;
    let target = target.trim();
    let bare = target.trim_matches(['"', '\'']);
    Some(format!("{before}={}", relative(bare, upstream)?))
}

/// The reference without the upstream's origin; `None` if it has another one, or none.
fn relative(reference: &str, upstream: &Origin) -> Option<String> {
    let reference = reference.trim();
    let rest = match reference.strip_prefix("//") {
        Some(rest) => rest,
        None => {
            let (scheme, rest) = reference.split_once("://")?;
            let known = ["http", "https"];
            known
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known))
                .then_some(rest)?
        }
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let (_, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
    is_at(authority, upstream).then(|| match rest.as_bytes() {
        // Two slashes would begin another authority.
        [b'/' | b'\\', b'/' | b'\\', ..] => format!("/.{rest}"),
        [b'/' | b'\\', ..] => rest.to_owned(),
        _ => format!("/{rest}"),
    })
}

/// Whether it is the upstream's host and port. Behind a proxy of its own, an upstream may take itself to be at `http`.
fn is_at(authority: &str, upstream: &Origin) -> bool {
    ["http", "https"].iter().any(|scheme| {
        let named: Result<Origin, _> = format!("{scheme}://{authority}").parse();
        named.is_ok_and(|named| named.host() == upstream.host() && same_port(&named, upstream))
    })
}

fn same_port(named: &Origin, upstream: &Origin) -> bool {
    let default = |origin: &Origin| match origin.is_https() {
        true => origin.port() == 443,
        false => origin.port() == 80,
    };
    named.port() == upstream.port() || (default(named) && default(upstream))
}

/// The value of a `Link` (RFC 8288) with the targets, which stand in angle brackets, rewritten.
fn links(value: &str, upstream: &Origin) -> Option<String> {
    let mut written = String::new();
    let mut rest = value;
    let mut changed = false;
    while let Some((before, after)) = rest.split_once('<') {
        let Some((target, after)) = after.split_once('>') else {
            break;
        };
        let relative = relative(target, upstream);
        changed |= relative.is_some();
        written.push_str(before);
        written.push('<');
        written.push_str(relative.as_deref().unwrap_or(target));
        written.push('>');
        rest = after;
    }
    written.push_str(rest);
    changed.then_some(written)
}

const REFRESH: HeaderName = HeaderName::from_static("refresh");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_does_not_show_the_upstreams_origin() {
        let upstream: Origin = "https://inner.example:8443".parse().unwrap();
        for (location, shown) in [
            (
                "https://inner.example:8443/orders/1?a=b#c",
                Some("/orders/1?a=b#c"),
            ),
            ("HTTPS://INNER.example:8443/x", Some("/x")),
            ("http://inner.example:8443/x", Some("/x")),
            ("//inner.example:8443/x", Some("/x")),
            ("https://user:secret@inner.example:8443/x", Some("/x")),
            ("https://inner.example:8443", Some("/")),
            ("https://inner.example:8443?a", Some("/?a")),
            // It does not become another host's.
            (
                "https://inner.example:8443//evil.example/x",
                Some("/.//evil.example/x"),
            ),
            (
                "https://inner.example:8443/\\evil.example",
                Some("/./\\evil.example"),
            ),
            ("/orders/1", None),
            ("orders/1", None),
            ("?page=2", None),
            ("https://other.example/x", None),
            ("https://inner.example/x", None),
            ("https://inner.example:8443.evil.example/x", None),
            ("https://inner.example:8443@evil.example/x", None),
            ("mailto:a@inner.example", None),
        ] {
            let relative = relative(location, &upstream);

            assert_eq!(relative.as_deref(), shown, "{location}");
        }
    }

    #[test]
    fn the_default_port_may_be_omitted() {
        let upstream: Origin = "https://inner.example".parse().unwrap();
        for location in [
            "https://inner.example/x",
            "https://inner.example:443/x",
            "http://inner.example/x",
            "http://inner.example:80/x",
        ] {
            assert_eq!(
                relative(location, &upstream).as_deref(),
                Some("/x"),
                "{location}"
            );
        }
        assert_eq!(relative("http://inner.example:8080/x", &upstream), None);
    }

    #[test]
    fn link_targets_do_not_show_the_upstreams_origin() {
        let upstream: Origin = "http://inner.example:8080".parse().unwrap();
        let mut headers = HeaderMap::new();
        let first = "<http://inner.example:8080/orders?page=2>; rel=\"next\", </first>; rel=first";
        headers.append(LINK, first.parse().unwrap());
        let second = "<http://inner.example:8080/last>; rel=last";
        headers.append(LINK, second.parse().unwrap());
        let content = "http://inner.example:8080/orders/7";
        headers.insert(CONTENT_LOCATION, content.parse().unwrap());

        rewrite(&mut headers, &upstream);

        let links: Vec<_> = headers.get_all(LINK).iter().collect();
        assert_eq!(
            links,
            [
                "</orders?page=2>; rel=\"next\", </first>; rel=first",
                "</last>; rel=last"
            ]
        );
        assert_eq!(headers[CONTENT_LOCATION], "/orders/7");
    }

    #[test]
    fn non_ascii_bytes_do_not_hide_the_upstreams_origin() {
        let upstream: Origin = "http://inner.example".parse().unwrap();
        let mut headers = HeaderMap::new();
        let location = HeaderValue::from_bytes(b"http://inner.example/\xe4/\xc3\xa4").unwrap();
        headers.insert(LOCATION, location);
        let value = HeaderValue::from_static("5; URL='http://inner.example/next'");
        headers.insert(REFRESH, value);

        rewrite(&mut headers, &upstream);

        assert_eq!(headers[LOCATION], &b"/\xe4/\xc3\xa4"[..]);
        assert_eq!(headers[REFRESH], "5; URL=/next");
    }
}
