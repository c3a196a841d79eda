//! Grant types: client credentials, JWT bearer, token exchange and others.
//!
//! The grant determines `grant_type` and the parameters that belong to it. Scopes, audiences and resources are set on
//! the endpoint, because every grant accepts them.

use std::fmt;

#[cfg(feature = "jwt")]
use super::{AssertionClaims, Signer, signed_grant::SignedGrant};
use super::{
    IdentityAssertion, SecretSource, TokenExchange, TokenRequest, custom_grant::CustomGrant,
    secret::BoxSecretSource,
};
use crate::client_credentials::{CacheKey, TokenError, context::SourceContext};

/// The grant of a token request. Cheap to clone.
///
/// Its tokens and assertions are read again for every attempt, for example from a [`SecretFile`](super::SecretFile).
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     ClientAuth, TokenEndpoint,
///     client_credentials::{Grant, SecretFile},
/// };
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// let workload = SecretFile::new("/var/run/secrets/tokens/issuer");
/// let url = "https://issuer.example/oauth/token".parse()?;
/// let endpoint = TokenEndpoint::new(url, ClientAuth::anonymous())
///     .grant(Grant::jwt_bearer(workload));
/// # drop(endpoint);
/// # Ok(())
/// # }
/// ```
#[doc(alias("RFC 7523", "JWT bearer"))]
#[derive(Clone, Default)]
pub struct Grant(Kind);

/// Kind of grant.
///
/// The kind is fixed: a grant is replaced as a whole.
#[derive(Clone, Default)]
enum Kind {
    #[default]
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 7523 §2.1, with the assertion.
    JwtBearer(BoxSecretSource),
    /// RFC 7523 §2.1, with an assertion that is signed for each attempt.
    #[cfg(feature = "jwt")]
    SignedJwt(SignedGrant),
    /// RFC 8693. Boxed, because it is much larger than the other variants.
    TokenExchange(Box<TokenExchange>),
    /// RFC 7523 §2.1, with an assertion that an identity provider issues.
    IdentityAssertion(IdentityAssertion),
    /// Any other grant type.
    Custom(CustomGrant),
}

impl Grant {
    /// Returns the `client_credentials` grant (RFC 6749 §4.4), the default.
    #[must_use]
    pub fn client_credentials() -> Self {
        Self::default()
    }

    /// Returns the JWT bearer grant (RFC 7523 §2.1). `assertion` is a JWT that the server trusts, for example from a
    /// workload identity.
    ///
    /// If the assertion also identifies the client, use [`ClientAuth::anonymous`](super::ClientAuth).
    ///
    /// The assertion is read for every attempt and redacted from errors. A server rejects an expired one with
    /// `invalid_grant`, which is the kind [`Rejected`](crate::client_credentials::TokenErrorKind::Rejected); no
    /// fallback is tried then.
    #[must_use]
    pub fn jwt_bearer(assertion: impl SecretSource) -> Self {
        Self(Kind::JwtBearer(BoxSecretSource::new(
            "assertion",
            assertion,
        )))
    }

