//! Validation of a token endpoint's settings before a request is sent.
//!
//! Only settings that can never work are errors. A setting that some server accepts in spite of the RFC is sent, and
//! reported as an event.
//!
//! | finding | example | effect |
//! |---|---|---|
//! | cannot work | http to a foreign host, an empty client id, a parameter set twice | error before anything is sent |
//! | violates an RFC | a scope with a quote, a relative `resource` | sent, and reported once |
//! | trimmed | a client id with a line break | sent trimmed, and reported once |

use http::Uri;
use serde_json::{Map, Value};

use super::{
    AssertionAudience, Location, RevocationEndpoint, TokenEndpoint,
    auth::ClientAuthentication,
    discovery::CertificateUse,
    warnings::{Warning, report_trimmed},
};
use crate::{
    Origin,
    client_credentials::{TokenError, TokenEvent, context::SourceContext},
};

impl TokenEndpoint {
    /// Checks the settings without sending anything.
    ///
    /// Secrets and files are not read. A wrong secret is reported by the server.
    ///
    /// Call it at startup to find mistakes before the first request. The layer does not call it when it is built,
    /// because a secret or an issuer may be mounted later.
    ///
    /// # Errors
    ///
    /// A permanent [`TokenError`] that names the setting. The first token request would return the same error.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::TokenErrorKind};
    ///
    /// let auth = ClientAuth::basic("orders", "secret");
    /// let endpoint = TokenEndpoint::new("http://issuer.example/token".parse()?, auth);
    ///
    /// let error = endpoint.validate().unwrap_err();
    /// assert_eq!(error.kind(), TokenErrorKind::Configuration);
    /// assert!(endpoint.dangerously_allow_http().validate().is_ok());
    /// # Ok::<(), http::uri::InvalidUri>(())
    /// ```
    pub fn validate(&self) -> Result<(), TokenError> {
        // The first problem is reported, in the order of the connection: location, revocation, parameters,
        // authentication, audience.
        let problem = self
            .location_problem()
            .or_else(|| self.revocation_problem())
            .or_else(|| self.parameter_problem())
            .or_else(|| self.binding_problem().map(str::to_owned))
            .map(|problem| TokenError::configuration(format!("was not sent: {problem}")));
        problem
            .map_or(Ok(()), Err)
            .and_then(|()| self.auth.validate())
            .and_then(|()| self.grant.validate())
            .and_then(|()| self.client.validate())
            .and_then(|()| self.validate_key())
            .and_then(|()| self.validate_audience())
            .map_err(|error| self.with_endpoint(error))
    }

    /// Returns the problem with the URL of the endpoint or the issuer.
    ///
    /// Metadata URLs are derived from the issuer and are not checked here.
    fn location_problem(&self) -> Option<String> {
        match &self.location {
            Location::Known(uri) => self.uri_problem(uri, "the token endpoint"),
            Location::Discovered(discovery) => match discovery.issuer().parse() {
                // An issuer has no query and no fragment (RFC 8414 §2).
                Ok(uri) if !discovery.issuer().contains(['?', '#']) => {
                    self.uri_problem(&uri, "the issuer")
                }
                _ => Some(
                    "the issuer must be an absolute https URL without query and fragment"
                        .to_owned(),
                ),
            },
            Location::Resource(discovery) => self.uri_problem(discovery.uri(), "the resource"),
        }
    }

    /// Returns the problem with the revocation endpoint.
    fn revocation_problem(&self) -> Option<String> {
        match (self.revocation.as_ref()?, &self.location) {
            (RevocationEndpoint::At(uri), _) => self.uri_problem(uri, "the revocation endpoint"),
            (RevocationEndpoint::Discovered, Location::Discovered(_) | Location::Resource(_)) => {
                None
            }
            (RevocationEndpoint::Discovered, Location::Known(_)) => Some(
                "the revocation endpoint cannot be discovered, because no issuer is set: use \
                 `TokenEndpoint::discover`, or set the endpoint with `.revoke_on_shutdown(uri)`"
                    .to_owned(),
            ),
        }
    }

