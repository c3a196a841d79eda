//! One attempt to get a token: locate the endpoint, authenticate, send the request, read the response.
//!
//! An attempt never retries and never waits, except for discovery, for the secrets and for a signer. `retry` decides
//! what happens after a failure.
//!
//! The order of steps matters. The secrets are read last before the request, so that a value that was replaced during
//! discovery is not used. The time of the request is taken after they were read, because a vault may be slow. And the
//! fallback is set only after the response was read as a token.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use tokio::time::Instant;

use super::{
    AssertionAudience, Location, TokenEndpoint, TokenRequest,
    auth::{ClientAuthentication, Target},
    discovery::{ClientCapabilities, Found, ResolvedEndpoint},
    fetch_key::FetchKey,
    form::Form,
    response,
    transport::{JSON, Transport, USER_AGENT},
    warnings::report_trimmed,
};
use crate::{
    Attempts,
    attempts::Flags,
    client_credentials::{
        AccessToken, TokenError, TokenErrorKind, TokenEvent, context::SourceContext,
    },
};

/// Why an attempt returned no token.
///
/// `retry` decides by these values alone. An error before the request was sent, such as an unreadable secret,
/// counts neither as a request nor as a rejection.
pub(super) struct FailedAttempt {
    /// The error.
    pub(super) error: TokenError,
    /// Whether a token request was sent.
    pub(super) request_sent: bool,
    /// Whether another DPoP proof, with a nonce or a time that the server has just sent, may be accepted.
    pub(super) needs_new_proof: bool,
    /// Whether the server rejected an assertion that had been used before, so that a new one may be accepted.
    pub(super) needs_new_assertion: bool,
    /// Whether the server rejected the credentials and fallback credentials, which obtained a token before, are
    /// available.
    pub(super) has_fallback: bool,
}

impl From<TokenError> for FailedAttempt {
    fn from(error: TokenError) -> Self {
        Self {
            error,
            request_sent: false,
            needs_new_proof: false,
            needs_new_assertion: false,
            has_fallback: false,
        }
    }
}

impl TokenEndpoint {
    /// Makes one token request, which fails at `deadline`. With `use_fallback`, uses the fallback credentials: those
    /// that last obtained a token. `requests` is the number of requests that this fetch has sent before.
    ///
    /// # Errors
    ///
    /// The error, with whether a request was sent and whether a fallback exists, on which the next attempt depends.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after the request was sent, the server may have issued a token that is lost. The
    /// fallback is not set then.
    pub(super) async fn attempt(
        &self,
        transport: &Transport,
        requests: u32,
        use_fallback: bool,
        key: &FetchKey,
        deadline: Instant,
        cx: &SourceContext<'_>,
    ) -> Result<AccessToken, FailedAttempt> {
        let (endpoint, found) = self.resolve(transport, cx).await?;
        let mut request = self
            .request(endpoint, found.as_deref(), use_fallback, deadline, cx)
            .await?;
        for name in request.used.take_trimmed() {
            report_trimmed(name, cx);
        }
        // A secret that could not be read was replaced by its last value, so the cache key computed from the current
        // secrets does not describe this token.
        let missed = request.used.take_read_errors();
        let mut private = use_fallback || request.is_private || !missed.is_empty();
        for error in missed {
            self.emit_fallback_used(error, cx);
        }
        let proof = key.prove(&mut request, deadline, cx).await?;
        // Taken before the request is sent: the lifetime counts from then, so a slow response never extends it.
        let sent_at = cx.clock().now();
        let mut http = into_http(request.token_endpoint().clone(), &mut request);
        Attempts::mark(&mut http, requests, Flags::default());
        let mut needs_new_proof = false;
        let read = transport.send(http).await.and_then(|http_response| {
            needs_new_proof = key.observe(&request, &http_response.headers, proof, cx);
            let context = self.response_context(&request, cx);
            response::read(
                http_response.status,
                &http_response.headers,
                &http_response.body,
                &context,
            )
        });
        let (token, is_bound, non_conformances) = read.map_err(|error| FailedAttempt {
            request_sent: true,
            needs_new_proof: needs_new_proof && rejects_proof(&error),
            needs_new_assertion: request.reuses_assertion
                && error.oauth_error() == Some("invalid_grant"),
            has_fallback: error.kind() == TokenErrorKind::InvalidClient
                && request.used.has_fallback(),
            // The metadata may name an endpoint other than the configured one, such as a `mtls_endpoint_aliases`
            // member.
            error: error.with_endpoint(response::redacted_uri(request.token_endpoint())),
        })?;
        // A token was issued, so these credentials become the fallback.
        request.used.set_fallbacks();
        for non_conformance in non_conformances {
            cx.emit(|credential| TokenEvent::NonConformingResponse {
                credential,
                non_conformance,
            });
        }
        let token = match is_bound {
            true => key.bind(token),
            false => {
                // The cache key of a DPoP client covers bound tokens only.
                private |= key.is_required();
                token
            }
        };
        let token = token.with_sent_at(sent_at);
        Ok(match private {
            true => token.unshareable(),
            false => token,
        })
    }

