//! Issuer identifiers and the URLs of their metadata. [pure]
//!
//! Many servers document the URL of the metadata rather than the issuer, so both are accepted.

use std::sync::Arc;

use http::Uri;

use crate::Origin;

/// An issuer, configured by its identifier or by the URL of its metadata.
///
/// Issuers are compared as text (RFC 8414 §3.3), not as URLs: `https://a` and `https://a/` are different issuers.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    /// Identifier of the issuer. Without a final slash if it was derived from `document`.
    name: Arc<str>,
    /// URL of the metadata, if that was configured. Whether the identifier ends with a slash is then unknown.
    document: Option<Uri>,
}

impl Issuer {
    /// Creates an issuer from its identifier or the URL of its metadata.
    ///
    /// Does not validate. An issuer that is not a URL is reported by the endpoint's `validate`.
    pub(super) fn new(configured: Arc<str>) -> Self {
        match behind_well_known(&configured) {
            Some(name) => Self {
                document: configured.parse().ok(),
                name: name.into(),
            },
            None => Self {
                name: configured,
                document: None,
            },
        }
    }

    /// Returns the identifier.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether metadata with the issuer `named` belongs to this issuer. Both must be identical (RFC 8414 §3.3),
    /// except for a final slash if the URL of the metadata was configured.
    pub(super) fn is_named(&self, named: &str) -> bool {
        // Only a configured URL leaves it open whether the identifier ends with a slash.
        let bare = named.strip_suffix('/').unwrap_or(named);
        *named == *self.name || (self.document.is_some() && *bare == *self.name)
    }

    /// Returns whether the issuer is on loopback.
    pub(super) fn is_loopback(&self) -> bool {
        let uri = self.name.parse().ok();
        uri.and_then(|uri| Origin::of(&uri))
            .is_some_and(|origin| origin.is_loopback())
    }

    /// Returns the URLs of the metadata in the order of requests: the configured URL; the well-known part between host
    /// and path (RFC 8414 §3.1); the well-known part after the path (OpenID Connect Discovery §4.1); OpenID's name between
    /// host and path, which RFC 8414 §5 allows.
    ///
    /// At least two URLs for a valid issuer, at most four. For an issuer without a path both forms of OpenID are the same
    /// place.
    pub(super) fn metadata_urls(&self) -> Vec<Uri> {
        let Ok(issuer) = self.name.parse::<Uri>() else {
            return Vec::new();
        };
        let path = issuer.path().trim_end_matches('/');
        let at = |path: String| {
            let mut parts = issuer.clone().into_parts();
            parts.path_and_query = Some(path.parse().ok()?);
            Uri::from_parts(parts).ok()
        };
        let known = [
            at(format!("{OAUTH}{path}")),
            at(format!("{path}{OPENID}")),
            at(format!("{OPENID}{path}")),
        ];
        let mut urls: Vec<_> = self.document.iter().cloned().collect();
        for url in known.into_iter().flatten() {
            // The configured URL may be one of the well-known ones.
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        urls
    }
}

/// Returns the identifier of the issuer whose metadata is at the URL `configured`, without a final slash. Returns
/// `None` if that is not a well-known URL.
fn behind_well_known(configured: &str) -> Option<String> {
    let (before, after) = configured.split_once(WELL_KNOWN)?;
    let (name, path) = after.split_at(after.find('/').unwrap_or(after.len()));
    let known = [OAUTH, OPENID]
        .iter()
        .any(|known| known.strip_prefix(WELL_KNOWN) == Some(name));
    let is_origin = before
        .split_once("://")
        .is_some_and(|(_, rest)| !rest.contains('/'));
    let path = path.trim_end_matches('/');
    // The path follows the well-known part (RFC 8414) or precedes it (OpenID Connect), never both.
    (known && (is_origin || path.is_empty())).then(|| format!("{before}{path}"))
}

/// Prefix of well-known paths (RFC 8615).
const WELL_KNOWN: &str = "/.well-known/";
/// Well-known path of RFC 8414.
const OAUTH: &str = "/.well-known/oauth-authorization-server";
/// Well-known path of OpenID Connect Discovery.
const OPENID: &str = "/.well-known/openid-configuration";

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(issuer: &str) -> Vec<String> {
        let urls = Issuer::new(issuer.into()).metadata_urls();
        urls.iter().map(Uri::to_string).collect()
    }

    #[test]
    fn metadata_urls_follow_rfc_8414_and_then_openid() {
        assert_eq!(
            urls("https://id.example/realms/m2m"),
            [
                "https://id.example/.well-known/oauth-authorization-server/realms/m2m",
                "https://id.example/realms/m2m/.well-known/openid-configuration",
                "https://id.example/.well-known/openid-configuration/realms/m2m",
            ]
        );
        assert_eq!(
            urls("https://id.example/"),
            [
                "https://id.example/.well-known/oauth-authorization-server",
                "https://id.example/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn an_issuer_is_derived_from_its_metadata_url() {
        for (configured, name) in [
            (
                "https://id.example/.well-known/openid-configuration",
                "https://id.example",
            ),
            (
                "https://id.example/a/.well-known/openid-configuration/",
                "https://id.example/a",
            ),
            (
                "https://id.example/.well-known/oauth-authorization-server/a/b",
                "https://id.example/a/b",
            ),
            (
                "https://id.example/a/.well-known/oauth-authorization-server",
                "https://id.example/a",
            ),
            (
                "https://id.example/.well-known/openid-configuration/a",
                "https://id.example/a",
            ),
        ] {
            let issuer = Issuer::new(configured.into());

            assert_eq!(issuer.name(), name);
            assert_eq!(
                issuer.metadata_urls()[0],
                configured.parse::<Uri>().unwrap()
            );
            assert!(issuer.is_named(name) && issuer.is_named(&format!("{name}/")));
            assert!(
                !issuer.is_named(&format!("{name}//")) && !issuer.is_named("https://id.example/b")
            );
        }
        for other in [
            "https://id.example/.well-known/jwks.json",
            "https://id.example/a/.well-known/openid-configuration/b",
            "https://id.example/.well-known",
        ] {
            assert_eq!(Issuer::new(other.into()).name(), other);
        }
        assert!(!Issuer::new("https://id.example".into()).is_named("https://id.example/"));
    }
}
