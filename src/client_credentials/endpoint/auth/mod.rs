//! How the client shows the token endpoint who it is (RFC 6749 §2.3), one file for each family of methods.

#[cfg(feature = "jwt")]
mod algorithm;
mod assertion;
mod client_authentication;
#[cfg(feature = "jwt")]
mod crypto;
#[cfg(feature = "jwt")]
mod der;
mod erased;
#[cfg(feature = "jwt")]
mod jwk;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "jwt")]
mod key;
#[cfg(feature = "jwt")]
mod private;
mod request;
#[cfg(feature = "jwt")]
mod rsa;
mod secret;
#[cfg(feature = "jwt")]
mod signer;
mod unsigned;

use std::{fmt, sync::Arc};

pub(super) use self::request::Target;
#[cfg(feature = "jwt")]
pub use self::{
    algorithm::{KeyAlgorithm, SecretAlgorithm},
    key::SigningKey,
    signer::{SignError, Signer},
};
use self::{
    assertion::ReadyAssertion,
    erased::Erased,
    secret::{ClientSecret, Method},
    unsigned::Unsigned,
};
pub use self::{
    client_authentication::ClientAuthentication,
    request::{AssertionAudience, TokenRequest},
};
use super::SecretSource;
use crate::client_credentials::{CacheIdentity, TokenError, trim::trimmed};

/// A client's way to authenticate at a token endpoint. Cheap to clone.
///
/// Carried out anew for every attempt, so that a secret which changes is read again. The constructors are named after
/// the methods in the IANA registry; [`custom`](Self::custom) takes any other.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::SecretFile};
///
/// let with_a_secret = ClientAuth::basic("my-client", SecretFile::new("/run/secrets/my-client"));
/// // A token that Kubernetes projects into a file.
/// let with_an_assertion = ClientAuth::assertion("my-client", SecretFile::new("/var/run/secrets/tokens/issuer"));
/// let with_a_certificate = ClientAuth::tls("my-client");
///
/// let endpoint = TokenEndpoint::new("https://issuer.example/oauth/token".parse()?, with_a_secret);
/// # drop((with_an_assertion, with_a_certificate, endpoint));
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
#[derive(Clone)]
pub struct ClientAuth {
    method: Arc<dyn Erased>,
    /// What it signs assertions with, if it does so here.
    algorithm: Option<&'static str>,
    /// The client's id had line breaks or marks at its ends, which are removed.
    trimmed_id: bool,
}

impl ClientAuth {
    /// `client_secret_basic`: id and secret in an `Authorization: Basic` header, each form-urlencoded first
    /// (RFC 6749 §2.3.1). For servers that do not decode them, see [`basic_raw`](Self::basic_raw).
    #[must_use]
    pub fn basic(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::of(id, |id| ClientSecret::new(id, secret, Method::Basic))
    }

    /// `client_secret_basic` without the encoding that RFC 6749 asks for: the two are joined by a colon as they are, as
    /// in RFC 7617. Some servers, Didit's among them, document this form; Doorkeeper understands no other. The same as
    /// [`basic`](Self::basic) for ids and secrets of letters, digits and `*-._`.
    #[must_use]
    pub fn basic_raw(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::of(id, |id| ClientSecret::new(id, secret, Method::BasicRaw))
    }

    /// `client_secret_post`: id and secret as `client_id` and `client_secret` in the form (RFC 6749 §2.3.1).
    #[must_use]
    pub fn post(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::of(id, |id| ClientSecret::new(id, secret, Method::Post))
    }

    /// `client_secret_jwt` (OpenID Connect Core §9): an assertion signed with the secret, which itself stays here.
    /// HS256; see [`client_secret_jwt_with`](Self::client_secret_jwt_with) for others.
    #[cfg(feature = "jwt")]
    #[must_use]
    pub fn client_secret_jwt(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::client_secret_jwt_with(id, secret, SecretAlgorithm::Hs256)
    }

    /// [`client_secret_jwt`](Self::client_secret_jwt) with another algorithm.
    #[cfg(feature = "jwt")]
    #[must_use]
    pub fn client_secret_jwt_with(
        id: impl Into<String>,
        secret: impl SecretSource,
        algorithm: SecretAlgorithm,
    ) -> Self {
        Self {
            algorithm: Some(algorithm.as_str()),
            ..Self::of(id, |id| jwt::SecretJwt::new(id, secret, algorithm))
        }
    }