    /// Locates the token endpoint and selects the authentication method. Returns what the API says about its tokens as
    /// well, if the endpoint was found from the API.
    ///
    /// With a configured URL this does no I/O.
    async fn resolve(
        &self,
        transport: &Transport,
        cx: &SourceContext<'_>,
    ) -> Result<(ResolvedEndpoint, Option<Arc<Found>>), TokenError> {
        // With a configured URL the preferred method is used; with metadata the first one that the server supports.
        let capabilities = ClientCapabilities {
            methods: self.auth.methods(),
            algorithm: self.auth.algorithm(),
            certificate: self.certificate_use(),
        };
        match &self.location {
            Location::Known(uri) => {
                let endpoint = ResolvedEndpoint::at(uri.clone(), capabilities.methods);
                Ok((endpoint, None))
            }
            Location::Discovered(discovery) => {
                let endpoint = discovery.resolve(transport, capabilities, self.allow_http, cx);
                Ok((endpoint.await?, None))
            }
            Location::Resource(discovery) => {
                let endpoint = discovery.resolve(transport, capabilities, self.allow_http, cx);
                let (endpoint, found) = endpoint.await?;
                Ok((endpoint, Some(found)))
            }
        }
    }

    /// Builds the token request: grant, scopes, additional parameters, client authentication.
    ///
    /// Secrets are added to the list of values to redact as they are read, so that an error cannot quote one, whichever
    /// step fails.
    ///
    /// # Errors
    ///
    /// A secret that cannot be read, a signer that fails, or a parameter that is set twice.
    async fn request(
        &self,
        endpoint: ResolvedEndpoint,
        found: Option<&Found>,
        use_fallback: bool,
        deadline: Instant,
        cx: &SourceContext<'_>,
    ) -> Result<TokenRequest, TokenError> {
        let uri = endpoint.token_endpoint.clone();
        let issuer = self.known_issuer(&endpoint);
        let mut request = self.base_request(&uri, endpoint, &self.assertion_audience, deadline, cx);
        let scopes = self.requested_scopes(found);
        let found = found.filter(|_| !self.parameters.contains("resource"));
        let resources = self.parameters.values("resource");
        let resources: Vec<_> = resources
            .chain(found.map(|found| &*found.resource))
            .collect();
        let (issuer, grant) = (issuer.as_deref(), &self.grant);
        grant
            .write(&mut request, &scopes, issuer, &resources, cx)
            .await?;
        request.form.extend(&self.parameters);
        if let Some(found) = found {
            request.parameter("resource", &*found.resource);
        }
        // Values of additional parameters are redacted from the server's error text, except those in
        // `PUBLIC_PARAMETERS`.
        request
            .secrets
            .extend(self.parameters.except(&PUBLIC_PARAMETERS));
        self.authenticate(&mut request, use_fallback).await?;
        Ok(request)
    }

    /// Returns the scopes to request: the configured ones or else those that the API names, and the additional ones.
    fn requested_scopes(&self, found: Option<&Found>) -> Vec<String> {
        let mut scopes = match found {
            Some(found) if self.scopes.is_empty() => found.scopes.clone(),
            _ => self.scopes.clone(),
        };
        for added in &self.added_scopes {
            if !scopes.contains(added) {
                scopes.push(added.clone());
            }
        }
        scopes
    }

