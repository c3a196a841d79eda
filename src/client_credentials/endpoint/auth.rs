//! How the client shows the token endpoint who it is (RFC 6749 §2.3).

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{
    SecretSource,
    form::{Form, encode_into},
};
use crate::{
    client_credentials::{TokenError, TokenErrorKind},
    sync::{Mutex, lock},
};

/// A client's way to authenticate at a token endpoint. Cheap to clone.
///
/// Carried out anew for every attempt, so that a secret which changes is read again.
#[derive(Clone)]
pub struct ClientAuth(Arc<dyn Authenticate>);

impl ClientAuth {
    /// `client_secret_basic`: id and secret in an `Authorization: Basic` header, each form-urlencoded first
    /// (RFC 6749 §2.3.1). For servers that do not decode them, see [`basic_raw`](Self::basic_raw).
    #[must_use]
    pub fn basic(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::secret(id, secret, Method::Basic)
    }

    /// `client_secret_basic` without the encoding that RFC 6749 asks for: the two are joined by a colon as they are, as
    /// in RFC 7617. Some servers, Didit's among them, document this form. The same as [`basic`](Self::basic) for ids
    /// and secrets of letters, digits and `*-._`.
    #[must_use]
    pub fn basic_raw(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::secret(id, secret, Method::BasicRaw)
    }

    /// `client_secret_post`: id and secret as `client_id` and `client_secret` in the form (RFC 6749 §2.3.1).
    #[must_use]
    pub fn post(id: impl Into<String>, secret: impl SecretSource) -> Self {
        Self::secret(id, secret, Method::Post)
    }

    pub(super) fn authenticate<'a>(
        &'a self,
        request: &'a mut Credentials,
    ) -> BoxFuture<'a, Result<(), TokenError>> {
        self.0.authenticate(request)
    }

    pub(super) fn changed(&self) -> BoxFuture<'_, bool> {
        self.0.changed()
    }

    pub(super) fn problem(&self) -> Option<&'static str> {
        self.0.problem()
    }

    fn secret(id: impl Into<String>, secret: impl SecretSource, method: Method) -> Self {
        Self(Arc::new(ClientSecret {
            id: id.into(),
            secret,
            method,
            used: Mutex::new(None),
        }))
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientAuth").field(&self.0.method()).finish()
    }
}

/// What client authentication adds to a token request.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    pub(super) headers: HeaderMap,
    pub(super) form: Form,
    /// What to look at if these credentials are refused.
    pub(super) advice: Option<&'static str>,
    /// Never to appear in what the server's answer is quoted for.
    pub(super) secrets: Vec<SecretString>,
}

pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One way of authentication, erased. Asynchronous, because a secret may have to be fetched or an assertion signed.
trait Authenticate: Send + Sync {
    fn authenticate<'a>(
        &'a self,
        request: &'a mut Credentials,
    ) -> BoxFuture<'a, Result<(), TokenError>>;

    /// Whether another attempt would be made with another secret than the last one.
    fn changed(&self) -> BoxFuture<'_, bool>;

    /// What is wrong whatever the server says.
    fn problem(&self) -> Option<&'static str>;

    /// The method's name in the IANA registry.
    fn method(&self) -> &'static str;
}

struct ClientSecret<S> {
    id: String,
    secret: S,
    method: Method,
    /// The secret of the last attempt.
    used: Mutex<Option<SecretString>>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Method {
    Basic,
    BasicRaw,
    Post,
}

impl<S: SecretSource> Authenticate for ClientSecret<S> {
    fn authenticate<'a>(
        &'a self,
        request: &'a mut Credentials,
    ) -> BoxFuture<'a, Result<(), TokenError>> {
        Box::pin(async move {
            let secret = self.secret.read().await?;
            if secret.expose_secret().is_empty() {
                return Err(TokenError::new(
                    TokenErrorKind::Secret,
                    false,
                    "was not sent: the client secret is empty",
                ));
            }
            *lock(&self.used) = Some(secret.clone());
            match self.method {
                Method::Post => {
                    request.form.push("client_id", self.id.as_str());
                    request.form.push("client_secret", secret.expose_secret());
                }
                Method::Basic | Method::BasicRaw => {
                    let value = basic(&self.id, secret.expose_secret(), self.method)?;
                    request.headers.insert(AUTHORIZATION, value);
                    request.advice = self.other_form(secret.expose_secret());
                }
            }
            request.secrets.push(secret);
            Ok(())
        })
    }

    fn changed(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let Ok(now) = self.secret.read().await else {
                return false;
            };
            lock(&self.used)
                .as_ref()
                .is_some_and(|used| used.expose_secret() != now.expose_secret())
        })
    }

    fn problem(&self) -> Option<&'static str> {
        if self.id.is_empty() {
            return Some("the client id is empty");
        }
        let raw_colon = self.method == Method::BasicRaw && self.id.contains(':');
        raw_colon.then_some(
            "the client id holds a colon, which `ClientAuth::basic_raw` cannot send; use `ClientAuth::basic`",
        )
    }

    fn method(&self) -> &'static str {
        match self.method {
            Method::Basic | Method::BasicRaw => "client_secret_basic",
            Method::Post => "client_secret_post",
        }
    }
}

impl<S> ClientSecret<S> {
    /// The other setting, for credentials on which the two forms of Basic differ.
    fn other_form(&self, secret: &str) -> Option<&'static str> {
        let plain = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"*-._".contains(&b))
        };
        if plain(&self.id) && plain(secret) {
            return None;
        }
        Some(match self.method {
            Method::BasicRaw => {
                "id or secret hold characters on which servers differ: try `ClientAuth::basic`, which encodes them"
            }
            Method::Basic | Method::Post => {
                "id or secret hold characters on which servers differ: try `ClientAuth::basic_raw`, which sends them \
                 unencoded"
            }
        })
    }
}

fn basic(id: &str, secret: &str, method: Method) -> Result<HeaderValue, TokenError> {
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    if method == Method::BasicRaw {
        pair.push_str(id);
        pair.push(':');
        pair.push_str(secret);
    } else {
        encode_into(&mut pair, id);
        pair.push(':');
        encode_into(&mut pair, secret);
    }
    let mut value = Zeroizing::new(String::with_capacity(6 + pair.len().div_ceil(3) * 4));
    value.push_str("Basic ");
    STANDARD.encode_string(pair.as_bytes(), &mut value);
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(|_| {
        TokenError::configuration("was not sent: the credentials cannot be encoded")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(method: Method) -> String {
        let header = basic("odd id+%40", "p@ss w/rd", method).unwrap();
        let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    }

    #[test]
    fn basic_credentials_are_encoded_with_a_space_as_percent_20() {
        assert_eq!(sent(Method::Basic), "odd%20id%2B%2540:p%40ss%20w%2Frd");
    }

    #[test]
    fn raw_basic_credentials_are_sent_as_they_are() {
        assert_eq!(sent(Method::BasicRaw), "odd id+%40:p@ss w/rd");
    }

    #[test]
    fn the_header_is_sensitive() {
        assert!(basic("id", "secret", Method::Basic).unwrap().is_sensitive());
    }
}
