//! An authorization server's metadata document (RFC 8414 §2, §3), read from bytes.

use std::sync::Arc;

use http::Uri;
use serde_json::{Map, Value};

use super::issuer::Issuer;
use crate::{
    Origin,
    client_credentials::{TokenError, TokenErrorKind, endpoint::response::Members},
};

/// What the document says that matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) struct Metadata {
    issuer: Arc<str>,
    token_endpoint: Uri,
    mtls_token_endpoint: Alias,
    revocation_endpoint: Option<Uri>,
    mtls_revocation_endpoint: Option<Uri>,
    methods: Vec<String>,
    /// For signed assertions; `None` if the document does not say.
    algorithms: Option<Vec<String>>,
}

/// The token endpoint for clients that present a certificate (RFC 8705 §5).
#[derive(Clone, Debug, Eq, PartialEq)]
enum Alias {
    None,
    At(Uri),
    /// There is one, and the client's certificate may not go there.
    Unusable,
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
    /// The issuer as the metadata calls it.
    pub(in super::super) issuer: Option<Arc<str>>,
    pub(in super::super) token_endpoint: Uri,
    pub(in super::super) revocation_endpoint: Option<Uri>,
    pub(in super::super) method: Option<&'static str>,
}

impl Choice {
    /// A token endpoint of which nothing is known, for a client that can authenticate in `able` ways.
    pub(in super::super) fn at(token_endpoint: Uri, able: &'static [&'static str]) -> Self {
        Self {
            issuer: None,
            token_endpoint,
            revocation_endpoint: None,
            method: able.first().copied(),
        }
    }
}

/// Why a body is not used as the metadata of an issuer.
pub(super) enum Unread {
    /// It is not metadata, or names no token endpoint: there may be some at another place.
    NoMetadata(&'static str),
    /// It is metadata that must not be used.
    Refused(TokenError),
}

impl Metadata {
    /// The document in `body`, if it is the one of `issuer`. Members that are optional and odd are passed over.
    pub(super) fn read(body: &[u8], issuer: &Issuer, allow_http: bool) -> Result<Self, Unread> {
        let text = |members: &Map<String, Value>, name: &str| {
            let text = members.get(name)?.as_str();
            text.map(str::to_owned)
        };
        let members = Members::read(body).unwrap_or_default().members;
        let Some(named) = text(&members, "issuer") else {
            return Err(Unread::NoMetadata("no JSON object with an `issuer`"));
        };
        // RFC 8414 §3.3: identical, or the document must not be used.
        if !issuer.is_called(&named) {
            return Err(Unread::Refused(TokenError::new(
                TokenErrorKind::IssuerMismatch,
                false,
                format!(
                    "failed at discovery: the metadata names another issuer, {:?}; the one configured must equal it to \
                     the letter, a final slash included",
                    shown(&named)
                ),
            )));
        }
        let Some(endpoint) = text(&members, "token_endpoint") else {
            return Err(Unread::NoMetadata("metadata without a `token_endpoint`"));
        };
        let trusted = Trusted {
            loopback: issuer.is_loopback(),
            http: allow_http,
        };
        // Some servers write a list where an object belongs.
        let none = Map::new();
        let aliases = members.get("mtls_endpoint_aliases");
        let aliases = aliases.and_then(Value::as_object).unwrap_or(&none);
        let alias = text(aliases, "token_endpoint").map(|uri| trusted.usable(&uri));
        // Of use on shutdown at most, if at all.
        let optional = |uri: Option<String>| trusted.usable(&uri?);
        Ok(Self {
            issuer: named.into(),
            token_endpoint: trusted.usable(&endpoint).ok_or_else(|| {
                Unread::Refused(malformed(
                    "the metadata's token endpoint is not an absolute https URL, or is on this machine while the issuer \
                     is not; name the token endpoint with `TokenEndpoint::new` if it is right",
                ))
            })?,
            mtls_token_endpoint: match alias {
                None => Alias::None,
                Some(None) => Alias::Unusable,
                Some(Some(uri)) => Alias::At(uri),
            },
            revocation_endpoint: optional(text(&members, "revocation_endpoint")),
            mtls_revocation_endpoint: optional(text(aliases, "revocation_endpoint")),
            // RFC 8414 §2: if omitted, the default is `client_secret_basic`.
            methods: list(&members, "token_endpoint_auth_methods_supported")
                .unwrap_or_else(|| vec!["client_secret_basic".to_owned()]),
            algorithms: list(&members, "token_endpoint_auth_signing_alg_values_supported"),
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
        self.choice(method)
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
        let mut choice = self.choice(known.method)?;
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
    fn choice(&self, method: Option<&'static str>) -> Result<Choice, TokenError> {
        let tls = method.is_some_and(|method| method.ends_with("tls_client_auth"));
        let token_endpoint = match &self.mtls_token_endpoint {
            Alias::At(alias) if tls => alias,
            Alias::Unusable if tls => {
                return Err(malformed(
                    "the metadata's `mtls_endpoint_aliases` name a token endpoint that is not an absolute https URL; name \
                     the right one with `TokenEndpoint::new`",
                ));
            }
            _ => &self.token_endpoint,
        };
        let revocation = self.mtls_revocation_endpoint.as_ref().filter(|_| tls);
        Ok(Choice {
            issuer: Some(Arc::clone(&self.issuer)),
            token_endpoint: token_endpoint.clone(),
            revocation_endpoint: revocation.or(self.revocation_endpoint.as_ref()).cloned(),
            method,
        })
    }
}

/// The names in a list, or in a string in its place. `None` if it says nothing.
fn list(members: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
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

/// Where a remote document may send the client's secret.
#[derive(Clone, Copy)]
struct Trusted {
    /// The issuer is on this machine, and so may its endpoints be.
    loopback: bool,
    http: bool,
}

impl Trusted {
    /// The URL, if it is absolute, and https unless it is loopback. Loopback is for issuers there: anybody else who names a
    /// port of this machine leads the secret to another program.
    fn usable(self, uri: &str) -> Option<Uri> {
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
