//! Schema of a configuration: every key and the type of its value.
//!
//! The derived implementation of `Deserialize` is the schema: the names, the types and the order of the keys exist only
//! here. The guide is checked against it by a test.

use std::{collections::BTreeMap, iter::once, time::Duration};

use crate::secret::Secret;
use serde::{Deserialize, Serialize, de::value::MapDeserializer};

use super::value::Invalid;

/// All keys, in the order of the tables in `docs/configuration.md`.
///
/// Files and the environment use the same schema; [`Value`](super::value::Value) converts texts to the field's type. A
/// secret has three keys, of which at most one may be set. With the suffix `_file` the key holds the path of a file
/// that is read for every attempt; with `_variable` it holds the name of a variable, whose value is read instead.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    not(all(feature = "https", feature = "dpop")),
    expect(dead_code, reason = "some keys are for these features alone")
)]
pub(super) struct Keys {
    /// Client identifier (RFC 6749 §2.2). Required, except by `anonymous`.
    pub(super) client_id: Option<String>,
    /// Client authentication method. Default: `post`.
    pub(super) client_auth: Option<Method>,
    /// Client secret. Required by the methods that use one.
    #[serde(alias = "client_secret_file", alias = "client_secret_variable")]
    pub(super) client_secret: Option<Secret>,
    /// Private key: PEM, or JWK for `private_key_jwt`. Required by the methods that use one.
    #[serde(alias = "private_key_file", alias = "private_key_variable")]
    pub(super) private_key: Option<Secret>,
    /// `kid` of the private key. Default: that of the JWK, or none.
    pub(super) key_id: Option<String>,
    /// Algorithm that signs assertions. Required for a private key. Default for a secret: `HS256`.
    pub(super) signing_algorithm: Option<String>,
    /// Audience of signed assertions: a text, `token_endpoint` or `requested_endpoint`. Default: the issuer.
    pub(super) assertion_audience: Option<String>,
    /// Whether signed assertions carry `typ: client-authentication+jwt`. Default: `true`.
    pub(super) assertion_typ: Option<bool>,
    /// File that contains an assertion, read for every attempt. Required by `assertion`.
    pub(super) assertion_file: Option<String>,
    /// `client_assertion_type` of that assertion. Default: `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    pub(super) assertion_type: Option<String>,
    /// File that contains the client's certificate chain in PEM, read for every fetch. Default: none.
    pub(super) certificate_file: Option<String>,
    /// URL of the token endpoint. This key, `issuer` or `protected_resource` is required.
    pub(super) token_url: Option<String>,
    /// Issuer whose metadata names the token endpoint (RFC 8414).
    pub(super) issuer: Option<String>,
    /// API whose metadata names the issuer (RFC 9728).
    pub(super) protected_resource: Option<String>,
    /// Issuers that this metadata may name. Default: any.
    pub(super) allowed_issuers: Option<Vec<String>>,
    /// Whether the scopes in this metadata are requested, if no others are named. Default: `false`.
    pub(super) supported_scopes: Option<bool>,
    /// File that contains the trusted root certificates in PEM, read once. Default: the platform's roots.
    pub(super) ca_file: Option<String>,
    /// Proxy of token requests: a URL, which may contain a user and a password, `none`, or `environment`. Default:
    /// `environment`.
    pub(super) proxy: Option<Secret>,
    /// Hosts that are reached without a proxy. Default: those of the environment, unless `proxy` is a URL.
    pub(super) no_proxy: Option<Vec<String>>,
    /// Scopes to request (RFC 6749 §3.3). Default: none.
    pub(super) scope: Option<Vec<String>>,
    /// `audience` parameters to send. Default: none.
    pub(super) audience: Option<Vec<String>>,
    /// Resources to request (RFC 8707). Default: that of `protected_resource`, or none.
    pub(super) resource: Option<Vec<String>>,
    /// Authorization details to request (RFC 9396). Default: none.
    pub(super) authorization_details: Option<serde_json::Value>,
    /// Further parameters of the token request. Default: none.
    pub(super) parameters: Option<BTreeMap<String, Secret>>,
    /// Grant type. Default: `client_credentials`.
    pub(super) grant: Option<GrantType>,
    /// File that contains the assertion of `jwt_bearer` (RFC 7523 §2.1), read for every attempt.
    pub(super) grant_assertion_file: Option<String>,
    /// File that contains the subject token of `token_exchange` (RFC 8693), read for every attempt.
    pub(super) subject_token_file: Option<String>,
    /// Type of the subject token. Default: `urn:ietf:params:oauth:token-type:jwt`.
    pub(super) subject_token_type: Option<String>,
    /// Type of token to request in exchange. Default: chosen by the server.
    pub(super) requested_token_type: Option<String>,
    /// Lifetime of a token whose response has no `expires_in`. Default: 3600 s.
    pub(super) default_lifetime: Option<Duration>,
    /// Token types that are sent as bearer tokens, in addition to `Bearer`. Default: none.
    pub(super) bearer_types: Option<Vec<String>>,
    /// Maximum number of immediate retries of a token request. Default: 2.
    pub(super) token_retries: Option<u32>,
    /// Revocation endpoint (RFC 7009) for shutdown: a URL, or `discovered`. Default: the token is not revoked.
    pub(super) revoke_on_shutdown: Option<String>,
    /// Audience of signed assertions in revocation requests. Default: that of `assertion_audience`.
    pub(super) revocation_audience: Option<String>,
    /// Whether tokens are bound to a key (RFC 9449). Default: `false`.
    pub(super) dpop_bound_access_tokens: Option<bool>,
    /// File that contains that key, PEM or JWK, read once. Default: a generated key for each token.
    pub(super) dpop_key_file: Option<String>,
    /// Algorithm of the key in `dpop_key_file`. Default: `ES256`.
    pub(super) dpop_signing_algorithm: Option<String>,
    /// Whether tokens are bound to the client's certificate (RFC 8705 §3). Default: `false`.
    pub(super) tls_client_certificate_bound_access_tokens: Option<bool>,
    /// File that contains the certificate that the API's client presents, read for every fetch. Default: that of
    /// `certificate_file`.
    pub(super) api_certificate_file: Option<String>,
    /// API key that is sent in place of a token. Excludes all keys above.
    #[serde(alias = "api_key_file", alias = "api_key_variable")]
    pub(super) api_key: Option<Secret>,
    /// Origins that the token may be sent to. Required by `Config::layer`.
    pub(super) allowed_origins: Option<Vec<String>>,
    /// Origin of requests whose URI has no host. Default: such requests fail.
    pub(super) assume_origin: Option<String>,
    /// Header that carries the token. Default: `authorization`.
    pub(super) header: Option<String>,
    /// Authentication scheme in front of the token. Default: `Bearer` in `authorization`, none in other headers.
    pub(super) scheme: Option<String>,
    /// Name of the credential in errors and events. Default: none.
    pub(super) name: Option<String>,
    /// Interval before a token's expiry in which it is refreshed. Default: 30 s.
    pub(super) refresh_before: Option<Duration>,
    /// Maximum duration of one token fetch, including its retries. Default: 30 s.
    pub(super) fetch_timeout: Option<Duration>,
    /// Maximum `Retry-After` of a token endpoint that is honored. Default: 300 s.
    pub(super) max_token_backoff: Option<Duration>,
    /// Minimum interval between two refreshes that are caused by a 401. Default: 10 s.
    pub(super) refresh_cooldown: Option<Duration>,
    /// Maximum number of callers that wait for a token at the same time. Default: 100000.
    pub(super) max_waiting: Option<u32>,
    /// Whether a request whose token was rejected is sent once more. Default: `true`.
    pub(super) replay: Option<bool>,
    /// Whether plain http is allowed to hosts other than loopback. Default: `false`.
    pub(super) dangerously_allow_http: Option<bool>,
}

