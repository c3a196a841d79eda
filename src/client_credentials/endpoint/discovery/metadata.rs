//! Reads the metadata of an authorization server (RFC 8414 §2, §3).
//!
//! Metadata is trusted only as far as its issuer: it must name the issuer exactly, it may not lead to loopback or plain
//! http unless that is allowed, and renewed metadata may not move the endpoint to another origin.

use std::sync::Arc;

use http::Uri;
use serde_json::{Map, Value};

use super::{issuer::Issuer, lookup::MetadataError};
use crate::{
    Origin,
    client_credentials::{TokenError, TokenErrorKind, endpoint::response::Members},
};

/// The relevant parts of the metadata.
///
/// URLs in it are checked when it is read, so that a document with a usable token endpoint never leads anywhere else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) struct Metadata {
    /// Issuer, as the metadata spells it.
    issuer: Arc<str>,
    /// URL of the token endpoint.
    token_endpoint: Uri,
    /// Alias of the token endpoint.
    mtls_token_endpoint: Alias,
    /// URL of the revocation endpoint, if it is usable.
    revocation_endpoint: Option<Uri>,
    /// Alias of the revocation endpoint, if it is usable.
    mtls_revocation_endpoint: Option<Uri>,
    /// Authentication methods that the server supports.
    methods: Vec<String>,
    /// Algorithms that the server accepts for assertions. `None` if the metadata does not list them.
    algorithms: Option<Vec<String>>,
    /// Whether the server issues tokens that are bound to certificates (RFC 8705 §3.3).
    binds_certificates: bool,
}

/// The token endpoint for clients with a certificate (RFC 8705 §5).
#[derive(Clone, Debug, Eq, PartialEq)]
enum Alias {
    /// The metadata names no alias.
    None,
    /// The alias is at this URL.
    At(Uri),
    /// The metadata names an alias that the client must not use.
    Unusable,
}

/// Capabilities of the configured credential.
///
/// The list is the upper bound of what the client discloses: metadata selects from it and never adds to it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct ClientCapabilities {
    /// Supported authentication methods, in order of preference.
    pub(in super::super) methods: &'static [&'static str],
    /// Algorithm of its assertions, if it signs any.
    pub(in super::super) algorithm: Option<&'static str>,
    /// Use of a client certificate.
    pub(in super::super) certificate: CertificateUse,
}

/// Use of a client certificate in token requests, beside client authentication.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(feature = "https"), expect(dead_code))]
pub(in super::super) enum CertificateUse {
    /// None, or only the HTTP client knows.
    Unknown,
    /// One is presented. Tokens are bound to it if the server does so.
    Presented,
    /// Tokens are to be bound to it.
    Binding,
    /// Tokens must be bound to it.
    BindingRequired,
}

/// Endpoints and authentication method of the requests.
///
/// Cached as a whole and compared with its successor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) struct ResolvedEndpoint {
    /// Issuer, as the metadata spells it.
    pub(in super::super) issuer: Option<Arc<str>>,
    /// URL of the token endpoint.
    pub(in super::super) token_endpoint: Uri,
    /// URL of the revocation endpoint, if one is known.
    pub(in super::super) revocation_endpoint: Option<Uri>,
    /// Authentication method. `None` if the credential names none.
    pub(in super::super) method: Option<&'static str>,
}

impl ResolvedEndpoint {
    /// Returns the choice for a configured token endpoint without metadata: the first of `capabilities`.
    pub(in super::super) fn at(token_endpoint: Uri, capabilities: &'static [&'static str]) -> Self {
        Self {
            issuer: None,
            token_endpoint,
            revocation_endpoint: None,
            method: capabilities.first().copied(),
        }
    }
}

