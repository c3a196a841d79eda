//! Every key of a configuration, and the type of its value.

use std::{collections::BTreeMap, iter::once, time::Duration};

use crate::secret::Secret;
use serde::{Deserialize, Serialize, de::value::MapDeserializer};

use super::value::Invalid;

/// The keys, in the order of the tables in `docs/configuration.md`.
///
/// The same schema reads files and the environment; [`Value`](super::value::Value) says what a text stands for. A secret
/// has three keys, of which one may be set: `_file` holds the path of a file that is read for every attempt, and `_variable`
/// the name of a variable, in whose place its content is read.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    not(all(feature = "https", feature = "jwt")),
    expect(dead_code, reason = "some keys are for these features alone")
)]
pub(super) struct Keys {
    /// The client's id at the authorization server. Required, except by `anonymous`.
    pub(super) client_id: Option<String>,
    /// The client authentication method. Default: `post`.
    pub(super) client_auth: Option<Method>,
    /// The client's secret. Required by the methods that need it.
    #[serde(alias = "client_secret_file", alias = "client_secret_variable")]
    pub(super) client_secret: Option<Secret>,
    /// The private key: PEM, or JWK for `private_key_jwt`. Required by the methods that need it.
    #[serde(alias = "private_key_file", alias = "private_key_variable")]
    pub(super) private_key: Option<Secret>,
    /// The `kid` of the private key. Default: that of the JWK, or none.
    pub(super) key_id: Option<String>,
    /// The algorithm that signs assertions. Required for a private key. Default for a secret: `HS256`.
    pub(super) signing_algorithm: Option<String>,
    /// The audience of signed assertions: a text, `token_endpoint` or `requested_endpoint`. Default: the issuer.
    pub(super) assertion_audience: Option<String>,
    /// Whether signed assertions carry `typ: client-authentication+jwt`. Default: `true`.
    pub(super) assertion_typ: Option<bool>,
    /// A file that holds an assertion, read for every attempt. Required by `assertion`.
    pub(super) assertion_file: Option<String>,
    /// The `client_assertion_type` of that assertion. Default: `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    pub(super) assertion_type: Option<String>,
    /// A file that holds the client's certificate chain, PEM, read for every fetch.
    pub(super) certificate_file: Option<String>,
    /// The token endpoint's URL. Either this or `issuer` is required.
    pub(super) token_url: Option<String>,
    /// The issuer, whose metadata names the token endpoint.
    pub(super) issuer: Option<String>,
    /// A file that holds the certificates to trust, PEM, read once. Default: the platform's.
    pub(super) ca_file: Option<String>,
    /// The scopes to ask for. Default: none.
    pub(super) scope: Option<Vec<String>>,
    /// The `audience` parameters. Default: none.
    pub(super) audience: Option<Vec<String>>,
    /// The resources to ask for (RFC 8707). Default: none.
    pub(super) resource: Option<Vec<String>>,
    /// The rights to ask for (RFC 9396). Default: none.
    pub(super) authorization_details: Option<serde_json::Value>,
    /// Further parameters of the form. Default: none.
    pub(super) parameters: Option<BTreeMap<String, Secret>>,
    /// The grant. Default: `client_credentials`.
    pub(super) grant: Option<GrantType>,
    /// A file that holds the assertion of `jwt_bearer`, read for every attempt.
    pub(super) grant_assertion_file: Option<String>,
    /// A file that holds the token to exchange, read for every attempt.
    pub(super) subject_token_file: Option<String>,
    /// The type of the token to exchange. Default: `urn:ietf:params:oauth:token-type:jwt`.
    pub(super) subject_token_type: Option<String>,
    /// The type of token to ask for in exchange. Default: the server's choice.
    pub(super) requested_token_type: Option<String>,
    /// Lifetime of a token whose response has none. Default: 3600 s.
    pub(super) default_lifetime: Option<Duration>,
    /// Token types that are sent as bearer tokens, besides `Bearer`. Default: none.
    pub(super) bearer_types: Option<Vec<String>>,
    /// Maximum number of immediate retries of a token request. Default: 2.
    pub(super) token_retries: Option<u32>,
    /// The URL that revokes the token on shutdown, or `discovered`. Default: the token is not revoked.
    pub(super) revoke_on_shutdown: Option<String>,
    /// The audience of signed assertions when a token is revoked. Default: that of `assertion_audience`.
    pub(super) revocation_audience: Option<String>,
    /// A key that is sent in place of a token. No key above may be set then.
    #[serde(alias = "api_key_file", alias = "api_key_variable")]
    pub(super) api_key: Option<Secret>,
    /// The origins that the token may be sent to. Required by `Config::layer`.
    pub(super) allowed_origins: Option<Vec<String>>,
    /// The origin of requests whose URI has no host. Default: such requests fail.
    pub(super) assume_origin: Option<String>,
    /// The header that carries the token. Default: `authorization`.
    pub(super) header: Option<String>,
    /// The scheme in front of the token. Default: `Bearer` in `authorization`, none elsewhere.
    pub(super) scheme: Option<String>,
    /// The credential's name in errors and events. Default: none.
    pub(super) name: Option<String>,
    /// Interval before a token's expiry in which it is refreshed. Default: 30 s.
    pub(super) refresh_before: Option<Duration>,
    /// Maximum duration of one fetch of a token, including its retries. Default: 30 s.
    pub(super) fetch_timeout: Option<Duration>,
    /// Maximum `Retry-After` of a token endpoint that is respected. Default: 300 s.
    pub(super) max_token_backoff: Option<Duration>,
    /// Minimum interval between two refreshes that a 401 causes. Default: 10 s.
    pub(super) refresh_cooldown: Option<Duration>,
    /// Maximum number of callers that wait for a token at once. Default: 100000.
    pub(super) max_waiting: Option<u32>,
    /// Whether a request whose token was rejected is sent once more. Default: `true`.
    pub(super) replay: Option<bool>,
    /// Whether plain http is allowed to hosts other than loopback. Default: `false`.
    pub(super) dangerously_allow_http: Option<bool>,
}

impl Keys {
    /// The secret whose keys begin with `key`.
    pub(super) fn secret(&self, key: &str) -> Option<&Secret> {
        match key {
            "client_secret" => self.client_secret.as_ref(),
            "private_key" => self.private_key.as_ref(),
            _ => self.api_key.as_ref(),
        }
    }
}

/// What the three keys of a secret end with: its value, its file, its variable.
pub(super) const SECRET_ENDS: [&str; 3] = ["", "_file", "_variable"];

/// The values of `client_auth`.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Method {
    #[default]
    Post,
    Basic,
    BasicRaw,
    ClientSecretPost,
    ClientSecretBasic,
    ClientSecretJwt,
    PrivateKeyJwt,
    Assertion,
    TlsClientAuth,
    SelfSignedTlsClientAuth,
    None,
    Anonymous,
}

/// The values of `grant`.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum GrantType {
    #[default]
    ClientCredentials,
    JwtBearer,
    TokenExchange,
}

/// Keys that go with some values of another key only: that key, its values, the keys.
pub(super) fn belonging() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    BELONGING.lines().filter_map(|line| {
        let (of, rest) = line.split_once(": ")?;
        let (values, keys) = rest.split_once(": ")?;
        Some((of, values, keys))
    })
}

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

/// The name of every key, in the order of the schema.
pub(super) fn names() -> &'static [&'static str] {
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
