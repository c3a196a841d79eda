//! Finds what is configured wrongly, before anything is sent.

use http::Uri;
use serde_json::{Map, Value};

use super::{
    AssertionAudience, Location, RevocationEndpoint, TokenEndpoint,
    auth::ClientAuthentication,
    notes::{Note, report_trimmed},
};
use crate::{
    Origin,
    client_credentials::{TokenError, TokenEvent, context::Surroundings},
};

impl TokenEndpoint {
    /// Looks for what is configured wrongly, without sending anything.
    ///
    /// # Errors
    ///
    /// A permanent [`TokenError`] that names the setting. The same comes out of the first token request.
    pub fn check(&self) -> Result<(), TokenError> {
        let problem = self
            .place_problem()
            .or_else(|| self.revocation_problem())
            .or_else(|| self.parameter_problem())
            .map(|problem| TokenError::configuration(format!("was not sent: {problem}")));
        problem
            .map_or(Ok(()), Err)
            .and_then(|()| self.auth.check())
            .and_then(|()| self.check_audience())
            .map_err(|error| self.name(error))
    }

    fn place_problem(&self) -> Option<String> {
        match &self.location {
            Location::Known(uri) => self.uri_problem(uri, "the token endpoint"),
            Location::Discovered(discovery) => match discovery.issuer().parse() {
                // RFC 8414 §2: no query, no fragment.
                Ok(uri) if !discovery.issuer().contains(['?', '#']) => {
                    self.uri_problem(&uri, "the issuer")
                }
                _ => Some(
                    "the issuer must be an absolute https URL without query and fragment"
                        .to_owned(),
                ),
            },
        }
    }

    fn revocation_problem(&self) -> Option<String> {
        match (self.revocation.as_ref()?, &self.location) {
            (RevocationEndpoint::At(uri), _) => self.uri_problem(uri, "the revocation endpoint"),
            (RevocationEndpoint::Discovered, Location::Discovered(_)) => None,
            (RevocationEndpoint::Discovered, Location::Known(_)) => Some(
                "the revocation endpoint is to be discovered, and there is no issuer to ask: use `TokenEndpoint::discover`, \
                 or name the endpoint with `.revoke_on_shutdown(uri)`"
                    .to_owned(),
            ),
        }
    }

    fn uri_problem(&self, uri: &Uri, what: &str) -> Option<String> {
        let Some(origin) = Origin::of(uri) else {
            return Some(format!(
                "{what} must be an absolute https URL without user info"
            ));
        };
        (!origin.is_https() && !origin.is_loopback() && !self.allow_http).then(|| {
            "plain http would show the client secret to anybody on the way; use https, or `.dangerously_allow_http()`"
                .to_owned()
        })
    }

    /// A signed assertion without an audience could be used by one server at another.
    fn check_audience(&self) -> Result<(), TokenError> {
        let unknown = self.assertion_audience == AssertionAudience::Issuer && self.issuer.is_none();
        if unknown && self.auth.needs_audience() {
            return Err(TokenError::configuration(NO_AUDIENCE));
        }
        Ok(())
    }

    fn parameter_problem(&self) -> Option<String> {
        if let Some(problem) = self.value_problem() {
            return Some(problem.to_owned());
        }
        let name = self.parameters.repeated(&REPEATABLE).or_else(|| {
            OWN_PARAMETERS
                .into_iter()
                .find(|name| self.parameters.contains(name))
        })?;
        Some(format!(
            "the parameter {name:?} is set twice; it has a setting of its own, or belongs there once"
        ))
    }

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

    /// Settings that break a rule which older servers do not know, and the rule: they are sent as they are.
    pub(super) fn deviations(&self) -> Vec<(&'static str, &'static str)> {
        let mut deviations = Vec::new();
        // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
        let of_scope = |b: u8| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if !self.scopes.iter().all(|scope| scope.bytes().all(of_scope)) {
            let rule = "RFC 6749 §3.3: a scope holds no quote, no backslash and no character outside ASCII";
            deviations.push(("scope", rule));
        }
        // RFC 8707 §2.
        let absolute = |uri: &str| {
            uri.split_once(':').is_some_and(|(scheme, rest)| {
                scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !rest.is_empty()
            }) && !uri.contains(['#', ' '])
        };
        if !self.parameters.values("resource").all(absolute) {
            let rule = "RFC 8707 §2: a resource is an absolute URI without a fragment";
            deviations.push(("resource", rule));
        }
        if !self.grant.takes_audiences() && self.parameters.values("audience").nth(1).is_some() {
            let rule =
                "RFC 6749 §3.2: a parameter is sent once (only RFC 8693 allows several audiences)";
            deviations.push(("audience", rule));
        }
        deviations
    }

    /// The value at the key `setting` of a configuration was trimmed.
    pub(in crate::client_credentials) fn note_trimmed(&mut self, setting: String) {
        self.notes.add(Note::Trimmed(setting.into()));
    }

    /// A certificate that is not trusted, in the file that the key `setting` of a configuration names.
    #[cfg(feature = "https")]
    pub(in crate::client_credentials) fn note_certificate(
        &mut self,
        setting: String,
        problem: String,
    ) {
        self.notes.add(Note::Certificate { setting, problem });
    }

    /// Reports what is odd about the settings, once.
    pub(super) fn report_notes(&self, cx: &Surroundings<'_>) {
        if !self.notes.are_due() {
            return;
        }
        if self.auth.trims_id() {
            report_trimmed("client id", cx);
        }
        self.notes.report(cx);
        for (setting, rule) in self.deviations() {
            cx.emit(|credential| TokenEvent::NonstandardSetting {
                credential,
                setting,
                rule,
            });
        }
    }
}

/// Parameters that may be sent several times (RFC 8707 §2, RFC 8693 §2.1).
pub(in crate::client_credentials) const REPEATABLE: [&str; 2] = ["audience", "resource"];

pub(super) const NO_AUDIENCE: &str = "was not sent: the audience of the client's assertion is not known; name the issuer with `.issuer(..)`, use \
     `TokenEndpoint::discover`, or set `.assertion_audience(..)`";

/// Set by the endpoint, its grant or the client's authentication.
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
