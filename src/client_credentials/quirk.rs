//! What real token endpoints do that RFC 6749 does not foresee.

use std::fmt;

/// Something odd in a token endpoint's answer, which was understood all the same.
///
/// Told by [`TokenEvent::QuirkMet`](super::TokenEvent::QuirkMet), once for each answer. Those that RFC 6749
/// [forbids](Self::is_forbidden) are refused by [`TokenEndpoint::strict`](super::TokenEndpoint::strict).
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{Quirk, TokenEvent};
///
/// fn sink(event: &TokenEvent<'_>) {
///     if let TokenEvent::QuirkMet { quirk, .. } = event {
///         println!("the issuer's answer has {quirk}");
///     }
/// }
/// # let _: fn(&TokenEvent<'_>) = sink;
/// assert!(Quirk::NoTokenType.is_forbidden());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Quirk {
    /// `expires_in` is a date rather than a number of seconds.
    AbsoluteLifetime,
    /// A member occurs twice; the last one counts.
    DuplicateMember,
    /// The access token has a line break or spaces around it, or `Bearer` in front, which is left out.
    DecoratedToken,
    /// `expires_in` is a fraction; it is rounded down.
    FractionalLifetime,
    /// The answer is a form rather than JSON.
    FormEncoded,
    /// `expires_in` is zero, negative, not a number at all, or more than a year.
    ImplausibleLifetime,
    /// The text is not the JSON of RFC 8259: a byte order mark, bytes that are not UTF-8, control characters or half
    /// surrogate pairs within strings, NULs around it.
    MisencodedText,
    /// No `expires_in`, which RFC 6749 §5.1 recommends: other members, the token itself or the default decide.
    NoLifetime,
    /// No `token_type`; it is taken for Bearer.
    NoTokenType,
    /// `scope` is an array rather than a string.
    ScopeAsArray,
    /// The token is a JWT whose `exp` is earlier than `expires_in` says; `exp` counts.
    ShorterLifetime,
    /// A number is written as a string.
    TextualLifetime,
    /// `Content-Type` is another than `application/json`.
    WrongContentType,
}

impl Quirk {
    /// Whether RFC 6749 (§3.2, §5.1, Appendix A) forbids it.
    #[must_use]
    pub fn is_forbidden(self) -> bool {
        !matches!(
            self,
            Self::NoLifetime | Self::ImplausibleLifetime | Self::ShorterLifetime
        )
    }

    /// What it is in a few words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AbsoluteLifetime => "an absolute lifetime",
            Self::DuplicateMember => "a duplicate member",
            Self::DecoratedToken => "an access_token with a scheme or white space around it",
            Self::FractionalLifetime => "a fractional lifetime",
            Self::FormEncoded => "a form-encoded body",
            Self::ImplausibleLifetime => "an implausible lifetime",
            Self::MisencodedText => "text that is not well-formed JSON in UTF-8",
            Self::NoLifetime => "no lifetime",
            Self::NoTokenType => "no token_type",
            Self::ScopeAsArray => "a scope that is an array",
            Self::ShorterLifetime => "an exp that is earlier than expires_in says",
            Self::TextualLifetime => "a lifetime that is a string",
            Self::WrongContentType => "another content type than application/json",
        }
    }
}

impl fmt::Display for Quirk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
