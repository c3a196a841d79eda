//! Deviations of token endpoints from RFC 6749 that are accepted.
//!
//! Being lenient here keeps a client working with servers that cannot be changed; reporting it keeps the deviation
//! visible. None of the deviations affects where the token is sent or what it is worth.

use std::fmt;

/// A deviation in a token endpoint's response that was accepted.
///
/// Reported by [`TokenEvent::NonConformingResponse`](super::TokenEvent::NonConformingResponse), once per response.
/// [`TokenEndpoint::strict`](super::TokenEndpoint::strict) rejects those that RFC 6749 [forbids](Self::is_forbidden).
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{NonConformance, TokenEvent};
///
/// fn sink(event: &TokenEvent<'_>) {
///     if let TokenEvent::NonConformingResponse { non_conformance, .. } = event {
///         println!("the issuer's response has {non_conformance}");
///     }
/// }
/// # let _: fn(&TokenEvent<'_>) = sink;
/// assert!(NonConformance::NoTokenType.is_forbidden());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum NonConformance {
    /// `expires_in` is a date rather than a number of seconds.
    AbsoluteLifetime,
    /// A member occurs twice. The last one is used.
    DuplicateMember,
    /// The access token is surrounded by line breaks or spaces, or begins with `Bearer`. These are removed.
    DecoratedToken,
    /// `expires_in` is a fraction. It is rounded down.
    FractionalLifetime,
    /// The response is form-encoded rather than JSON.
    FormEncoded,
    /// `expires_in` is zero, negative, not a number at all, or more than a year.
    ImplausibleLifetime,
    /// The text is not JSON according to RFC 8259: it has a byte order mark, bytes that are not UTF-8, control
    /// characters or unpaired surrogates in strings, or NULs around it.
    MisencodedText,
    /// There is no `expires_in`, which RFC 6749 §5.1 recommends. Other members, the token itself or the default
    /// determine the lifetime.
    NoLifetime,
    /// There is no `token_type`. `Bearer` is assumed.
    NoTokenType,
    /// `scope` is an array rather than a string.
    ScopeAsArray,
    /// The token is a JWT whose `exp` is earlier than `expires_in`. `exp` is used.
    ShorterLifetime,
    /// A number is written as a string.
    TextualLifetime,
    /// `Content-Type` is not `application/json`.
    WrongContentType,
}

impl NonConformance {
    /// Returns whether RFC 6749 (§3.2, §5.1, Appendix A) forbids the deviation.
    #[must_use]
    pub fn is_forbidden(self) -> bool {
        !matches!(
            self,
            Self::NoLifetime | Self::ImplausibleLifetime | Self::ShorterLifetime
        )
    }

    /// Returns a short description.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AbsoluteLifetime => "an absolute lifetime",
            Self::DuplicateMember => "a duplicate member",
            Self::DecoratedToken => "an access_token with a scheme or surrounding whitespace",
            Self::FractionalLifetime => "a fractional lifetime",
            Self::FormEncoded => "a form-encoded body",
            Self::ImplausibleLifetime => "an implausible lifetime",
            Self::MisencodedText => "text that is not well-formed JSON in UTF-8",
            Self::NoLifetime => "no lifetime",
            Self::NoTokenType => "no token_type",
            Self::ScopeAsArray => "a scope that is an array",
            Self::ShorterLifetime => "an exp that is earlier than expires_in implies",
            Self::TextualLifetime => "a lifetime that is a string",
            Self::WrongContentType => "a content type other than application/json",
        }
    }
}

impl fmt::Display for NonConformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