    /// Returns the problem with a URL: not absolute, or plain http where that is not allowed.
    ///
    /// Loopback is exempt, because its traffic does not leave the machine (RFC 8252 §7.3 makes the same exception for
    /// redirects).
    fn uri_problem(&self, uri: &Uri, what: &str) -> Option<String> {
        let Some(origin) = Origin::of(uri) else {
            return Some(format!(
                "{what} must be an absolute https URL without user info"
            ));
        };
        (!origin.is_https() && !origin.is_loopback() && !self.allow_http).then(|| {
            "plain http would expose the client secret to the network; use https, or `.dangerously_allow_http()`"
                .to_owned()
        })
    }

    /// Checks that there is a certificate that tokens can be bound to, and that they are not bound to a key as well.
    #[cfg(feature = "https")]
    fn binding_problem(&self) -> Option<&'static str> {
        self.certificate_bound.as_ref()?;
        #[cfg(feature = "dpop")]
        if self.dpop.is_some() {
            return Some(
                "a token is bound to a key or to a certificate; remove `.dpop(..)` or `.certificate_bound(..)`",
            );
        }
        (!self.client.has_certificate() && !self.client.is_service()).then_some(
            "tokens cannot be bound without a certificate; set `.client_certificate(..)`, or pass a client that presents \
             one with `.service(..)`",
        )
    }

    /// Returns nothing: this build cannot request bound tokens.
    #[cfg(not(feature = "https"))]
    fn binding_problem(&self) -> Option<&'static str> {
        None
    }

    /// Returns how token requests use a client certificate.
    pub(super) fn certificate_use(&self) -> CertificateUse {
        #[cfg(feature = "https")]
        if let Some(bound) = &self.certificate_bound {
            return match bound.requires_binding() {
                true => CertificateUse::BindingRequired,
                false => CertificateUse::Binding,
            };
        }
        match self.client.has_certificate() {
            true => CertificateUse::Presented,
            false => CertificateUse::Unknown,
        }
    }

    /// Checks that the audience of signed assertions is known, and that no other server receives them. An assertion
    /// without an audience, or for another server, could be replayed there.
    fn validate_audience(&self) -> Result<(), TokenError> {
        if self.chosen_issuer_gets_foreign_assertion() {
            return Err(TokenError::configuration(FOREIGN_AUDIENCE));
        }
        // An explicit audience needs no issuer, and discovery always knows one.
        let unknown = self.assertion_audience == AssertionAudience::Issuer
            && self.issuer.is_none()
            && matches!(self.location, Location::Known(_));
        if unknown && (self.auth.needs_audience() || self.grant.needs_audience()) {
            return Err(TokenError::configuration(NO_AUDIENCE));
        }
        Ok(())
    }

    /// Returns whether an issuer that only the API chooses would receive assertions whose audience is set.
    fn chosen_issuer_gets_foreign_assertion(&self) -> bool {
        let Location::Resource(discovery) = &self.location else {
            return false;
        };
        if !discovery.allows_any_issuer() {
            return false;
        }
        let is_set = |audience: &AssertionAudience| match audience {
            AssertionAudience::Issuer => self.issuer.is_some(),
            // They are those of the server that receives the assertion.
            AssertionAudience::TokenEndpoint | AssertionAudience::RequestedEndpoint => false,
            AssertionAudience::Other(_) => true,
        };
        let audience = is_set(&self.assertion_audience);
        let discovers_revocation = matches!(self.revocation, Some(RevocationEndpoint::Discovered));
        let of_revocation = self.revocation_audience.as_ref();
        let of_revocation = of_revocation.filter(|_| discovers_revocation);
        let by_client = audience || of_revocation.is_some_and(is_set);
        (self.auth.needs_audience() && by_client)
            || self
                .grant
                .has_fixed_audience(self.issuer.is_some(), audience)
    }

    /// Returns the problem with the additional parameters.
    fn parameter_problem(&self) -> Option<String> {
        if let Some(problem) = self.value_problem() {
            return Some(problem.to_owned());
        }
        if let Some(problem) = self.grant.problem(|name| self.parameters.contains(name)) {
            return Some(problem);
        }
        let name = self.parameters.repeated(&REPEATABLE).or_else(|| {
            OWN_PARAMETERS
                .into_iter()
                .find(|name| self.parameters.contains(name))
        })?;
        Some(format!(
            "the parameter {name:?} is set twice; it has its own setting, or must not be repeated"
        ))
    }

    /// Returns the problem with the value of an additional parameter.
    fn value_problem(&self) -> Option<&'static str> {
        // RFC 9396 §2: an array of objects, each with a `type`.
        let details = |text: &str| {
            serde_json::from_str::<Vec<Map<String, Value>>>(text)
                .is_ok_and(|details| details.iter().all(|object| object.contains_key("type")))
        };
        if !self.parameters.values("authorization_details").all(details) {
            return Some(
                "`authorization_details` must be a JSON array of objects with a `type` (RFC 9396 §2)",
            );
        }
        None
    }

    /// Returns settings that violate a rule, and the rule. They are still sent as they are, because some older servers
    /// require such values.
    ///
    /// Each rule is named with its RFC, for the event.
    ///
    /// At most one entry for each setting.
    pub(super) fn deviations(&self) -> Vec<(&'static str, &'static str)> {
        let mut deviations = Vec::new();
        // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
        let of_scope = |b: u8| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if !self.scopes.iter().all(|scope| scope.bytes().all(of_scope)) {
            let rule = "RFC 6749 §3.3: a scope must not contain quotes, backslashes or non-ASCII characters";
            deviations.push(("scope", rule));
        }
        // An absolute URI without a fragment (RFC 8707 §2). Not parsed as `Uri`, because URNs are valid resources.
        let absolute = |uri: &str| {
            uri.split_once(':').is_some_and(|(scheme, rest)| {
                scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !rest.is_empty()
            }) && !uri.contains(['#', ' '])
        };
        if !self.parameters.values("resource").all(absolute) {
            let rule = "RFC 8707 §2: a resource must be an absolute URI without a fragment";
            deviations.push(("resource", rule));
        }
        if !self.grant.takes_audiences() && self.parameters.values("audience").nth(1).is_some() {
            let rule = "RFC 6749 §3.2: a parameter must not be repeated (only RFC 8693 allows several audiences)";
            deviations.push(("audience", rule));
        }
        deviations
    }

    /// Records that the value of the configuration key `setting` was trimmed.
    pub(in crate::client_credentials) fn note_trimmed(&mut self, setting: String) {
        self.warnings.add(Warning::Trimmed(setting.into()));
    }

    /// Records a certificate that is not trusted, from the file that the configuration key `setting` names.
    #[cfg(feature = "https")]
    pub(in crate::client_credentials) fn note_certificate(
        &mut self,
        setting: String,
        problem: String,
    ) {
        self.warnings.add(Warning::Certificate { setting, problem });
    }

    /// Emits an event for each peculiarity of the settings, once for the endpoint and its clones.
    ///
    /// Called by the first fetch, when the layer's sinks are known.
    pub(super) fn report_warnings(&self, cx: &SourceContext<'_>) {
        if !self.warnings.should_report() {
            return;
        }
        if self.auth.trims_id() {
            report_trimmed("client id", cx);
        }
        self.warnings.report(cx);
        for (setting, rule) in self.deviations() {
            cx.emit(|credential| TokenEvent::NonstandardSetting {
                credential,
                setting,
                rule,
            });
        }
    }
}

/// Parameters that may be sent more than once (RFC 8707 §2, RFC 8693 §2.1).
pub(in crate::client_credentials) const REPEATABLE: [&str; 2] = ["audience", "resource"];

/// Error for a signed assertion whose audience is unknown.
pub(super) const NO_AUDIENCE: &str = "was not sent: the audience of the assertion is unknown; set the issuer \
     with `.issuer(..)`, use `TokenEndpoint::discover`, or set `.assertion_audience(..)`";

/// Error for an assertion whose audience is set, and that a server of the API's choice would receive.
const FOREIGN_AUDIENCE: &str = "was not sent: the audience of the assertion is set, but the API chooses the server that \
     receives it; name that issuer with `ProtectedResource::allow_issuer`";

/// Parameters that the endpoint, its grant or the client authentication sets.
const OWN_PARAMETERS: [&str; 12] = [
    "actor_token",
    "actor_token_type",
    "assertion",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "grant_type",
    "requested_token_type",
    "scope",
    "subject_token",
    "subject_token_type",
];
