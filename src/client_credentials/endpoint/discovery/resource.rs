//! Identifiers of protected resources, and the URLs of their metadata (RFC 9728 §3). [pure]

use http::Uri;

use crate::Origin;

/// A protected resource, configured by its identifier.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    /// The identifier. It has no fragment, because a `Uri` has none.
    uri: Uri,
}

impl Resource {
    /// Creates a resource from its identifier.
    ///
    /// Does not validate. An identifier that is not a URL is reported by the endpoint's `validate`.
    pub(super) fn new(uri: Uri) -> Self {
        Self { uri }
    }

    /// Returns the identifier.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns whether metadata with the `resource` member `named` belongs to this resource. Both must be identical
    /// (RFC 9728 §3.3), except for spellings of one origin, and a slash after an origin without a path.
    pub(super) fn is_named(&self, named: &str) -> bool {
        // A `Uri` drops the fragment, which an identifier must not have (RFC 9728 §1.2).
        let same = |other: &Uri| {
            Origin::of(other).is_some_and(|origin| origin.matches(&self.uri))
                && path(other) == path(&self.uri)
        };
        !named.contains('#') && named.parse().is_ok_and(|other| same(&other))
    }

    /// Returns whether the resource is on loopback.
    pub(super) fn is_loopback(&self) -> bool {
        Origin::of(&self.uri).is_some_and(|origin| origin.is_loopback())
    }

    /// Returns the URL of the metadata that the resource announces in a challenge. `None` if it is at another origin:
    /// a challenge could otherwise lead to any server.
    pub(super) fn announced_url(&self, announced: &str) -> Option<Uri> {
        let url: Uri = announced.parse().ok()?;
        let origin = Origin::of(&self.uri)?;
        origin.matches(&url).then_some(url)
    }

    /// Returns the well-known URLs of the metadata in the order of requests: with the well-known part between host and
    /// path (RFC 9728 §3.1), and that of the whole origin, where some servers publish the metadata of their only
    /// resource.
    ///
    /// A document at either place must name this resource.
    pub(super) fn well_known_urls(&self) -> Vec<Uri> {
        let at = |path: String| {
            let mut parts = self.uri.clone().into_parts();
            parts.path_and_query = Some(path.parse().ok()?);
            Uri::from_parts(parts).ok()
        };
        // The slash of an identifier without a path is not part of the inserted path.
        let path = path(&self.uri);
        let inserted = match path.strip_prefix('/') {
            Some(rest) if rest.is_empty() || rest.starts_with('?') => rest,
            _ => path,
        };
        let mut urls = Vec::new();
        for url in [format!("{WELL_KNOWN}{inserted}"), WELL_KNOWN.to_owned()] {
            urls.extend(at(url).filter(|url| !urls.contains(url)));
        }
        urls
    }
}

/// Returns the path and the query, at least `/`.
fn path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

/// Well-known path of RFC 9728.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(uri: &str) -> Resource {
        Resource::new(uri.parse().unwrap())
    }

    #[test]
    fn the_well_known_part_is_inserted_before_path_and_query() {
        for (uri, expected) in [
            (
                "https://api.example",
                &["https://api.example/.well-known/oauth-protected-resource"][..],
            ),
            (
                "https://api.example/",
                &["https://api.example/.well-known/oauth-protected-resource"],
            ),
            (
                "https://api.example:8443/mcp/v1",
                &[
                    "https://api.example:8443/.well-known/oauth-protected-resource/mcp/v1",
                    "https://api.example:8443/.well-known/oauth-protected-resource",
                ],
            ),
            (
                "https://api.example/mcp/?tenant=a",
                &[
                    "https://api.example/.well-known/oauth-protected-resource/mcp/?tenant=a",
                    "https://api.example/.well-known/oauth-protected-resource",
                ],
            ),
            (
                "https://api.example?tenant=a",
                &[
                    "https://api.example/.well-known/oauth-protected-resource?tenant=a",
                    "https://api.example/.well-known/oauth-protected-resource",
                ],
            ),
        ] {
            let urls = resource(uri).well_known_urls();
            let urls: Vec<_> = urls.iter().map(Uri::to_string).collect();
            assert_eq!(urls, expected, "{uri}");
        }
    }

    #[test]
    fn metadata_must_name_the_resource() {
        let mcp = resource("https://api.example/mcp");
        for same in [
            "https://api.example/mcp",
            "https://API.example/mcp",
            "https://api.example:443/mcp",
        ] {
            assert!(mcp.is_named(same), "{same}");
        }
        for other in [
            "",
            "/mcp",
            "https://api.example",
            "https://api.example/mcp/",
            "https://api.example/MCP",
            "https://api.example/mcp?a",
            "https://api.example/mcp#a",
            "http://api.example/mcp",
            "https://api.example:8443/mcp",
            "https://api.example.evil.example/mcp",
            "https://user@api.example/mcp",
            "https://evil.example/mcp",
        ] {
            assert!(!mcp.is_named(other), "{other}");
        }
        let origin = resource("https://api.example");
        assert!(origin.is_named("https://api.example/") && origin.is_named("https://api.example"));
    }

    #[test]
    fn announced_metadata_is_at_the_origin_of_the_resource() {
        let mcp = resource("https://api.example/mcp");
        let url = "https://api.example/custom/metadata.json?a=b";
        assert_eq!(mcp.announced_url(url).unwrap(), url);
        for other in [
            "",
            "/metadata",
            "http://api.example/metadata",
            "https://api.example:8443/metadata",
            "https://other.example/metadata",
            "https://user@api.example/metadata",
        ] {
            assert_eq!(mcp.announced_url(other), None, "{other}");
        }
    }
}
