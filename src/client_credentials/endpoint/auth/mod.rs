//! Client authentication at the token endpoint (RFC 6749 §2.3), one file for each family of methods.
//!
//! A method consists of a constructor here and an implementation of `ClientAuthentication`:
//!
//! - `secret`: `client_secret_basic` and `client_secret_post`.
//! - `jwt`: `client_secret_jwt` and `private_key_jwt`, with `jws`, `key`, `signer` and `crypto`.
//! - `assertion`: an assertion that is issued elsewhere.
//! - `no_secret`: methods without credentials in the request.
//!
//! `private`, `jwk`, `der`, `rsa` and `service_account_file` read private keys. `certificate_header` names a
//! certificate.

#[cfg(feature = "jwt")]
mod algorithm;
mod assertion;
#[cfg(feature = "jwt")]
mod certificate_header;
mod client_authentication;
#[cfg(feature = "jwt")]
mod crypto;
#[cfg(feature = "jwt")]
mod der;
mod erased;
#[cfg(feature = "jwt")]
mod jwk;
#[cfg(feature = "jwt")]
mod jws;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "jwt")]
mod key;
mod no_secret;
#[cfg(feature = "jwt")]
mod private;
mod request;
#[cfg(feature = "jwt")]
mod rsa;
mod secret;
#[cfg(feature = "jwt")]
mod service_account_file;
#[cfg(feature = "jwt")]
mod signer;

use std::{fmt, sync::Arc};

#[cfg(feature = "dpop")]
pub(super) use self::jws::validate_provider;
pub(super) use self::request::Target;
#[cfg(feature = "jwt")]
pub use self::{
    algorithm::{KeyAlgorithm, SecretAlgorithm},
    certificate_header::CertificateHeader,
    key::SigningKey,
    signer::{SignError, Signer},
};
use self::{
    assertion::PreissuedAssertion,
    erased::Erased,
    no_secret::NoSecret,
    secret::{ClientSecret, Method},
};
pub use self::{
    client_authentication::ClientAuthentication,
    request::{AssertionAudience, TokenRequest},
};
#[cfg(feature = "jwt")]
pub(super) use self::{jws::JwsSigner, service_account_file::ServiceAccountFile};
use super::SecretSource;
use crate::client_credentials::{CacheKey, TokenError, trim::trimmed};

/// A client authentication method. Cheap to clone.
///
/// The method runs for every attempt, and so reads a secret again each time. The constructors are named after the
/// methods in the IANA registry. [`custom`](Self::custom) accepts any other method.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::SecretFile};
///
/// let with_a_secret =
///     ClientAuth::basic("my-client", SecretFile::new("/run/secrets/my-client"));
/// // A token that Kubernetes projects into a file.
/// let with_an_assertion =
///     ClientAuth::assertion("my-client", SecretFile::new("/var/run/secrets/tokens/issuer"));
/// let with_a_certificate = ClientAuth::tls("my-client");
///
/// let endpoint =
///     TokenEndpoint::new("https://issuer.example/oauth/token".parse()?, with_a_secret);
/// # drop((with_an_assertion, with_a_certificate, endpoint));
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
#[doc(alias("client_secret_basic", "client_secret_post", "client_secret_jwt"))]
#[derive(Clone)]
pub struct ClientAuth {
    /// The method, type-erased.
    method: Arc<dyn Erased>,
    /// Algorithm of the assertions that it signs. `None` for a method that does not sign.
    algorithm: Option<&'static str>,
    /// Whether line breaks, byte order marks or NUL characters were removed from the ends of the client id.
    trimmed_id: bool,
}

impl ClientAuth {
    /// `client_secret_basic`: sends the id and the secret in an `Authorization: Basic` header, each form-urlencoded
    /// first (RFC 6749 §2.3.1). For servers that do not decode them, see [`basic_raw`](Self::basic_raw).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::SecretVariable};
    ///
    /// let auth = ClientAuth::basic("orders", SecretVariable::new("CLIENT_SECRET"));
    /// let endpoint = TokenEndpoint::discover("https://issuer.example", auth);
    /// # drop(endpoint);
    /// ```
    #[must_use]
    pub fn basic(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::of(id, |id| ClientSecret::new(id, secret, Method::Basic))
    }

    /// `client_secret_basic` without form-urlencoding: joins the id and the secret with a colon as they are (RFC 7617).
    ///
    /// Some servers, such as Didit's, document this form; Doorkeeper accepts no other. For ids and secrets of letters,
    /// digits and `*-._` it equals [`basic`](Self::basic). The id must not contain a colon.
    #[must_use]
    pub fn basic_raw(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::of(id, |id| ClientSecret::new(id, secret, Method::BasicRaw))
    }

