//! The metadata of a protected resource (RFC 9728).

use http::HeaderValue;
use serde_json::json;

/// A protected resource and its metadata.
pub(super) struct ProtectedResource {
    /// Path of the metadata (RFC 9728 §3.1).
    pub(super) path: String,
    /// URL of the metadata.
    url: String,
    /// The metadata.
    pub(super) document: String,
}

impl ProtectedResource {
    /// Describes the resource at `path` of `origin`, whose authorization server is `issuer`.
    pub(super) fn new(origin: &str, path: &str, issuer: &str) -> Self {
        let resource = format!("{origin}{path}");
        let path = format!("{WELL_KNOWN}{}", path.strip_suffix('/').unwrap_or(path));
        Self {
            url: format!("{origin}{path}"),
            path,
            document: json!({ "resource": resource, "authorization_servers": [issuer] })
                .to_string(),
        }
    }

    /// Adds the URL of the metadata to a challenge (RFC 9728 §5.1).
    pub(super) fn add_to(&self, challenge: Option<&HeaderValue>) -> Option<HeaderValue> {
        let announced = format!("resource_metadata=\"{}\"", self.url);
        let challenge = match challenge.and_then(|value| value.to_str().ok()) {
            // Only a scheme.
            Some(scheme) if !scheme.contains(' ') => format!("{scheme} {announced}"),
            Some(challenge) => format!("{challenge}, {announced}"),
            None => format!("Bearer {announced}"),
        };
        HeaderValue::try_from(challenge).ok()
    }
}

/// Well-known path of RFC 9728.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
