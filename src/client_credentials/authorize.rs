//! Checks whether a request may carry the token, and adds the token to its headers.
//!
//! | request | default | setting |
//! |---|---|---|
//! | URI of an allowed origin | token | `allow_origin` |
//! | URI of another origin | error | `on_foreign_origin` |
//! | URI without a host | error | `assume_origin` |
//! | http, not to loopback | error | `dangerously_allow_http` |
//! | `Host` differs from the URI | error | `on_host_mismatch` |
//! | carries a credential | replaced | `on_existing_credential` |
//!
//! The checks run for each call, before a token is requested, and depend only on the request and the settings.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

use super::{CredentialAlreadyPresent, OriginNotAllowed, error::NotAllowed};
use crate::{BoxError, Origin};

/// Rules for where the token may go, and the header that carries it.
///
/// Fixed when the layer is built. Origins are compared in the order of the list; with the usual one or two, that is
/// faster than a map.
#[derive(Debug)]
pub(crate) struct Authorizer {
    /// Allowed origins. Other types identify an origin by its index in this list.
    pub(super) origins: Vec<Origin>,
    /// Origin of requests whose URI has no authority. `None` refuses such requests.
    pub(super) assumed: Option<Origin>,
    /// Whether the token may travel over plain http to hosts other than loopback.
    pub(super) allow_http: bool,
    /// Action for a request to an origin that is not allowed.
    pub(super) foreign: ForeignOrigin,
    /// Action for a request whose `Host` header differs from its URI.
    pub(super) host: HostMismatch,
    /// Action for a request that already carries a credential.
    pub(super) existing: ExistingCredential,
    /// Name of the header that carries the token.
    pub(super) header: HeaderName,
}

/// Action for a request to an origin that is not allowed.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{
///     BoxError, ClientCredentialsLayer,
///     client_credentials::{AccessToken, ForeignOrigin},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let origin = "https://api.example.com".parse()?;
/// let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), origin)
///     .on_foreign_origin(ForeignOrigin::PassWithoutToken)
///     .build();
/// let client = layer.layer(service_fn(async |request: Request<()>| {
///     assert!(request.headers().is_empty());
///     Ok::<_, BoxError>(Response::new(String::new()))
/// }));
///
/// client
///     .oneshot(Request::get("https://other.example/").body(())?)
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForeignOrigin {
    /// Fails with [`OriginNotAllowed`](super::OriginNotAllowed). The request is not sent. The default.
    #[default]
    Refuse,
    /// Sends the request unchanged, without the token. Not for gateways: it would make the layer an open relay.
    PassWithoutToken,
}

/// Action for a request whose `Host` header differs from the origin in its URI.
///
/// # Examples
///
/// ```
/// use http::{Request, Response, header::HOST};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{
///     BoxError, ClientCredentialsLayer,
///     client_credentials::{AccessToken, HostMismatch},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let origin = "https://api.example.com".parse()?;
/// let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), origin)
///     .on_host_mismatch(HostMismatch::Overwrite)
///     .build();
/// let client = layer.layer(service_fn(async |request: Request<()>| {
///     assert_eq!(request.headers()[HOST], "api.example.com");
///     Ok::<_, BoxError>(Response::new(String::new()))
/// }));
///
/// let request = Request::get("https://api.example.com/")
///     .header(HOST, "gateway.internal")
///     .body(())?;
/// client.oneshot(request).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum HostMismatch {
    /// Fails with [`OriginNotAllowed`](super::OriginNotAllowed). The request is not sent. The default.
    #[default]
    Refuse,
    /// Replaces the header with the origin's authority.
    Overwrite,
}

/// Action for a request that already carries a credential: the header configured for the token, or `Authorization`.
///
/// # Examples
///
/// ```
/// use http::{Request, Response, header::AUTHORIZATION};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{
///     BoxError, ClientCredentialsLayer,
///     client_credentials::{AccessToken, ExistingCredential},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let origin = "https://api.example.com".parse()?;
/// let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), origin)
///     .on_existing_credential(ExistingCredential::Keep)
///     .build();
/// let client = layer.layer(service_fn(async |request: Request<()>| {
///     assert_eq!(request.headers()[AUTHORIZATION], "Bearer a-users-own");
///     Ok::<_, BoxError>(Response::new(String::new()))
/// }));
///
/// let request = Request::get("https://api.example.com/")
///     .header(AUTHORIZATION, "Bearer a-users-own")
///     .body(())?;
/// client.oneshot(request).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ExistingCredential {
    /// Removes the credential and adds the token. The default: a gateway must not forward its caller's credential.
    #[default]
    Replace,
    /// Keeps the credential and sends the request without the token. A 401 for it does not affect the token.
    Keep,
    /// Fails with [`CredentialAlreadyPresent`](super::CredentialAlreadyPresent). The request is not sent.
    Refuse,
}

