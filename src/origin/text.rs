//! How hosts and ports are written.

use std::net::Ipv6Addr;

use super::scheme::Scheme;

/// Host and port of `authority`; `None` with user information or an open bracket.
///
/// `http::Uri` gives no port for `:` and `:65536`, and takes `:00443` and `:+443` for 443, so its `port()` is no help.
pub(super) fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.contains('@') {
        return None;
    }
    let end = match authority.strip_prefix('[') {
        Some(_) => authority.find(']')? + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    match authority.split_at(end) {
        (host, "") => Some((host, None)),
        (host, rest) => Some((host, Some(rest.strip_prefix(':')?))),
    }
}

pub(super) fn effective(port: Option<&str>, scheme: Scheme) -> Option<u16> {
    let Some(port) = port else {
        return Some(scheme.default_port());
    };
    let plain = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    port.parse().ok().filter(|_| plain)
}

pub(super) fn canonical(host: &str) -> Option<Box<str>> {
    if host.starts_with('[') {
        return ipv6(host).map(|address| format!("[{address}]").into());
    }
    // No percent-encoding: clients disagree on whether to decode a host before they connect to it.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!host.is_empty() && host.bytes().all(plain)).then(|| host.to_ascii_lowercase().into())
}

pub(super) fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// `text` for an error message: what could be user information (which may hold a `/` or a `?`) and what follows a `?`
/// or `#` becomes `...`.
pub(super) fn without_secrets(text: &str) -> Box<str> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('@') => (format!("{scheme}://"), rest),
        _ => (String::new(), text),
    };
    let (user, rest) = rest
        .rsplit_once('@')
        .map_or(("", rest), |(_, rest)| ("...@", rest));
    let (shown, query) = rest
        .find(['?', '#'])
        .map_or((rest, ""), |at| (&rest[..=at], "..."));
    let cut: String = shown.chars().take(SHOWN).collect();
    format!("{scheme}{user}{cut}{query}").into()
}

/// Longest part of a malformed value in an error message, in characters.
const SHOWN: usize = 200;
