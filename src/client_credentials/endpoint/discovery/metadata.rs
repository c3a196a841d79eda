//! An authorization server's metadata document (RFC 8414 §2, §3), read from bytes.

use http::Uri;
use serde::Deserialize;

use crate::{
    Origin,
    client_credentials::{TokenError, TokenErrorKind},
};

/// What the document says that matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) struct Metadata {
    token_endpoint: Uri,
    mtls_token_endpoint: Option<Uri>,
    revocation_endpoint: Option<Uri>,
    mtls_revocation_endpoint: Option<Uri>,
    methods: Vec<String>,
    /// For signed assertions; `None` if the document does not say.
    algorithms: Option<Vec<String>>,
}

/// What the configured credential can do.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Able {
    pub(in super::super) methods: &'static [&'static str],
    /// What it signs assertions with.
    pub(in super::super) algorithm: Option<&'static str>,
}

/// Where a token request goes, and how the client authenticates there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) struct Choice {
    pub(in super::super) token_endpoint: Uri,
    pub(in super::super) revocation_endpoint: Option<Uri>,
    pub(in super::super) method: Option<&'static str>,
}

impl Choice {
    /// A token endpoint of which nothing is known, for a client that can authenticate in `able` ways.
    pub(in super::super) fn at(token_endpoint: Uri, able: &'static [&'static str]) -> Self {
        Self {
            token_endpoint,
            revocation_endpoint: None,
            method: able.first().copied(),
        }
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    mtls_endpoint_aliases: Option<Aliases>,
}

#[derive(Default, Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
}

impl Metadata {
    /// The document in `body`, if it is the one of `issuer`.
    pub(super) fn read(body: &[u8], issuer: &str, allow_http: bool) -> Result<Self, TokenError> {
        let document: Document = serde_json::from_slice(body).map_err(|_| {
            malformed("the metadata is not a JSON object with an `issuer`; check the issuer")
        })?;
        // RFC 8414 §3.3: identical, or the document must not be used.
        if document.issuer != issuer {
            return Err(TokenError::new(
                TokenErrorKind::IssuerMismatch,
                false,
                format!(
                    "failed at discovery: the metadata names another issuer, {:?}; the one configured must equal it to \
                     the letter, a final slash included",
                    shown(&document.issuer)
                ),
            ));
        }
        let endpoint = document
            .token_endpoint
            .ok_or_else(|| malformed("the metadata names no `token_endpoint`"))?;
        let aliases = document.mtls_endpoint_aliases.unwrap_or_default();
        let alias = aliases.token_endpoint;
        // Of use on shutdown at most, if at all.
        let optional = |uri: Option<String>| usable(&uri?, allow_http).ok();
        Ok(Self {
            token_endpoint: usable(&endpoint, allow_http)?,
            mtls_token_endpoint: alias.map(|uri| usable(&uri, allow_http)).transpose()?,
            revocation_endpoint: optional(document.revocation_endpoint),
            mtls_revocation_endpoint: optional(aliases.revocation_endpoint),
            // RFC 8414 §2: if omitted, the default is `client_secret_basic`.
            methods: document
                .token_endpoint_auth_methods_supported
                .unwrap_or_else(|| vec!["client_secret_basic".to_owned()]),
            algorithms: document.token_endpoint_auth_signing_alg_values_supported,
        })
    }

    /// Chooses among `able`, what the configured credential can do. Never anything else: a server, or somebody in its
    /// place, must not talk a client out of its key.
    pub(super) fn choose(&self, able: Able) -> Result<Choice, TokenError> {
        let offered = |method: &&&str| self.methods.iter().any(|known| known == **method);
        let method = able.methods.iter().find(offered).copied();
        if method.is_none() && !able.methods.is_empty() {
            return Err(TokenError::configuration(format!(
                "was not sent: the server's metadata offers {:?}, and the configured credential can do {:?} only; \
                 configure another `ClientAuth`, or name the endpoint with `TokenEndpoint::new` if the metadata is wrong",
                few(&self.methods),
                able.methods,
            )));
        }
        if let Some((algorithm, known)) = self.lacks(able) {
            return Err(TokenError::configuration(format!(
                "was not sent: the server's metadata takes assertions signed with {:?} only, and the configured \
                 credential signs with {algorithm}; configure another algorithm, or name the endpoint with \
                 `TokenEndpoint::new` if the metadata is wrong",
                few(known),
            )));
        }
        Ok(self.choice(method))
    }