/// Maximum number of allowed origins that an error message lists.
const MAX_LISTED_ORIGINS: usize = 5;

/// Result of [`Authorizer::check`]: how to send a request.
///
/// The index identifies the origin in the cooldowns and in the record of successes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Destination {
    /// With the token, to the allowed origin at this index.
    Allowed(usize),
    /// Without the token.
    Passthrough,
}

impl Authorizer {
    /// Checks the destination, the `Host` header and existing credentials of a request. Runs before a token is fetched
    /// or anything is sent.
    ///
    /// As configured, it overwrites the `Host` header and removes existing credentials.
    ///
    /// Must run before the request is copied for a replay, so that the copy has no foreign credential.
    ///
    /// # Errors
    ///
    /// [`OriginNotAllowed`] if the token may not go to the destination, or [`CredentialAlreadyPresent`].
    pub(crate) fn check<B>(&self, request: &mut Request<B>) -> Result<Destination, BoxError> {
        let index = match self.allowed_origin(request.uri()) {
            Ok(Some(index)) => index,
            Ok(None) => return Ok(Destination::Passthrough),
            Err(why) => return Err(OriginNotAllowed::from(why).into()),
        };
        // Comparing the names one by one is faster than a lookup by name.
        if request.headers().keys().any(|name| name == header::HOST) {
            self.check_host(request, index)
                .map_err(OriginNotAllowed::from)?;
        }
        // `authorize` replaces the token's own header in any case.
        let replaced = self.existing == ExistingCredential::Replace;
        if replaced && self.header == header::AUTHORIZATION {
            return Ok(Destination::Allowed(index));
        }
        let headers = request.headers_mut();
        if headers.contains_key(&self.header) || headers.contains_key(header::AUTHORIZATION) {
            match self.existing {
                ExistingCredential::Keep => return Ok(Destination::Passthrough),
                ExistingCredential::Refuse => return Err(CredentialAlreadyPresent.into()),
                ExistingCredential::Replace => {
                    headers.remove(&self.header);
                    headers.remove(header::AUTHORIZATION);
                }
            }
        }
        Ok(Destination::Allowed(index))
    }

    /// Adds the token to the headers and returns the value that it replaced.
    pub(crate) fn authorize(
        &self,
        headers: &mut HeaderMap,
        token: HeaderValue,
    ) -> Option<HeaderValue> {
        headers.insert(self.header.clone(), token)
    }

    /// Returns the allowed origin at `index`.
    pub(crate) fn origin(&self, index: usize) -> Option<&Origin> {
        self.origins.get(index)
    }

    /// Returns the index of the allowed origin that `uri` belongs to; `None` if the request is sent without the token.
    ///
    /// An allowed origin with plain http is an error of the request, not of the configuration: `dangerously_allow_http`
    /// may be called after it was allowed.
    ///
    /// # Errors
    ///
    /// The URI has no authority and no origin is assumed, its origin is not allowed, or it is plain http to another
    /// host than loopback.
    fn allowed_origin(&self, uri: &Uri) -> Result<Option<usize>, NotAllowed> {
        // A URI with an authority is compared in full; one without is sent to the assumed origin.
        let index = if uri.authority().is_some() {
            // With many origins: the usual spelling of each is compared before other spellings of any.
            let mut origins = self.origins.iter();
            let usual = origins.position(|origin| origin.is_usual_spelling(uri));
            usual.or_else(|| self.origins.iter().position(|origin| origin.matches(uri)))
        } else {
            let assumed = self.assumed.as_ref().ok_or(NotAllowed::NoAuthority)?;
            self.origins.iter().position(|origin| origin == assumed)
        };
        match index.and_then(|index| Some((index, self.origins.get(index)?))) {
            Some((index, origin)) => {
                if origin.is_https() || origin.is_loopback() || self.allow_http {
                    return Ok(Some(index));
                }
                Err(NotAllowed::Insecure {
                    origin: origin.to_string(),
                })
            }
            None if self.foreign == ForeignOrigin::PassWithoutToken => Ok(None),
            None => Err(NotAllowed::Foreign {
                wanted: Origin::of(uri).map_or_else(
                    || "an unsupported URI".to_owned(),
                    |origin| origin.to_string(),
                ),
                allowed: self.list_allowed(),
            }),
        }
    }