    /// `private_key_jwt` (RFC 7523 §2.2): an assertion signed with a private key, with a new `jti` for every attempt
    /// and a life of 60 s. The key is a [`SigningKey`], or a [`Signer`] of yours, such as a KMS or an HSM.
    ///
    /// Its audience is the issuer, which [`TokenEndpoint::discover`](super::TokenEndpoint::discover) or
    /// [`TokenEndpoint::issuer`](super::TokenEndpoint::issuer) tells, or what
    /// [`assertion_audience`](super::TokenEndpoint::assertion_audience) says.
    #[cfg(feature = "jwt")]
    #[must_use]
    pub fn private_key_jwt(id: impl Into<String>, signer: impl Signer) -> Self {
        Self {
            algorithm: Some(signer.algorithm().as_str()),
            ..Self::of(id, |id| jwt::PrivateKeyJwt::new(id, signer))
        }
    }

    /// A ready assertion that somebody else signs: a token that Kubernetes projects into a file, for example, with
    /// [`SecretFile`](super::SecretFile) as its source. `client_assertion_type` is `jwt-bearer` (RFC 7523 §2.2).
    #[must_use]
    pub fn assertion(id: impl Into<String>, assertion: impl SecretSource) -> Self {
        Self::assertion_of_type(id, assertion, Self::JWT_BEARER)
    }

    /// [`assertion`](Self::assertion) with another `client_assertion_type`, such as [`JWT_SPIFFE`](Self::JWT_SPIFFE).
    #[must_use]
    pub fn assertion_of_type(
        id: impl Into<String>,
        assertion: impl SecretSource,
        assertion_type: impl Into<String>,
    ) -> Self {
        Self::of(id, |id| ReadyAssertion::new(id, assertion, assertion_type))
    }

    /// `tls_client_auth` (RFC 8705 §2.1): the certificate of the TLS connection, with `client_id` in the form.
    ///
    /// The certificate belongs to the connection: give it to
    /// [`TokenEndpoint::client_certificate`](super::TokenEndpoint::client_certificate), or use a client of yours that has it.
    #[must_use]
    pub fn tls(id: impl Into<String>) -> Self {
        Self::of(id, |id| Unsigned::new(id, &["tls_client_auth"]))
    }

    /// `self_signed_tls_client_auth` (RFC 8705 §2.2). What [`tls`](Self::tls) says holds here, too.
    #[must_use]
    pub fn self_signed_tls(id: impl Into<String>) -> Self {
        Self::of(id, |id| Unsigned::new(id, &["self_signed_tls_client_auth"]))
    }

    /// `none`: `client_id` in the form and no proof (RFC 7591 §2), for grants whose assertion is proof enough.
    #[must_use]
    pub fn none(id: impl Into<String>) -> Self {
        Self::of(id, |id| Unsigned::new(id, &["none"]))
    }

    /// Neither proof nor `client_id`, for token exchange at servers that know no clients (RFC 8693 §2.1).
    #[must_use]
    pub fn anonymous() -> Self {
        Self::custom(Unsigned::anonymous())
    }

    /// A method of your own.
    #[must_use]
    pub fn custom(method: impl ClientAuthentication) -> Self {
        Self {
            method: Arc::new(method),
            algorithm: None,
            trimmed_id: false,
        }
    }

    /// The method that `make` makes for a client with this id, without line breaks and marks at its ends.
    fn of<M: ClientAuthentication>(id: impl Into<String>, make: impl FnOnce(String) -> M) -> Self {
        let id = id.into();
        let kept = trimmed(&id);
        Self {
            trimmed_id: kept.len() < id.len(),
            ..Self::custom(make(kept.to_owned()))
        }
    }

    pub(super) fn trims_id(&self) -> bool {
        self.trimmed_id
    }

    /// The registered name of the algorithm that assertions are signed with here.
    pub(super) fn algorithm(&self) -> Option<&'static str> {
        self.algorithm
    }

    /// The `client_assertion_type` of RFC 7523 §2.2.
    pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

    /// The `client_assertion_type` of a SPIFFE JWT-SVID (draft-ietf-oauth-spiffe-client-auth).
    pub const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
}

/// So that what takes a `ClientAuthentication` takes one that is erased already.
impl ClientAuthentication for ClientAuth {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        self.method.authenticate_boxed(request).await
    }

    fn methods(&self) -> &'static [&'static str] {
        self.method.methods_of()
    }

    async fn changed(&self) -> bool {
        self.method.changed_boxed().await
    }

    fn needs_audience(&self) -> bool {
        self.method.needs_audience_of()
    }

    async fn cache_identity(&self) -> Option<CacheIdentity> {
        self.method.cache_identity_boxed().await
    }

    fn check(&self) -> Result<(), TokenError> {
        self.method.check_of()
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.methods().first().unwrap_or(&"other");
        f.debug_tuple("ClientAuth").field(method).finish()
    }
}
