//! What follows from a token that is not bound, although a bound one was requested.

/// Action for a token that is not bound to the client's key or certificate, although
/// [`TokenEndpoint::dpop`](super::TokenEndpoint::dpop) (RFC 9449 §5) or
/// [`TokenEndpoint::certificate_bound`](super::TokenEndpoint::certificate_bound) (RFC 8705 §3.4) requests one.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::BearerAnswer;
///
/// assert_eq!(BearerAnswer::default(), BearerAnswer::Refuse);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum BearerAnswer {
    /// The fetch fails: a token that is not bound can be used by anyone who has it. The default.
    #[default]
    Refuse,
    /// The token is used as a bearer token. For a server that is being migrated to bound tokens.
    Accept,
}