    /// Lists the allowed origins for an error message, at most [`MAX_LISTED_ORIGINS`] of them.
    fn list_allowed(&self) -> String {
        let listed = self
            .origins
            .iter()
            .take(MAX_LISTED_ORIGINS)
            .map(Origin::to_string);
        let mut listed = listed.collect::<Vec<_>>().join(", ");
        if let Some(more @ 1..) = self.origins.len().checked_sub(MAX_LISTED_ORIGINS) {
            listed.push_str(&format!(" and {more} more"));
        }
        listed
    }

    /// Checks that every `Host` header names the origin. Overwrites the header if so configured.
    ///
    /// HTTP clients send an existing `Host` header unchanged, whatever the URI is: a mismatch would deliver the token
    /// to another virtual host.
    ///
    /// # Errors
    ///
    /// A `Host` header differs, and is not to be overwritten.
    fn check_host<B>(&self, request: &mut Request<B>, index: usize) -> Result<(), NotAllowed> {
        let Some(origin) = self.origins.get(index) else {
            return Ok(());
        };
        let hosts = request.headers().get_all(header::HOST);
        if hosts
            .iter()
            .all(|host| origin.matches_authority(host.as_bytes()))
        {
            return Ok(());
        }
        if self.host == HostMismatch::Refuse {
            return Err(NotAllowed::Host {
                origin: origin.to_string(),
            });
        }
        match HeaderValue::from_str(origin.authority()) {
            Ok(host) => drop(request.headers_mut().insert(header::HOST, host)),
            // Without the header, the HTTP client derives it from the URI.
            Err(_) => drop(request.headers_mut().remove(header::HOST)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HeaderName = HeaderName::from_static("x-api-key");

    #[test]
    fn a_replaced_credential_is_never_sent() {
        use ExistingCredential::{Keep, Refuse, Replace};

        for carrier in [header::AUTHORIZATION, KEY] {
            for existing in [Keep, Refuse, Replace] {
                for sent in [
                    &[][..],
                    &[header::AUTHORIZATION],
                    &[KEY],
                    &[header::AUTHORIZATION, KEY],
                ] {
                    let authorizer = authorizer(carrier.clone(), existing);
                    let mut request = Request::get("https://api.example/").body(()).unwrap();
                    for name in sent {
                        let value = HeaderValue::from_static("canary");
                        request.headers_mut().append(name, value);
                    }
                    // A key in a header of another name is no concern of a layer that sends `Authorization`.
                    let concerns = sent.contains(&header::AUTHORIZATION) || sent.contains(&carrier);

                    let passage = authorizer.check(&mut request);

                    let case = format!("{carrier} {existing:?} {sent:?}");
                    match existing {
                        Keep if concerns => {
                            assert_eq!(passage.unwrap(), Destination::Passthrough, "{case}")
                        }
                        Refuse if concerns => {
                            assert!(
                                passage.unwrap_err().is::<CredentialAlreadyPresent>(),
                                "{case}"
                            );
                        }
                        Keep | Refuse | Replace => {
                            assert_eq!(passage.unwrap(), Destination::Allowed(0), "{case}");
                            let token = HeaderValue::from_static("token");
                            authorizer.authorize(request.headers_mut(), token);
                            assert_eq!(request.headers()[&carrier], "token", "{case}");
                            let mut others = request
                                .headers()
                                .iter()
                                .filter(|(name, _)| **name != carrier);
                            assert!(others.all(|(name, _)| *name == KEY), "{case}");
                        }
                    }
                }
            }
        }
    }

    fn authorizer(header: HeaderName, existing: ExistingCredential) -> Authorizer {
        Authorizer {
            origins: vec!["https://api.example".parse().unwrap()],
            assumed: None,
            allow_http: false,
            foreign: ForeignOrigin::Refuse,
            host: HostMismatch::Refuse,
            existing,
            header,
        }
    }
}
