//! The credentials of a client, as the conformance tests of MCP pass them.

use http::Uri;
use serde::Deserialize;
use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint,
    client_credentials::{
        IdentityAssertion, KeyAlgorithm, ProtectedResource, SigningKey, TokenExchange,
    },
};

/// Credentials in JSON. The members that are present choose the kind: a key before a secret, and the token of an identity
/// provider in addition to it.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    /// Client identifier at the authorization server.
    client_id: String,
    /// Secret of the client.
    client_secret: Option<String>,
    /// Private key of the client, in PEM.
    private_key_pem: Option<String>,
    /// Algorithm of the key.
    signing_algorithm: Option<String>,
    /// The identity provider of a user on whose behalf the client acts.
    #[serde(flatten)]
    provider: Option<Provider>,
}

/// An identity provider, and an ID token of it.
#[derive(Deserialize)]
struct Provider {
    /// Client identifier at the provider.
    idp_client_id: String,
    /// ID token of the user.
    idp_id_token: String,
    /// Token endpoint of the provider.
    idp_token_endpoint: String,
}

impl Credentials {
    /// Reads the credentials from `MCP_CONFORMANCE_CONTEXT`.
    ///
    /// # Errors
    ///
    /// The variable is not set, or is not such a JSON object.
    pub(crate) fn from_env() -> Result<Self, BoxError> {
        let text = std::env::var("MCP_CONFORMANCE_CONTEXT")
            .map_err(|error| format!("MCP_CONFORMANCE_CONTEXT: {error}"))?;
        // Without the text, which has secrets.
        let credentials = serde_json::from_str(&text);
        credentials.map_err(|error| format!("MCP_CONFORMANCE_CONTEXT: {error}").into())
    }

    /// Returns the endpoint that the MCP server at `url` names.
    ///
    /// # Errors
    ///
    /// There is neither a secret nor a key, or a URL or an algorithm is invalid.
    pub(crate) fn endpoint(self, url: Uri) -> Result<TokenEndpoint, BoxError> {
        let auth = match (self.private_key_pem, self.client_secret) {
            (Some(pem), _) => {
                let algorithm = algorithm(self.signing_algorithm.as_deref())?;
                ClientAuth::private_key_jwt(self.client_id, SigningKey::pem(algorithm, pem)?)
            }
            (None, Some(secret)) => ClientAuth::basic(self.client_id, secret),
            (None, None) => return Err("the credentials have neither a key nor a secret".into()),
        };
        let resource = ProtectedResource::new(url).supported_scopes(true);
        let endpoint = TokenEndpoint::for_resource(resource, auth);
        Ok(match self.provider {
            None => endpoint,
            Some(provider) => {
                let at = provider.idp_token_endpoint.parse()?;
                let at_provider = TokenEndpoint::new(at, ClientAuth::none(provider.idp_client_id));
                let subject = provider.idp_id_token;
                endpoint.grant(IdentityAssertion::new(
                    at_provider,
                    subject,
                    TokenExchange::ID_TOKEN,
                ))
            }
        })
    }
}

/// Returns the algorithm with this name. Default: ES256.
fn algorithm(name: Option<&str>) -> Result<KeyAlgorithm, BoxError> {
    Ok(match name.unwrap_or("ES256") {
        "ES256" => KeyAlgorithm::Es256,
        "ES384" => KeyAlgorithm::Es384,
        "EdDSA" => KeyAlgorithm::EdDsa,
        "PS256" => KeyAlgorithm::Ps256,
        "RS256" => KeyAlgorithm::Rs256,
        other => return Err(format!("unknown signing algorithm {other:?}").into()),
    })
}
