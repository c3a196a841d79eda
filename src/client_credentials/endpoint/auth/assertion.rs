//! Assertions as client authentication (RFC 7521 §4.2): how one is sent, and ready ones that somebody else signed.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{ClientAuthentication, SecretSource, TokenRequest, check_id};
use crate::client_credentials::{
    TokenError, TokenErrorKind, endpoint::shared_secret::SharedSecret,
};

/// A file that holds a token, read again for every attempt, because its writer replaces it: a service account token
/// that Kubernetes projects, or a SPIFFE JWT-SVID.
///
/// White space around the token is cut. A file that is empty or cannot be read is a transient error.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
    /// Stands for the path in errors.
    name: Option<String>,
}

impl TokenFile {
    /// The file at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            name: None,
        }
    }

    /// Has errors say `name` rather than the path.
    pub(in crate::client_credentials) fn named(self, name: String) -> Self {
        let name = Some(name);
        Self { name, ..self }
    }
}

impl SecretSource for TokenFile {
    async fn read(&self) -> Result<SecretString, TokenError> {
        let path = self.path.clone();
        let content = tokio::task::spawn_blocking(move || std::fs::read_to_string(path))
            .await
            .map_err(|error| self.unreadable("could not be read").with_source(error))?
            .map(Zeroizing::new)
            .map_err(|error| self.unreadable("could not be read").with_source(error))?;
        match content.trim() {
            "" => Err(self.unreadable("is empty")),
            token => Ok(token.into()),
        }
    }
}

impl TokenFile {
    fn unreadable(&self, what: &str) -> TokenError {
        let path = || self.path.display().to_string();
        let name = self.name.clone().unwrap_or_else(path);
        TokenError::new(
            TokenErrorKind::Secret,
            true,
            format!("was not sent: the token file {name} {what}"),
        )
    }
}

/// An assertion that is ready to be sent.
pub(super) struct ReadyAssertion {
    id: String,
    assertion: SharedSecret,
    assertion_type: String,
}

impl ReadyAssertion {
    pub(super) fn new(
        id: impl Into<String>,
        assertion: impl SecretSource,
        assertion_type: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            assertion: SharedSecret::new("client assertion", assertion),
            assertion_type: assertion_type.into(),
        }
    }
}

impl ClientAuthentication for ReadyAssertion {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        let assertion = self.assertion.read().await?;
        request.advice = Some(
            "check the client id, the assertion's issuer, subject and audience as the server has them registered, and \
             that the assertion has not expired",
        );
        assert_client(request, &self.id, &self.assertion_type, assertion);
        Ok(())
    }

    async fn changed(&self) -> bool {
        self.assertion.changed().await
    }

    fn check(&self) -> Result<(), TokenError> {
        check_id(&self.id)
    }
}

/// RFC 7521 §4.2.
pub(super) fn assert_client(
    request: &mut TokenRequest,
    id: &str,
    assertion_type: &str,
    assertion: SecretString,
) {
    request.parameter("client_id", id);
    request.parameter("client_assertion_type", assertion_type);
    request.parameter("client_assertion", assertion.expose_secret());
    request.redact(assertion);
}
