//! Parsing of hosts and ports, and redaction of malformed origins.

use std::net::Ipv6Addr;

use super::scheme::Scheme;

/// Splits `authority` into host and port; `None` if it has user information, an open bracket, or text after the bracket
/// that is not a port.
///
/// `http::Uri::port()` cannot be used: it returns no port for `:` and `:65536`, and accepts `:00443` and `:+443` as 443.
pub(super) fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.contains('@') {
        return None;
    }
    // An IPv6 address contains colons, so it ends at its bracket.
    let end = match authority.strip_prefix('[') {
        Some(_) => authority.find(']')? + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    match authority.split_at(end) {
        (host, "") => Some((host, None)),
        (host, rest) => Some((host, Some(rest.strip_prefix(':')?))),
    }
}

/// Returns the port as a number, or the scheme's default; `None` if it is not a number in `1..=65535` without a sign or
/// leading zeros.
pub(super) fn effective(port: Option<&str>, scheme: Scheme) -> Option<u16> {
    let Some(port) = port else {
        return Some(scheme.default_port());
    };
    // `u16::from_str` accepts a leading `+` and leading zeros.
    let plain = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    port.parse().ok().filter(|_| plain)
}

/// Returns the host in lower case, or an IPv6 address in canonical form (RFC 5952); `None` if it is malformed.
pub(super) fn canonical(host: &str) -> Option<Box<str>> {
    if host.starts_with('[') {
        return ipv6(host).map(|address| format!("[{address}]").into());
    }
    // No percent-encoding: clients disagree on whether to decode a host before connecting to it.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!host.is_empty() && host.bytes().all(plain)).then(|| host.to_ascii_lowercase().into())
}

/// Parses an IPv6 address in brackets.
pub(super) fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Returns `text` for an error message, with `...` in place of what could be user information (which may contain a `/` or
/// a `?`) and of what follows a `?` or `#`.
pub(super) fn without_secrets(text: &str) -> Box<str> {
    // An `@` in front of `://` may belong to user information with a password such as `a://b`.
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('@') => (format!("{scheme}://"), rest),
        _ => (String::new(), text),
    };
    // The last `@`: a password may contain one that is not encoded.
    let (user, rest) = rest
        .rsplit_once('@')
        .map_or(("", rest), |(_, rest)| ("...@", rest));
    let (output, query) = rest
        .find(['?', '#'])
        .map_or((rest, ""), |at| (&rest[..=at], "..."));
    let cut: String = output.chars().take(MAX_SHOWN_CHARS).collect();
    format!("{scheme}{user}{cut}{query}").into()
}

/// Maximum length, in characters, of a malformed value in an error message.
const MAX_SHOWN_CHARS: usize = 200;