    /// The algorithm that `able` signs with and the document's list, if that lacks it. RFC 7518 and RFC 9864 name
    /// Ed25519 differently.
    fn lacks(&self, able: Able) -> Option<(&'static str, &[String])> {
        let (algorithm, known) = (able.algorithm?, self.algorithms.as_deref()?);
        let is_ours =
            |name: &String| name == algorithm || (algorithm == "EdDSA" && name == "Ed25519");
        (!known.iter().any(is_ours)).then_some((algorithm, known))
    }

    /// The same method at this document's endpoint, for a credential that was used as `known` says.
    pub(super) fn follow(&self, known: &Choice, able: Able) -> Result<Choice, TokenError> {
        let dropped = known
            .method
            .is_some_and(|method| !self.methods.iter().any(|offered| offered == method));
        if dropped {
            return Err(changed("no longer offers the authentication method in use"));
        }
        if self.lacks(able).is_some() {
            return Err(changed("no longer takes the signing algorithm in use"));
        }
        let mut choice = self.choice(known.method);
        if Origin::of(&choice.token_endpoint) != Origin::of(&known.token_endpoint) {
            return Err(changed("moves the token endpoint to another origin"));
        }
        // Token and credentials go there, too: to no other origin than before.
        let before = known.revocation_endpoint.as_ref();
        let trusted = Origin::of(before.unwrap_or(&known.token_endpoint));
        if choice.revocation_endpoint.as_ref().and_then(Origin::of) != trusted {
            choice.revocation_endpoint = before.cloned();
        }
        Ok(choice)
    }

    /// RFC 8705 §5: who presents a certificate uses the alias.
    fn choice(&self, method: Option<&'static str>) -> Choice {
        let tls = method.is_some_and(|method| method.ends_with("tls_client_auth"));
        let alias = self.mtls_token_endpoint.as_ref().filter(|_| tls);
        let revocation = self.mtls_revocation_endpoint.as_ref().filter(|_| tls);
        Choice {
            token_endpoint: alias.unwrap_or(&self.token_endpoint).clone(),
            revocation_endpoint: revocation.or(self.revocation_endpoint.as_ref()).cloned(),
            method,
        }
    }
}

/// Where the documents are, in the order in which they are asked for: RFC 8414 §3.1 puts the well-known part between
/// host and path, OpenID Connect Discovery §4.1 behind the path.
pub(super) fn places(issuer: &Uri) -> [Option<Uri>; 2] {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: String| {
        let mut parts = issuer.clone().into_parts();
        parts.path_and_query = Some(path.parse().ok()?);
        Uri::from_parts(parts).ok()
    };
    [
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("{path}/.well-known/openid-configuration")),
    ]
}

/// Absolute, and https unless it is loopback.
fn usable(uri: &str, allow_http: bool) -> Result<Uri, TokenError> {
    uri.parse::<Uri>()
        .ok()
        .filter(|uri| {
            Origin::of(uri).is_some_and(|o| o.is_https() || o.is_loopback() || allow_http)
        })
        .ok_or_else(|| malformed("the metadata's token endpoint is not an absolute https URL"))
}

fn malformed(what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::Malformed,
        true,
        format!("failed at discovery: {what}"),
    )
}

fn changed(what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::MetadataChanged,
        false,
        format!(
            "goes on with the old metadata, because the new {what}; if that is intended, restart"
        ),
    )
}

fn few(names: &[String]) -> Vec<String> {
    names.iter().take(20).map(|name| shown(name)).collect()
}

/// Of a foreign text, what an error may quote.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(issuer: &str) -> [String; 2] {
        places(&issuer.parse().unwrap()).map(|uri| uri.unwrap().to_string())
    }

    #[test]
    fn the_well_known_part_goes_between_host_and_path_and_then_behind_the_path() {
        assert_eq!(
            paths("https://id.example/realms/m2m"),
            [
                "https://id.example/.well-known/oauth-authorization-server/realms/m2m",
                "https://id.example/realms/m2m/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            paths("https://id.example/"),
            [
                "https://id.example/.well-known/oauth-authorization-server",
                "https://id.example/.well-known/openid-configuration",
            ]
        );
    }
}
