//! Token revocation (RFC 7009).
//!
//! A token is revoked only on shutdown, and only if the endpoint is configured for it. Failure to revoke a token is not
//! fatal: it expires by itself.
//!
//! The request is that of RFC 7009 §2.1: the token, the hint `access_token`, and the client authentication of a token
//! request. It is sent once and not retried, because a shutdown should not take long.

use http::Uri;

use super::{
    AssertionAudience, Location, TokenEndpoint, auth::ClientAuthentication,
    discovery::ResolvedEndpoint, fetch::into_http, response,
};
use crate::client_credentials::{AccessToken, TokenError, context::SourceContext};

/// The endpoint that revokes tokens (RFC 7009).
///
/// The endpoint receives the token and the client's credentials. Renewed metadata cannot move a discovered one to
/// another origin.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::RevocationEndpoint};
///
/// let auth = ClientAuth::basic("my-client", "my-secret");
/// let endpoint = TokenEndpoint::discover("https://issuer.example", auth)
///     .revoke_on_shutdown(RevocationEndpoint::Discovered);
/// # drop(endpoint);
/// ```
#[doc(alias("RFC 7009", "logout"))]
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RevocationEndpoint {
    /// The `revocation_endpoint` of the issuer's metadata (RFC 8414 §2).
    Discovered,
    /// The endpoint at this URL.
    At(Uri),
}

impl From<Uri> for RevocationEndpoint {
    fn from(uri: Uri) -> Self {
        Self::At(uri)
    }
}

impl TokenEndpoint {
    /// Sets where [`TokenHandle::shutdown`](super::super::TokenHandle::shutdown) revokes the token (RFC 7009): a
    /// [`Uri`], or [`RevocationEndpoint::Discovered`]. The client authenticates as in token requests. Default: the
    /// token is not revoked and expires by itself.
    ///
    /// Do not set this if the issuer may have issued the same token to another process. Some issuers return one token
    /// until it expires, and revoking it makes the requests of other processes fail.
    #[must_use]
    pub fn revoke_on_shutdown(mut self, endpoint: impl Into<RevocationEndpoint>) -> Self {
        self.revocation = Some(endpoint.into());
        self
    }

    /// Sets the audience of signed assertions in revocation requests. Some servers require the URL of the revocation
    /// endpoint, [`AssertionAudience::RequestedEndpoint`]. Default: that of
    /// [`assertion_audience`](Self::assertion_audience).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{
    ///     ClientAuth, TokenEndpoint,
    ///     client_credentials::{AssertionAudience, RevocationEndpoint, SecretFile},
    /// };
    ///
    /// let auth = ClientAuth::assertion("my-client", SecretFile::new("/run/secrets/assertion"));
    /// let endpoint = TokenEndpoint::discover("https://issuer.example", auth)
    ///     .revoke_on_shutdown(RevocationEndpoint::Discovered)
    ///     .revocation_audience(AssertionAudience::RequestedEndpoint);
    /// # drop(endpoint);
    /// ```
    #[must_use]
    pub fn revocation_audience(mut self, audience: impl Into<AssertionAudience>) -> Self {
        self.revocation_audience = Some(audience.into());
        self
    }

    /// Revokes `token` at `endpoint`. Uses metadata that was fetched for a token, and never fetches it.
    ///
    /// # Errors
    ///
    /// A configuration error, if the metadata names no revocation endpoint or has not been fetched; otherwise the error
    /// of the request.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request. The server may have revoked the token.
    pub(super) async fn revoke_at(
        &self,
        endpoint: &RevocationEndpoint,
        token: &AccessToken,
        cx: &SourceContext<'_>,
    ) -> Result<(), TokenError> {
        self.validate()?;
        let choice = match &self.location {
            Location::Known(uri) => Some(ResolvedEndpoint::at(uri.clone(), self.auth.methods())),
            Location::Discovered(discovery) => discovery.cached(),
            Location::Resource(discovery) => discovery.cached(),
        };
        let choice = choice.ok_or_else(|| self.with_endpoint(no_endpoint()))?;
        let uri = match endpoint {
            RevocationEndpoint::At(uri) => Some(uri.clone()),
            RevocationEndpoint::Discovered => choice.revocation_endpoint.clone(),
        };
        let uri = uri.ok_or_else(|| self.with_endpoint(no_endpoint()))?;
        // The error names this endpoint rather than the token endpoint.
        let url = response::redacted_uri(&uri);
        let revoked = self.send_revocation(uri, choice, token, cx).await;
        revoked.map_err(|error| error.with_endpoint(url))
    }

    /// Sends the revocation request and reads the response.
    ///
    /// # Errors
    ///
    /// The error of the request or of the response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request. The token may have been revoked.
    async fn send_revocation(
        &self,
        uri: Uri,
        choice: ResolvedEndpoint,
        token: &AccessToken,
        cx: &SourceContext<'_>,
    ) -> Result<(), TokenError> {
        let audience = self.revocation_audience.as_ref();
        let audience = audience.unwrap_or(&self.assertion_audience);
        let mut request = self.base_request(&uri, choice, audience, cx.deadline(), cx);
        let value = token.expose().unwrap_or_default();
        request.parameter("token", value);
        request.parameter("token_type_hint", "access_token");
        request.redact(value);
        // The token was issued for these credentials, so they are used even if newer ones exist.
        self.authenticate(&mut request, true).await?;
        if self.auth.needs_audience() && *audience != AssertionAudience::RequestedEndpoint {
            request.advice = Some(AUDIENCE);
        }
        // A previous certificate is sufficient for a revocation.
        let transport = self.client.ready().await?.transport;
        let http_response = transport.send(into_http(uri, &mut request)).await?;
        let context = self.response_context(&request, cx);
        response::revoked(
            http_response.status,
            &http_response.headers,
            &http_response.body,
            &context,
        )
    }
}

/// Error for metadata without a revocation endpoint.
fn no_endpoint() -> TokenError {
    TokenError::configuration(
        "cannot be followed by a revocation: the issuer's metadata has no `revocation_endpoint`; set it with \
         `.revoke_on_shutdown(uri)`, or remove that setting",
    )
}

/// Advice for a rejected revocation: the credentials were valid for a token, so the audience is the likely cause.
const AUDIENCE: &str = "check the assertion's audience: the server may expect the URL of its revocation endpoint, \
     which `.revocation_audience(AssertionAudience::RequestedEndpoint)` sets";
