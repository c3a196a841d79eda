//! The schemes of an origin: `http` and `https`.
//!
//! Any other scheme has no origin here, and so gets no token.

use http::Uri;

/// The scheme of an origin.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// Returns the scheme of `uri`; `None` if it has none or another one.
    #[inline]
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        // `http::Uri` has constants for both schemes, so the usual case needs no comparison of text.
        let scheme = uri.scheme()?;
        if *scheme == http::uri::Scheme::HTTPS {
            return Some(Self::Https);
        }
        Self::parse(scheme.as_str())
    }

    /// Parses a scheme, in any case (RFC 3986 §3.1).
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Http, Self::Https]
            .into_iter()
            .find(|scheme| scheme.as_str().eq_ignore_ascii_case(text))
    }

    /// Returns the scheme in lower case.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns the default port: 80 or 443 (RFC 9110 §4.2).
    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}