impl Metadata {
    /// Reads the metadata in `body`, if it belongs to `issuer`. Invalid optional members are ignored.
    ///
    /// # Errors
    ///
    /// [`MetadataError::NoMetadata`] if another URL may have the document, [`MetadataError::Rejected`] otherwise.
    pub(super) fn read(
        body: &[u8],
        issuer: &Issuer,
        allow_http: bool,
    ) -> Result<Self, MetadataError> {
        let text = |members: &Map<String, Value>, name: &str| {
            let text = members.get(name)?.as_str();
            text.map(str::to_owned)
        };
        let members = Members::read(body).unwrap_or_default().members;
        let Some(named) = text(&members, "issuer") else {
            return Err(MetadataError::NoMetadata("no JSON object with an `issuer`"));
        };
        // The document must not be used unless the issuers are identical (RFC 8414 §3.3).
        if !issuer.is_named(&named) {
            return Err(MetadataError::Rejected(TokenError::new(
                TokenErrorKind::Discovery,
                false,
                format!(
                    "failed during discovery: the metadata names another issuer, {:?}; the configured issuer must \
                     match it exactly, including a final slash",
                    excerpt(&named)
                ),
            )));
        }
        let Some(endpoint) = text(&members, "token_endpoint") else {
            return Err(MetadataError::NoMetadata(
                "metadata without a `token_endpoint`",
            ));
        };
        let trusted = Trusted {
            loopback: issuer.is_loopback(),
            http: allow_http,
        };
        // Some servers send an array instead of an object.
        let none = Map::new();
        let aliases = members.get("mtls_endpoint_aliases");
        let aliases = aliases.and_then(Value::as_object).unwrap_or(&none);
        // An unusable alias is an error only for a client with a certificate.
        let alias = text(aliases, "token_endpoint").map(|uri| trusted.usable(&uri));
        // At most used on shutdown, so an invalid URL does not fail the fetch of a token.
        let optional = |uri: Option<String>| trusted.usable(&uri?);
        Ok(Self {
            issuer: named.into(),
            token_endpoint: trusted.usable(&endpoint).ok_or_else(|| {
                MetadataError::Rejected(malformed(
                    "the metadata's token endpoint is not an absolute https URL, or is on this machine while the \
                     issuer is not; if it is correct, configure it with `TokenEndpoint::new`",
                ))
            })?,
            mtls_token_endpoint: match alias {
                None => Alias::None,
                Some(None) => Alias::Unusable,
                Some(Some(uri)) => Alias::At(uri),
            },
            revocation_endpoint: optional(text(&members, "revocation_endpoint")),
            mtls_revocation_endpoint: optional(text(aliases, "revocation_endpoint")),
            // If omitted, the default is `client_secret_basic` (RFC 8414 §2).
            methods: list(&members, "token_endpoint_auth_methods_supported")
                .unwrap_or_else(|| vec!["client_secret_basic".to_owned()]),
            algorithms: list(&members, "token_endpoint_auth_signing_alg_values_supported"),
            // If omitted, the default is `false`.
            binds_certificates: members.get(BINDS_CERTIFICATES) == Some(&Value::Bool(true)),
        })
    }

    /// Selects the method and the endpoints. Selects only among the configured methods, because a server, or an
    /// attacker in its place, must not make the client disclose more than it was configured to.
    ///
    /// # Errors
    ///
    /// A configuration error that lists what the server supports and what the credential supports.
    pub(super) fn resolve(
        &self,
        capabilities: ClientCapabilities,
    ) -> Result<ResolvedEndpoint, TokenError> {
        let offered = |method: &&&str| self.methods.iter().any(|known| known == **method);
        let method = capabilities.methods.iter().find(offered).copied();
        if method.is_none() && !capabilities.methods.is_empty() {
            return Err(TokenError::configuration(format!(
                "was not sent: the server's metadata offers {:?}, but the configured credential supports only {:?}; \
                 configure another `ClientAuth`, or set the endpoint with `TokenEndpoint::new` if the metadata is \
                 wrong",
                first_few(&self.methods),
                capabilities.methods,
            )));
        }
        if let Some((algorithm, known)) = self.lacks(capabilities) {
            return Err(TokenError::configuration(format!(
                "was not sent: the server's metadata accepts only assertions signed with {:?}, but the configured \
                 credential signs with {algorithm}; configure another algorithm, or set the endpoint with \
                 `TokenEndpoint::new` if the metadata is wrong",
                first_few(known),
            )));
        }
        if self.cannot_bind(capabilities) {
            return Err(TokenError::configuration(
                "was not sent: tokens must be bound to the client certificate, but the server's metadata does not offer \
                 that (`tls_client_certificate_bound_access_tokens`, RFC 8705 §3.3); set the endpoint with \
                 `TokenEndpoint::new` if the metadata is wrong, or accept other tokens with \
                 `CertificateBound::on_bearer_answer`",
            ));
        }
        self.resolved(method, capabilities)
    }

    /// Returns whether tokens must be bound to a certificate, and the server does not offer that.
    fn cannot_bind(&self, capabilities: ClientCapabilities) -> bool {
        capabilities.certificate == CertificateUse::BindingRequired && !self.binds_certificates
    }

    /// Returns the algorithm of `capabilities` and the supported ones, if the server does not support it. RFC 7518 and
    /// RFC 9864 use different names for Ed25519.
    fn lacks(&self, capabilities: ClientCapabilities) -> Option<(&'static str, &[String])> {
        let (algorithm, known) = (capabilities.algorithm?, self.algorithms.as_deref()?);
        let is_ours =
            |name: &String| name == algorithm || (algorithm == "EdDSA" && name == "Ed25519");
        (!known.iter().any(is_ours)).then_some((algorithm, known))
    }

