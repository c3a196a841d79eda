//! Where a token may go: a line that is an origin, a line that is a URI, and the value of a `Host` field. What one
//! reader takes for the origin, every other must, too.
#![no_main]

use http::Uri;
use libfuzzer_sys::fuzz_target;
use tower_m2m::Origin;
use tower_m2m_fuzz::cut;

fuzz_target!(|data: &[u8]| {
    let (origin, rest) = cut(data);
    let (uri, host) = cut(rest);
    let Some(origin) = text(origin).and_then(|text| text.parse::<Origin>().ok()) else {
        return;
    };
    let written = origin.to_string();
    assert_eq!(written.parse::<Origin>().unwrap(), origin);
    assert!(!written.contains('@'));
    let as_uri: Uri = written.parse().unwrap();
    assert!(origin.matches(&as_uri));
    assert_eq!(Origin::of(&as_uri), Some(origin.clone()));

    if let Some(uri) = text(uri).and_then(|text| text.parse::<Uri>().ok()) {
        assert_eq!(
            origin.matches(&uri),
            Origin::of(&uri) == Some(origin.clone())
        );
        if origin.matches(&uri) {
            // What the client connects to.
            let named = uri.host().unwrap().trim_matches(['[', ']']);
            let ours = origin.host().trim_matches(['[', ']']);
            let same_address = || Some(ipv6(named)? == ipv6(ours)?);
            assert!(named.eq_ignore_ascii_case(ours) || same_address() == Some(true));
            let default = if origin.is_https() { 443 } else { 80 };
            assert_eq!(uri.port_u16().unwrap_or(default), origin.port());
            assert_eq!(uri.scheme_str(), Some(origin.scheme()));
        }
    }
    if origin.matches_authority(host) {
        let there = format!("{}://{}", origin.scheme(), text(host).unwrap());
        assert_eq!(there.parse::<Origin>().unwrap(), origin);
    }
});

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn ipv6(host: &str) -> Option<std::net::Ipv6Addr> {
    host.parse().ok()
}