    /// Returns the JWT bearer grant (RFC 7523 §2.1) with an assertion that `signer` signs, a new one for each attempt.
    /// The signer is a [`SigningKey`](super::SigningKey), or any [`Signer`], such as a KMS.
    ///
    /// For Google's service accounts, see [`GoogleServiceAccount`](super::GoogleServiceAccount). If the assertion also
    /// identifies the client, use [`ClientAuth::anonymous`](super::ClientAuth::anonymous).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{
    ///     ClientAuth, TokenEndpoint,
    ///     client_credentials::{AssertionClaims, Grant, KeyAlgorithm, SecretFile, SigningKey},
    /// };
    ///
    /// # fn main() -> Result<(), http::uri::InvalidUri> {
    /// // DocuSign.
    /// let key =
    ///     SigningKey::source(KeyAlgorithm::Rs256, SecretFile::new("/run/secrets/docusign.pem"));
    /// let claims = AssertionClaims::new("integration key")
    ///     .subject("user id")
    ///     .audience("account.docusign.com")
    ///     .scope_claim(true);
    /// let url = "https://account.docusign.com/oauth/token".parse()?;
    /// let endpoint = TokenEndpoint::new(url, ClientAuth::anonymous())
    ///     .grant(Grant::signed_jwt(key, claims))
    ///     .scope("signature impersonation");
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "jwt")]
    #[must_use]
    pub fn signed_jwt(signer: impl Signer, claims: AssertionClaims) -> Self {
        Self(Kind::SignedJwt(SignedGrant::new(signer, claims)))
    }

    /// Returns the grant type `name` with these parameters (RFC 6749 §4.5). Their values are read for every attempt and
    /// treated as secrets: they are redacted from errors and never printed.
    ///
    /// A parameter that is no secret may be set with [`TokenEndpoint::parameter`](super::TokenEndpoint::parameter) as
    /// well. The parameters of the client authentication and `scope` have settings of their own.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::client_credentials::{Grant, SecretFile};
    ///
    /// let zoom = Grant::custom("account_credentials", [("account_id", "my-account")]);
    /// let ibm = Grant::custom(
    ///     "urn:ibm:params:oauth:grant-type:apikey",
    ///     [("apikey", SecretFile::new("/run/secrets/apikey"))],
    /// );
    /// # drop((zoom, ibm));
    /// ```
    #[must_use]
    pub fn custom<N: Into<String>, S: SecretSource>(
        name: impl Into<String>,
        parameters: impl IntoIterator<Item = (N, S)>,
    ) -> Self {
        Self(Kind::Custom(CustomGrant::new(name, parameters)))
    }

    /// Returns a token exchange (RFC 8693) of `subject`, whose type is a URI such as [`TokenExchange::JWT`]. For
    /// further settings, pass a [`TokenExchange`] instead.
    #[must_use]
    pub fn token_exchange(subject: impl SecretSource, subject_type: impl Into<String>) -> Self {
        TokenExchange::new(subject, subject_type).into()
    }

    /// Writes the grant's parameters, and `scopes`, unless there are none. `issuer` and `resources` are those of the
    /// endpoint.
    ///
    /// # Errors
    ///
    /// The error of a token that cannot be read, or of a signer. Nothing is sent then.
    pub(super) async fn write(
        &self,
        request: &mut TokenRequest,
        scopes: &[String],
        issuer: Option<&str>,
        resources: &[&str],
        cx: &SourceContext<'_>,
    ) -> Result<(), TokenError> {
        request.parameter("grant_type", self.name());
        match &self.0 {
            Kind::ClientCredentials => {}
            Kind::JwtBearer(assertion) => {
                let assertion = request.read(assertion).await?;
                request.parameter("assertion", assertion.expose());
                // A server may quote the assertion in its error.
                request.redact(assertion);
            }
            #[cfg(feature = "jwt")]
            Kind::SignedJwt(signed) => signed.write(request, scopes).await?,
            Kind::TokenExchange(exchange) => exchange.write(request).await?,
            Kind::IdentityAssertion(identity) => {
                let assertion = identity.write(request, scopes, issuer, resources, cx);
                assertion.await?;
            }
            Kind::Custom(custom) => custom.write(request).await?,
        }
        // Without the parameter the server uses its default scope (RFC 6749 §3.3).
        if !scopes.is_empty() && !self.takes_scopes() {
            request.parameter("scope", scopes.join(" "));
        }
        Ok(())
    }

    /// Returns whether the scopes are part of the grant's assertion.
    fn takes_scopes(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "jwt")]
            Kind::SignedJwt(signed) => signed.takes_scopes(),
            _ => false,
        }
    }

    /// Returns whether the audience of assertions must be known.
    pub(super) fn needs_audience(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "jwt")]
            Kind::SignedJwt(signed) => signed.needs_audience(),
            Kind::IdentityAssertion(identity) => identity.needs_audience(),
            _ => false,
        }
    }

    /// Returns whether a setting determines the audience of the grant's assertion. `issuer` and `audience` say whether a
    /// setting determines the issuer of the endpoint, and the audience of client assertions.
    #[cfg_attr(not(feature = "jwt"), expect(unused_variables))]
    pub(super) fn has_fixed_audience(&self, issuer: bool, audience: bool) -> bool {
        match &self.0 {
            #[cfg(feature = "jwt")]
            Kind::SignedJwt(signed) => audience || !signed.needs_audience(),
            Kind::IdentityAssertion(identity) => issuer || !identity.needs_audience(),
            _ => false,
        }
    }

    /// Checks that this build can use the grant.
    ///
    /// # Errors
    ///
    /// A configuration error, if a key in this process cannot sign.
    pub(super) fn validate(&self) -> Result<(), TokenError> {
        match &self.0 {
            #[cfg(feature = "jwt")]
            Kind::SignedJwt(signed) => signed.validate(),
            _ => Ok(()),
        }
    }

    /// Returns the problem with the parameters of a custom grant. `others` are the parameters that a setting adds.
    pub(super) fn problem(&self, others: impl Fn(&str) -> bool) -> Option<String> {
        match &self.0 {
            Kind::Custom(custom) => custom.problem(others),
            _ => None,
        }
    }

    /// Returns whether a token of the grant has changed since it was last used.
    pub(super) async fn changed(&self) -> bool {
        match &self.0 {
            Kind::ClientCredentials => false,
            Kind::JwtBearer(assertion) => assertion.changed().await,
            #[cfg(feature = "jwt")]
            Kind::SignedJwt(signed) => signed.changed().await,
            Kind::IdentityAssertion(identity) => identity.changed().await,
            Kind::Custom(custom) => custom.changed().await,
            Kind::TokenExchange(exchange) => exchange.changed().await,
        }
    }

    /// Returns the cache key of the grant. Returns `None` if one of its tokens cannot be read.
    pub(super) async fn cache_key(&self) -> Option<CacheKey> {
        let cache_key = CacheKey::new(self.name());
        match &self.0 {
            Kind::ClientCredentials => Some(cache_key),
            Kind::JwtBearer(assertion) => {
                let assertion = assertion.peek().await?;
                Some(cache_key.field("assertion", assertion.expose()))
            }
            #[cfg(feature = "jwt")]
            Kind::SignedJwt(signed) => signed.add_to_cache_key(cache_key).await,
            Kind::TokenExchange(exchange) => exchange.add_to_cache_key(cache_key).await,
            Kind::IdentityAssertion(identity) => identity.add_to_cache_key(cache_key).await,
            Kind::Custom(custom) => custom.add_to_cache_key(cache_key).await,
        }
    }

    /// Discards cached assertions, one of which the server has rejected.
    pub(super) fn forget(&self) {
        if let Kind::IdentityAssertion(identity) = &self.0 {
            identity.forget();
        }
    }

    /// Returns whether the grant's RFC allows several `audience` parameters.
    pub(super) fn takes_audiences(&self) -> bool {
        matches!(self.0, Kind::TokenExchange(_))
    }

    /// Returns the value of `grant_type`.
    fn name(&self) -> &str {
        match &self.0 {
            Kind::ClientCredentials => "client_credentials",
            Kind::JwtBearer(_) => JWT_BEARER,
            #[cfg(feature = "jwt")]
            Kind::SignedJwt(_) => JWT_BEARER,
            Kind::IdentityAssertion(_) => JWT_BEARER,
            Kind::Custom(custom) => custom.name(),
            Kind::TokenExchange(_) => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }
}

impl From<IdentityAssertion> for Grant {
    fn from(identity: IdentityAssertion) -> Self {
        Self(Kind::IdentityAssertion(identity))
    }
}

impl From<TokenExchange> for Grant {
    fn from(exchange: TokenExchange) -> Self {
        Self(Kind::TokenExchange(Box::new(exchange)))
    }
}

/// Prints the grant type only.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grant").field(&self.name()).finish()
    }
}

/// `grant_type` of RFC 7523 §2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
