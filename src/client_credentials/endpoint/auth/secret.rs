//! `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1).
//!
//! The two methods differ only in where the secret is sent. RFC 6749 §2.3.1 requires form-urlencoding within the
//! header, which not every server decodes; `BasicRaw` omits it.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

use super::{
    super::secret::SecretSource,
    client_authentication::{ClientAuthentication, validate_id},
    request::TokenRequest,
};
use crate::client_credentials::{
    CacheKey, TokenError,
    endpoint::{form::encode_into, secret::BoxSecretSource},
};

/// Client authentication with a client secret.
///
/// The configured method is a preference. With metadata the server chooses between header and form; without, the
/// preference is used.
pub(super) struct ClientSecret {
    /// Client identifier.
    id: String,
    /// Source of the client secret.
    secret: BoxSecretSource,
    /// Method that is used unless the server's metadata selects another one.
    method: Method,
}

/// How the secret is sent.
///
/// `BasicRaw` exists for servers that compare the header with the stored secret without decoding it. It differs from
/// `Basic` only for characters outside `A-Z a-z 0-9 * - . _`.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Method {
    /// Header, with both parts form-urlencoded.
    Basic,
    /// Header, with both parts as they are.
    BasicRaw,
    /// Form.
    Post,
}

impl ClientSecret {
    /// Creates the method.
    pub(super) fn new(id: impl Into<String>, secret: impl SecretSource, method: Method) -> Self {
        Self {
            id: id.into(),
            secret: BoxSecretSource::new("client secret", secret),
            method,
        }
    }

    /// Returns the method for `request`. Both methods disclose the secret to the server, so its metadata may select
    /// either.
    ///
    /// | metadata | `Basic` | `BasicRaw` | `Post` |
    /// |---|---|---|---|
    /// | `client_secret_basic` | `Basic` | `BasicRaw` | `Basic` |
    /// | `client_secret_post` | `Post` | `Post` | `Post` |
    /// | none | `Basic` | `BasicRaw` | `Post` |
    fn chosen(&self, request: &TokenRequest) -> Method {
        match (request.method(), self.method) {
            (Some(POST), _) => Method::Post,
            // The metadata does not say whether the server decodes the header, so the standard encoding is used.
            (Some(BASIC), Method::Post) => Method::Basic,
            (_, method) => method,
        }
    }

    /// Returns what to check if the server rejects the credentials: the credentials, and the other ways to send them.
    fn advice(&self, secret: &str, method: Method) -> &'static str {
        let plain = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"*-._".contains(&b))
        };
        let odd = !(plain(&self.id) && plain(secret));
        // The advice lists all alternatives at once. A single one would lead from setting to setting in a circle.
        match method {
            Method::Basic if odd => {
                "check the client id and secret, which contain characters that servers decode differently: the server \
                 may expect them unencoded (`ClientAuth::basic_raw`) or in the request body (`ClientAuth::post`)"
            }
            Method::BasicRaw if odd => {
                "check the client id and secret, which contain characters that servers decode differently: the server \
                 may expect them encoded (`ClientAuth::basic`) or in the request body (`ClientAuth::post`)"
            }
            Method::Basic | Method::BasicRaw => {
                "check the client id and secret, and whether the server expects them in the request body \
                 (`ClientAuth::post`)"
            }
            Method::Post if odd => {
                "check the client id and secret, and whether the server expects them as Basic (`ClientAuth::basic`, or \
                 `ClientAuth::basic_raw` for a server that does not decode them)"
            }
            Method::Post => {
                "check the client id and secret, and whether the server expects them as Basic (`ClientAuth::basic`)"
            }
        }
    }
}

impl ClientAuthentication for ClientSecret {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        let secret = request.read(&self.secret).await?;
        let method = self.chosen(request);
        request.advice = Some(self.advice(secret.expose(), method));
        match method {
            Method::Post => {
                request.parameter("client_id", self.id.as_str());
                request.parameter("client_secret", secret.expose());
            }
            Method::Basic | Method::BasicRaw => {
                let value = basic(&self.id, secret.expose(), method)?;
                request.header(AUTHORIZATION, value);
            }
        }
        request.redact(secret);
        Ok(())
    }

    fn methods(&self) -> &'static [&'static str] {
        match self.method {
            Method::Basic | Method::BasicRaw => &[BASIC, POST],
            Method::Post => &[POST, BASIC],
        }
    }

    async fn changed(&self) -> bool {
        self.secret.changed().await
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        let secret = self.secret.peek().await?;
        let method = match self.method {
            Method::Basic => "basic",
            Method::BasicRaw => "basic, raw",
            Method::Post => "post",
        };
        Some(
            CacheKey::new(method)
                .field("client_id", &self.id)
                .field("secret", secret.expose()),
        )
    }

    fn validate(&self) -> Result<(), TokenError> {
        validate_id(&self.id)?;
        if self.method == Method::BasicRaw && self.id.contains(':') {
            return Err(TokenError::configuration(
                "was not sent: the client id contains a colon, which `ClientAuth::basic_raw` cannot send; use \
                 `ClientAuth::basic`",
            ));
        }
        Ok(())
    }
}

/// Returns the value of the `Authorization` header, marked as sensitive. All buffers are zeroized.
fn basic(id: &str, secret: &str, method: Method) -> Result<HeaderValue, TokenError> {
    // Sufficient capacity from the start: a reallocation would leave a copy of the secret in freed memory.
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

/// Registered name of the method with a header.
const BASIC: &str = "client_secret_basic";
/// Registered name of the method with the form.
const POST: &str = "client_secret_post";

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
    fn raw_basic_credentials_are_not_encoded() {
        assert_eq!(sent(Method::BasicRaw), "odd id+%40:p@ss w/rd");
    }

    #[test]
    fn the_header_is_sensitive() {
        assert!(basic("id", "secret", Method::Basic).unwrap().is_sensitive());
    }
}