    /// Returns the settings for reading the response to `request`.
    ///
    /// The wall clock is read when the response has arrived: textual dates are compared with it if the response has no
    /// `Date`.
    pub(super) fn response_context<'a>(
        &'a self,
        request: &'a TokenRequest,
        cx: &SourceContext<'_>,
    ) -> response::Context<'a> {
        response::Context {
            wall: cx.clock().wall_clock(),
            default_lifetime: self.default_lifetime,
            bearer_types: &self.bearer_types,
            binding: self.binding(),
            strict: self.strict,
            advice: request.advice,
            secrets: &request.secrets,
        }
    }

    /// Creates a request without parameters for the endpoint at `uri`. `audience` is the audience of its assertions.
    ///
    /// Used for revocation requests too, with another `uri` and audience.
    pub(super) fn base_request(
        &self,
        uri: &Uri,
        endpoint: ResolvedEndpoint,
        audience: &AssertionAudience,
        deadline: Instant,
        cx: &SourceContext<'_>,
    ) -> TokenRequest {
        let audience = match audience {
            AssertionAudience::Issuer => self.known_issuer(&endpoint),
            AssertionAudience::TokenEndpoint => Some(endpoint.token_endpoint.to_string().into()),
            AssertionAudience::RequestedEndpoint => Some(uri.to_string().into()),
            AssertionAudience::Other(audience) => Some(Arc::clone(audience)),
        };
        TokenRequest::new(
            Form::default(),
            Target {
                token_endpoint: endpoint.token_endpoint,
                audience,
                method: endpoint.method,
                typed: self.assertion_typ,
                now: cx.clock().now(),
                wall: cx.clock().wall_clock(),
                deadline,
            },
        )
    }

    /// Returns the issuer as its metadata spells it, unless another one is configured.
    ///
    /// The metadata may spell the issuer with a final slash that the configuration leaves out. Assertions must carry
    /// the issuer's own spelling, because servers compare it byte by byte.
    fn known_issuer(&self, endpoint: &ResolvedEndpoint) -> Option<Arc<str>> {
        match &self.location {
            Location::Discovered(discovery)
                if self.issuer.as_deref() == Some(discovery.issuer()) =>
            {
                endpoint.issuer.clone().or_else(|| self.issuer.clone())
            }
            _ => self.issuer.clone().or_else(|| endpoint.issuer.clone()),
        }
    }

    /// Adds the client authentication. With `use_fallback`, uses the credentials that last obtained a token.
    ///
    /// Must be called last: the check for duplicates covers what was set before.
    ///
    /// # Errors
    ///
    /// The error of the method, or a configuration error, if it sets a parameter that is already set.
    pub(super) async fn authenticate(
        &self,
        request: &mut TokenRequest,
        use_fallback: bool,
    ) -> Result<(), TokenError> {
        request.used.begin_credentials(use_fallback);
        // Parameters that were set before the authentication must not be set again by it (RFC 6749 §3.2).
        let set = request.form.len();
        self.auth.authenticate(request).await?;
        match request.form.repeated_after(set, &["resource"]) {
            Some(name) => Err(TokenError::configuration(format!(
                "was not sent: the parameter {name:?} is set twice, by a setting and by the client authentication"
            ))),
            None => Ok(()),
        }
    }

    /// Returns the URL of the endpoint for display, without user information and query. For a discovered endpoint, the
    /// issuer or the resource as configured.
    ///
    /// User information and queries may hold credentials, and errors end up in logs.
    pub(super) fn redacted_uri(&self) -> String {
        match &self.location {
            Location::Known(uri) => response::redacted_uri(uri),
            Location::Resource(discovery) => response::redacted_uri(discovery.uri()),
            Location::Discovered(discovery) => {
                let issuer = discovery.issuer();
                let url = issuer.parse().map_or_else(
                    |_| "an issuer".to_owned(),
                    |uri| response::redacted_uri(&uri),
                );
                // A parsed URI always has a path, whereas an issuer may have none.
                match url.strip_suffix('/') {
                    Some(bare) if !issuer.ends_with('/') => bare.to_owned(),
                    _ => url,
                }
            }
        }
    }

    /// Adds the endpoint's URL to the error, unless it has one.
    ///
    /// An error that names the endpoint already, such as that of a discovered one, keeps the more specific URL.
    pub(super) fn with_endpoint(&self, error: TokenError) -> TokenError {
        match error.endpoint() {
            Some(_) => error,
            None => error.with_endpoint(self.redacted_uri()),
        }
    }
}

/// Returns whether the server rejects the proof of a token request (RFC 9449 §5, §8).
fn rejects_proof(error: &TokenError) -> bool {
    matches!(
        error.oauth_error(),
        Some("use_dpop_nonce" | "invalid_dpop_proof")
    )
}

/// Builds the HTTP request. Takes the headers out of `request`.
///
/// The form is encoded into a zeroized buffer, which the request owns.
pub(super) fn into_http(uri: Uri, request: &mut TokenRequest) -> Request<Full<Bytes>> {
    let mut http = Request::new(Full::new(request.form.encode()));
    *http.method_mut() = Method::POST;
    *http.uri_mut() = uri;
    *http.headers_mut() = std::mem::take(&mut request.headers);
    let headers = http.headers_mut();
    // The client authentication may have set these headers, and takes precedence.
    for (name, value) in [
        (header::CONTENT_TYPE, FORM),
        (header::ACCEPT, JSON),
        (header::USER_AGENT, USER_AGENT),
    ] {
        headers.entry(name).or_insert(value);
    }
    http
}

/// Parameters whose values are not redacted: they are not secret, and servers quote them in error descriptions.
const PUBLIC_PARAMETERS: [&str; 3] = ["audience", "authorization_details", "resource"];

/// Value of `Content-Type`.
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