impl Keys {
    /// Returns the secret whose keys begin with `key`.
    pub(super) fn secret(&self, key: &str) -> Option<&Secret> {
        match key {
            "client_secret" => self.client_secret.as_ref(),
            "private_key" => self.private_key.as_ref(),
            _ => self.api_key.as_ref(),
        }
    }
}

/// Suffixes of the three keys of a secret: value, file, variable.
pub(super) const SECRET_ENDS: [&str; 3] = ["", "_file", "_variable"];

/// Values of `client_auth`.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Method {
    /// Secret in the form. The default, because most servers accept it.
    #[default]
    Post,
    /// Secret in the `Authorization` header, form-encoded (RFC 6749 §2.3.1).
    Basic,
    /// Secret in the `Authorization` header, not encoded.
    BasicRaw,
    /// The registered name of `post`.
    ClientSecretPost,
    /// The registered name of `basic`.
    ClientSecretBasic,
    /// Assertion signed with the secret.
    ClientSecretJwt,
    /// Assertion signed with a private key.
    PrivateKeyJwt,
    /// Assertion from a file.
    Assertion,
    /// Certificate issued by a CA (RFC 8705 §2.1).
    TlsClientAuth,
    /// Self-signed certificate (RFC 8705 §2.2).
    SelfSignedTlsClientAuth,
    /// Identifier only: a public client.
    None,
    /// No client authentication and no identifier.
    Anonymous,
}