    /// Selects the same method with renewed metadata. Fails if the method or the algorithm is no longer supported, or
    /// the token endpoint has moved to another origin.
    ///
    /// # Errors
    ///
    /// An error that says what has changed. The metadata in use is then kept.
    pub(super) fn update(
        &self,
        known: &ResolvedEndpoint,
        capabilities: ClientCapabilities,
    ) -> Result<ResolvedEndpoint, TokenError> {
        let dropped = known
            .method
            .is_some_and(|method| !self.methods.iter().any(|offered| offered == method));
        if dropped {
            return Err(changed("no longer offers the authentication method in use"));
        }
        if self.lacks(capabilities).is_some() {
            return Err(changed("no longer accepts the signing algorithm in use"));
        }
        if self.cannot_bind(capabilities) {
            return Err(changed("no longer offers certificate-bound tokens"));
        }
        let mut choice = self.resolved(known.method, capabilities)?;
        if Origin::of(&choice.token_endpoint) != Origin::of(&known.token_endpoint) {
            return Err(changed("moves the token endpoint to another origin"));
        }
        // Tokens and credentials are sent to the revocation endpoint as well, so it must not move to another origin
        // either.
        let before = known.revocation_endpoint.as_ref();
        let trusted = Origin::of(before.unwrap_or(&known.token_endpoint));
        if choice.revocation_endpoint.as_ref().and_then(Origin::of) != trusted {
            choice.revocation_endpoint = before.cloned();
        }
        Ok(choice)
    }

    /// Returns the endpoints for `method`. A client with a certificate uses the aliases (RFC 8705 §5).
    ///
    /// RFC 8705 §5: a client that presents a certificate to authenticate or to get bound tokens uses the aliases. Any
    /// other keeps using the endpoints outside `mtls_endpoint_aliases`.
    fn resolved(
        &self,
        method: Option<&'static str>,
        capabilities: ClientCapabilities,
    ) -> Result<ResolvedEndpoint, TokenError> {
        let binds = match capabilities.certificate {
            CertificateUse::Unknown => false,
            CertificateUse::Presented => self.binds_certificates,
            CertificateUse::Binding | CertificateUse::BindingRequired => true,
        };
        let tls = binds || method.is_some_and(|method| method.ends_with("tls_client_auth"));
        let token_endpoint = match &self.mtls_token_endpoint {
            Alias::At(alias) if tls => alias,
            Alias::Unusable if tls => {
                return Err(malformed(
                    "the metadata's `mtls_endpoint_aliases` name a token endpoint that is not an absolute https URL; \
                     configure the correct one with `TokenEndpoint::new`",
                ));
            }
            _ => &self.token_endpoint,
        };
        let revocation = self.mtls_revocation_endpoint.as_ref().filter(|_| tls);
        Ok(ResolvedEndpoint {
            issuer: Some(Arc::clone(&self.issuer)),
            token_endpoint: token_endpoint.clone(),
            revocation_endpoint: revocation.or(self.revocation_endpoint.as_ref()).cloned(),
            method,
        })
    }
}

/// Returns the names in an array, or in a string instead of one. Returns `None` if there are none.
pub(super) fn list(members: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    let names: Vec<String> = match members.get(name)? {
        Value::Array(values) => values
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Value::String(names) => {
            let names = names.split(|c: char| c.is_whitespace() || c == ',');
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        }
        _ => return None,
    };
    (!names.is_empty()).then_some(names)
}

/// Destinations to which metadata may direct the client's credentials.
///
/// An attacker who controls the metadata of an issuer on the network must not reach services on this machine.
#[derive(Clone, Copy)]
pub(super) struct Trusted {
    /// Whether the issuer is on loopback, so that its endpoints may be as well.
    pub(super) loopback: bool,
    /// Whether plain http is allowed to any host.
    pub(super) http: bool,
}

impl Trusted {
    /// Returns the URL if it is absolute, and https unless it is on loopback. Loopback is allowed only for an issuer on
    /// loopback: otherwise metadata could direct the credentials to another program on this machine.
    pub(super) fn usable(self, uri: &str) -> Option<Uri> {
        let uri: Uri = uri.trim().parse().ok()?;
        let origin = Origin::of(&uri)?;
        let trusted = if origin.is_loopback() {
            self.loopback
        } else {
            origin.is_https() || self.http
        };
        trusted.then_some(uri)
    }
}

/// Creates a transient error for unusable metadata.
fn malformed(what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::InvalidResponse,
        true,
        format!("failed during discovery: {what}"),
    )
}

/// Creates an error for renewed metadata that contradicts the metadata in use.
pub(super) fn changed(what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::Discovery,
        false,
        format!(
            "continues with the old metadata because the new metadata {what}; if the change is intended, restart the \
             process"
        ),
    )
}

/// Returns at most 20 names for an error.
///
/// A document may list thousands of names; an error should not.
fn first_few(names: &[String]) -> Vec<String> {
    names.iter().take(20).map(|name| excerpt(name)).collect()
}

/// Returns the part of a server's text that an error may quote: at most 200 characters, without control characters.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Member of the metadata that offers certificate-bound tokens (RFC 8705 §3.3).
const BINDS_CERTIFICATES: &str = "tls_client_certificate_bound_access_tokens";