    /// `client_secret_post`: sends the id and the secret in the form, as `client_id` and `client_secret` (RFC 6749
    /// §2.3.1).
    ///
    /// RFC 6749 advises against this method for clients that can use the header. Use it if the server documents no
    /// other; a server may accept only one of the two.
    #[must_use]
    pub fn post(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::of(id, |id| ClientSecret::new(id, secret, Method::Post))
    }

    /// `client_secret_jwt` (OpenID Connect Core §9): sends an assertion signed with the secret, never the secret
    /// itself. Uses HS256; for other algorithms, see [`client_secret_jwt_with`](Self::client_secret_jwt_with).
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

    /// `private_key_jwt` (RFC 7523 §2.2): sends an assertion signed with a private key. Each attempt has a new `jti`,
    /// and an assertion is valid for 60 s. The key is a [`SigningKey`], or any [`Signer`], such as a KMS or an HSM.
    ///
    /// The audience is the issuer of [`TokenEndpoint::discover`](super::TokenEndpoint::discover) or
    /// [`TokenEndpoint::issuer`](super::TokenEndpoint::issuer), unless
    /// [`assertion_audience`](super::TokenEndpoint::assertion_audience) sets another one.
    #[cfg(feature = "jwt")]
    #[must_use]
    pub fn private_key_jwt(id: impl Into<String>, signer: impl Signer) -> Self {
        Self {
            algorithm: Some(signer.algorithm().as_str()),
            ..Self::of(id, |id| jwt::PrivateKeyJwt::new(id, signer))
        }
    }

    /// Sends an assertion that is issued elsewhere, such as a token that Kubernetes projects into a file, with
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
        Self::of(id, |id| {
            PreissuedAssertion::new(id, assertion, assertion_type)
        })
    }

    /// `tls_client_auth` (RFC 8705 §2.1): authenticates with the certificate of the TLS connection, and sends
    /// `client_id` in the form.
    ///
    /// Pass the certificate to [`TokenEndpoint::client_certificate`](super::TokenEndpoint::client_certificate), or use
    /// a client of your own that presents it.
    #[must_use]
    pub fn tls(id: impl Into<String>) -> Self {
        Self::of(id, |id| NoSecret::new(id, &["tls_client_auth"]))
    }

    /// `self_signed_tls_client_auth` (RFC 8705 §2.2). The certificate is passed as for [`tls`](Self::tls).
    #[must_use]
    pub fn self_signed_tls(id: impl Into<String>) -> Self {
        Self::of(id, |id| NoSecret::new(id, &["self_signed_tls_client_auth"]))
    }

    /// `none`: sends `client_id` in the form without credentials (RFC 7591 §2). For grants whose assertion is
    /// sufficient.
    #[must_use]
    pub fn none(id: impl Into<String>) -> Self {
        Self::of(id, |id| NoSecret::new(id, &["none"]))
    }

    /// Sends neither credentials nor `client_id`. For token exchange at servers without registered clients (RFC 8693
    /// §2.1).
    #[must_use]
    pub fn anonymous() -> Self {
        Self::custom(NoSecret::anonymous())
    }

    /// Uses a method of your own.
    ///
    /// The method decides what is sent, what is redacted and what the cache key is; see [`ClientAuthentication`].
    #[must_use]
    pub fn custom(method: impl ClientAuthentication) -> Self {
        Self {
            method: Arc::new(method),
            algorithm: None,
            trimmed_id: false,
        }
    }

    /// Creates a method with `make`, which is given the client id, trimmed at both ends.
    ///
    /// The trimmed id is what is sent, validated and part of the cache key.
    fn of<M: ClientAuthentication>(id: impl Into<String>, make: impl FnOnce(String) -> M) -> Self {
        let id = id.into();
        // An id from a file or a variable may end with a line break, which no server accepts.
        let value = trimmed(&id);
        Self {
            trimmed_id: value.len() < id.len(),
            ..Self::custom(make(value.to_owned()))
        }
    }

    /// Returns whether the client id was trimmed.
    pub(super) fn trims_id(&self) -> bool {
        self.trimmed_id
    }

    /// Returns the registered name of the algorithm that signs assertions.
    pub(super) fn algorithm(&self) -> Option<&'static str> {
        self.algorithm
    }

    /// `client_assertion_type` of RFC 7523 §2.2.
    pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

    /// `client_assertion_type` of a SPIFFE JWT-SVID (draft-ietf-oauth-spiffe-client-auth).
    pub const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
}

/// Delegates to the erased method, so that `ClientAuth` can be used wherever a method is expected.
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

    async fn cache_key(&self) -> Option<CacheKey> {
        self.method.cache_key_boxed().await
    }

    fn validate(&self) -> Result<(), TokenError> {
        self.method.validate_of()
    }
}

/// Prints the name of the method only.
impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.methods().first().unwrap_or(&"other");
        f.debug_tuple("ClientAuth").field(method).finish()
    }
}