/// Values of `grant`.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum GrantType {
    /// RFC 6749 §4.4.
    #[default]
    ClientCredentials,
    /// RFC 7523 §2.1.
    JwtBearer,
    /// RFC 8693.
    TokenExchange,
}

/// Returns the keys that apply only to some values of another key, as (other key, its values, dependent keys).
pub(super) fn belonging() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    BELONGING.lines().filter_map(|line| {
        let (of, rest) = line.split_once(": ")?;
        let (values, keys) = rest.split_once(": ")?;
        Some((of, values, keys))
    })
}

/// Table of dependent keys, one rule a line: key, its values, dependent keys.
///
/// A key in no row applies to every method and every grant.
const BELONGING: &str = "\
client_auth: post, basic, basic_raw, client_secret_post, client_secret_basic, client_secret_jwt, private_key_jwt, assertion, tls_client_auth, self_signed_tls_client_auth, none: client_id
client_auth: post, basic, basic_raw, client_secret_post, client_secret_basic, client_secret_jwt: client_secret client_secret_file client_secret_variable
client_auth: private_key_jwt, tls_client_auth, self_signed_tls_client_auth: private_key private_key_file private_key_variable
client_auth: private_key_jwt: key_id
client_auth: client_secret_jwt, private_key_jwt: signing_algorithm assertion_audience assertion_typ
client_auth: assertion: assertion_file assertion_type
client_auth: tls_client_auth, self_signed_tls_client_auth: certificate_file
grant: jwt_bearer: grant_assertion_file
grant: token_exchange: subject_token_file subject_token_type requested_token_type";

/// Returns the names of all keys, in the order of the schema.
///
/// The order matters: the keys of a token endpoint come before `api_key`, which excludes them.
pub(super) fn names() -> &'static [&'static str] {
    // serde reports the names of all fields for an unknown field, here the empty name.
    let unknown = Keys::deserialize(MapDeserializer::new(once(("", ""))));
    unknown.map_or_else(|error: Invalid| error.known, |_| &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_credentials::Config;

    const KINDS: [&str; 7] = [
        "JSON", "number", "seconds", "table", "text", "words", "yes/no",
    ];

    /// The keys in the tables of the guide, and what their values are.
    fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
        let guide = include_str!("../../docs/configuration.md");
        guide.lines().filter_map(|line| {
            let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let kind = rest.split(' ').next()?;
            KINDS.contains(&kind).then_some((key, kind))
        })
    }

    #[test]
    fn the_guide_lists_every_key() {
        let rows: Vec<_> = rows().map(|(key, _)| key).collect();

        assert_eq!(rows, names());
    }

    #[test]
    fn the_guide_names_the_type_of_every_value() {
        for (key, kind) in rows() {
            for (sample, kinds) in [
                ("true", ["JSON", "yes/no", ""]),
                ("1", ["JSON", "number", "seconds"]),
                (r#"["a"]"#, ["JSON", "words", ""]),
                (r#"{"a": "b"}"#, ["JSON", "table", ""]),
            ] {
                let read = serde_json::from_str::<Config>(&format!(r#"{{"{key}": {sample}}}"#));

                let several = key == "audience" && sample.starts_with('[');
                assert_eq!(
                    read.is_ok(),
                    kinds.contains(&kind) || several,
                    "{key}: {sample}"
                );
            }
        }
    }

    #[test]
    fn keys_belong_to_values_that_exist() {
        for (of, values, keys) in belonging() {
            for value in values.split(", ") {
                let read = serde_json::from_str::<Config>(&format!(r#"{{"{of}": "{value}"}}"#));
                assert!(read.is_ok(), "{of}: {value}");
            }
            assert!(keys.split(' ').all(|key| names().contains(&key)), "{keys}");
        }
        assert_eq!(belonging().count(), BELONGING.lines().count());
    }
}
