//! Reads the metadata of a protected resource (RFC 9728 §2, §3). [pure]
//!
//! The resource decides which authorization servers its metadata names, and therefore who receives the client's
//! credentials. So the metadata must name the resource exactly, an allow-list restricts the servers, and renewed
//! metadata may not choose another one.

use std::sync::Arc;

use serde_json::Value;

use super::{
    lookup::MetadataError,
    metadata::{Trusted, excerpt, list},
    resource::Resource,
};
use crate::client_credentials::{TokenError, TokenErrorKind, endpoint::response::Members};

/// The relevant parts of the metadata.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ResourceMetadata {
    /// The resource, as the metadata spells it.
    pub(super) resource: Arc<str>,
    /// Authorization servers, as the metadata spells them. At least one.
    pub(super) issuers: Vec<String>,
    /// Scopes that requests may need, at most [`MAX_SCOPES`].
    pub(super) scopes: Vec<String>,
}

/// Restrictions of the authorization servers.
#[derive(Clone, Copy, Debug)]
pub(super) struct IssuerRules<'a> {
    /// Allowed issuers. None allows all.
    pub(super) allowed: &'a [Arc<str>],
    /// Whether plain http is allowed to any host.
    pub(super) http: bool,
}

impl ResourceMetadata {
    /// Reads the metadata in `body`, if it belongs to `resource`. Keeps the authorization servers that `rules` allow.
    ///
    /// # Errors
    ///
    /// [`MetadataError::NoMetadata`] if another URL may have the document, [`MetadataError::Rejected`] otherwise.
    pub(super) fn read(
        body: &[u8],
        resource: &Resource,
        rules: IssuerRules<'_>,
    ) -> Result<Self, MetadataError> {
        let members = Members::read(body).unwrap_or_default().members;
        let Some(named) = members.get("resource").and_then(Value::as_str) else {
            return Err(MetadataError::NoMetadata(
                "no JSON object with a `resource`",
            ));
        };
        // The document must not be used unless the resources are identical (RFC 9728 §3.3).
        if !resource.is_named(named) {
            return Err(rejected(format!(
                "failed during discovery: the metadata names another resource, {:?}; if that is the API, pass it to \
                 `TokenEndpoint::for_resource`",
                excerpt(named)
            )));
        }
        let Some(Value::Array(issuers)) = members.get("authorization_servers") else {
            return Err(rejected(
                "failed during discovery: the metadata of the resource names no authorization server; configure it with \
                 `TokenEndpoint::discover`"
                    .to_owned(),
            ));
        };
        let named_issuers = issuers.iter().filter_map(Value::as_str);
        let usable = named_issuers.clone().filter(|issuer| {
            let trusted = Trusted {
                loopback: resource.is_loopback(),
                http: rules.http,
            };
            // An issuer has no query and no fragment (RFC 8414 §2).
            !issuer.contains(['?', '#']) && trusted.usable(issuer).is_some()
        });
        let is_allowed = |issuer: &&str| {
            rules.allowed.is_empty() || rules.allowed.iter().any(|known| **known == **issuer)
        };
        let allowed = usable.filter(is_allowed).map(str::to_owned);
        let allowed: Vec<String> = allowed.take(MAX_ISSUERS).collect();
        if allowed.is_empty() {
            let named: Vec<_> = named_issuers.take(MAX_LISTED).map(excerpt).collect();
            return Err(rejected(format!(
                "failed during discovery: the metadata of the resource names no authorization server that may be used: {named:?}; each must be \
                 an https URL, not on this machine unless the resource is, and one that `ProtectedResource::allow_issuer` \
                 lists, if that is set"
            )));
        }
        let mut scopes = list(&members, "scopes_supported").unwrap_or_default();
        scopes.truncate(MAX_SCOPES);
        Ok(Self {
            resource: named.into(),
            issuers: allowed,
            scopes,
        })
    }
}

/// Creates the error for metadata that must not be used.
fn rejected(what: String) -> MetadataError {
    MetadataError::Rejected(TokenError::new(TokenErrorKind::Discovery, false, what))
}

/// Maximum number of authorization servers that are kept.
const MAX_ISSUERS: usize = 16;
/// Maximum number of scopes that are kept.
const MAX_SCOPES: usize = 64;
/// Maximum number of authorization servers in an error.
const MAX_LISTED: usize = 5;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const API: &str = "https://api.example/mcp";
    const ISSUER: &str = "https://id.example/a";

    fn read(document: &Value, allowed: &[&str]) -> Result<ResourceMetadata, String> {
        let allowed: Vec<Arc<str>> = allowed.iter().map(|issuer| (*issuer).into()).collect();
        let rules = IssuerRules {
            allowed: &allowed,
            http: false,
        };
        let resource = Resource::new(API.parse().unwrap());
        ResourceMetadata::read(document.to_string().as_bytes(), &resource, rules).map_err(|error| {
            match error {
                MetadataError::NoMetadata(what) => what.to_owned(),
                MetadataError::Rejected(error) => error.to_string(),
            }
        })
    }

    #[test]
    fn allowed_servers_are_kept_in_order() {
        let other = "https://other.example";
        let document = json!({
            "resource": API,
            "authorization_servers": [other, 7, ISSUER],
            "scopes_supported": ["read", "write"],
        });

        assert_eq!(read(&document, &[]).unwrap().issuers, [other, ISSUER]);
        let metadata = read(&document, &[ISSUER, "https://third.example"]).unwrap();
        assert_eq!(metadata.issuers, [ISSUER]);
        assert_eq!(metadata.scopes, ["read", "write"]);
        // Issuers are compared as text.
        let error = read(&document, &["https://id.example/a/"]).unwrap_err();
        assert!(
            error.contains("allow_issuer") && error.contains(ISSUER),
            "{error}"
        );
    }

    #[test]
    fn scopes_are_bounded() {
        let scopes: Vec<_> = (0..1000).map(|number| format!("scope-{number}")).collect();
        let document = json!({
            "resource": API,
            "authorization_servers": [ISSUER],
            "scopes_supported": scopes,
        });

        assert_eq!(read(&document, &[]).unwrap().scopes, scopes[..MAX_SCOPES]);
    }

    #[test]
    fn servers_that_must_not_receive_credentials_are_left_out() {
        for issuer in [
            "http://id.example",
            "http://127.0.0.1:8080",
            "https://localhost",
            "https://id.example?tenant=a",
            "https://id.example#a",
            "https://user@id.example",
            "id.example",
            "",
        ] {
            let document = json!({ "resource": API, "authorization_servers": [issuer] });
            let error = read(&document, &[]).unwrap_err();
            assert!(
                error.contains("no authorization server that may be used"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_document_without_its_members_is_named() {
        for (document, says) in [
            (json!([]), "no JSON object"),
            (json!({}), "no JSON object"),
            (json!({ "resource": 7 }), "no JSON object"),
            (json!({ "resource": API }), "names no authorization server"),
            (
                json!({ "resource": API, "authorization_servers": ISSUER }),
                "names no authorization server",
            ),
            (
                json!({ "resource": API, "authorization_servers": [] }),
                "no authorization server that may be used",
            ),
            (
                json!({ "resource": "https://api.example", "authorization_servers": [ISSUER] }),
                "names another resource, \"https://api.example\"",
            ),
        ] {
            let error = read(&document, &[]).unwrap_err();
            assert!(error.contains(says), "{document}: {error}");
        }
    }
}
