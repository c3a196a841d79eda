//! Google service accounts: their JSON key file as a token endpoint.

use std::{path::PathBuf, time::Duration};

use http::Uri;
use serde_json::Value;

use super::{
    AssertionClaims, ClientAuth, Grant, KeyAlgorithm, SecretFile, SecretSource, SigningKey,
    TokenEndpoint, auth::ServiceAccountFile, pem,
};
use crate::client_credentials::{TokenError, TokenErrorKind};

/// A Google service account, from its JSON key file.
///
/// Tokens are requested with a signed assertion (RFC 7523 §2.1, Google's "OAuth 2.0 for service accounts"), at the
/// `token_uri` of the file. Scopes are set on the endpoint as for any other; they become the claim `scope`.
///
/// # Examples
///
/// ```no_run
/// use tower_m2m::{ClientCredentialsLayer, client_credentials::GoogleServiceAccount};
///
/// # async fn run() -> Result<(), tower_m2m::BoxError> {
/// let account = GoogleServiceAccount::file("/run/secrets/service-account.json").await?;
/// let endpoint = account
///     .endpoint()
///     .scope("https://www.googleapis.com/auth/devstorage.read_only");
/// let layer =
///     ClientCredentialsLayer::builder(endpoint, "https://storage.googleapis.com".parse()?)
///         .build();
/// # drop(layer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "`endpoint` turns it into a token endpoint"]
pub struct GoogleServiceAccount {
    /// Name of the account.
    email: String,
    /// URL of the token endpoint.
    token_uri: Uri,
    /// The key.
    key: SigningKey,
    /// User that the account acts for.
    subject: Option<String>,
}

impl GoogleServiceAccount {
    /// Reads the content of a key file.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`Configuration`](TokenErrorKind::Configuration) that describes what was found, if it
    /// is not the key file of a service account.
    pub fn json(json: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let json = pem::unwrapped(json.as_ref());
        let file = ServiceAccountFile::read(&json).map_err(|found| invalid(&found))?;
        let key = SigningKey::pem(KeyAlgorithm::Rs256, file.private_key.as_bytes())?;
        let key = match &file.private_key_id {
            Some(id) => key.with_key_id(id.as_str()),
            None => key,
        };
        Self::new(&file, key)
    }

    /// Reads the key file at `path`. The key is read again for every token request, so that the file may be replaced by
    /// one with another key of the same account.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect: nothing is sent.
    ///
    /// # Errors
    ///
    /// As for [`json`](Self::json), and a transient one of kind
    /// [`SecretUnavailable`](TokenErrorKind::SecretUnavailable) if the file cannot be read.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn file(path: impl Into<PathBuf>) -> Result<Self, TokenError> {
        let source = SecretFile::new(path);
        let content = source.read().await?;
        let json = pem::unwrapped(content.expose().as_bytes());
        let file = ServiceAccountFile::read(&json).map_err(|found| invalid(&found))?;
        // Reports an invalid key now instead of with the first token request.
        SigningKey::pem(KeyAlgorithm::Rs256, file.private_key.as_bytes())?;
        Self::new(&file, SigningKey::source(KeyAlgorithm::Rs256, source))
    }

    /// Combines the public parts of the file with the key.
    fn new(file: &ServiceAccountFile, key: SigningKey) -> Result<Self, TokenError> {
        let token_uri = file
            .token_uri
            .parse()
            .map_err(|_| invalid("a `token_uri` that is not a URL"))?;
        Ok(Self {
            email: file.client_email.clone(),
            token_uri,
            key,
            subject: None,
        })
    }

    /// Sets the user that the account acts for, with domain-wide delegation. Default: none, the account itself.
    pub fn subject(mut self, user: impl Into<String>) -> Self {
        self.subject = Some(user.into());
        self
    }

    /// Returns the token endpoint of the account, without scopes. Sends nothing.
    pub fn endpoint(&self) -> TokenEndpoint {
        let claims = AssertionClaims::new(self.email.as_str())
            .audience(self.token_uri.to_string())
            .lifetime(LIFETIME)
            .scope_claim(true);
        // Google reads `sub` as the user to act for.
        let claims = match &self.subject {
            Some(subject) => claims.subject(subject.as_str()),
            None => claims.claim("sub", Value::Null),
        };
        TokenEndpoint::new(self.token_uri.clone(), ClientAuth::anonymous())
            .grant(Grant::signed_jwt(self.key.clone(), claims))
    }
}

/// Creates the error for a file that is not a key file.
fn invalid(found: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::Configuration,
        false,
        format!(
            "was not sent: the key file is not that of a Google service account: found {found}; expected JSON with the type \
             `service_account`, as `gcloud iam service-accounts keys create` writes it"
        ),
    )
}

/// Lifetime of an assertion. Google accepts at most an hour. Five minutes tolerate a clock that is behind.
const LIFETIME: Duration = Duration::from_secs(300);
