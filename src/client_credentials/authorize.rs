//! Decides whether a token may travel with a request, and puts it there.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

use super::{CredentialPresent, OriginNotAllowed, error::NotAllowed};
use crate::{BoxError, Origin};

/// Where the token may go, and which header carries it.
#[derive(Debug)]
pub(crate) struct Authorizer {
    pub(super) origins: Vec<Origin>,
    pub(super) assumed: Option<Origin>,
    pub(super) allow_http: bool,
    pub(super) foreign: ForeignOrigin,
    pub(super) host: HostMismatch,
    pub(super) existing: ExistingCredential,
    pub(super) header: HeaderName,
}

/// What happens to a request for an origin that is not on the list.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{BoxError, ClientCredentialsLayer, client_credentials::{AccessToken, ForeignOrigin}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), "https://api.example.com".parse()?)
///     .on_foreign_origin(ForeignOrigin::PassWithoutToken)
///     .build();
/// let client = layer.layer(service_fn(async |request: Request<()>| {
///     assert!(request.headers().is_empty());
///     Ok::<_, BoxError>(Response::new(String::new()))
/// }));
///
/// client.oneshot(Request::get("https://other.example/").body(())?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForeignOrigin {
    /// It fails with [`OriginNotAllowed`](super::OriginNotAllowed) and is not sent. The default.
    #[default]
    Refuse,
    /// It is sent as it is, without our token. Not for gateways, where it would turn the layer into an open relay.
    PassWithoutToken,
}

/// What happens to a request whose `Host` header differs from the origin in its URI.
///
/// # Examples
///
/// ```
/// use http::{Request, Response, header::HOST};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{BoxError, ClientCredentialsLayer, client_credentials::{AccessToken, HostMismatch}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), "https://api.example.com".parse()?)
///     .on_host_mismatch(HostMismatch::Overwrite)
///     .build();
/// let client = layer.layer(service_fn(async |request: Request<()>| {
///     assert_eq!(request.headers()[HOST], "api.example.com");
///     Ok::<_, BoxError>(Response::new(String::new()))
/// }));
///
/// let request = Request::get("https://api.example.com/").header(HOST, "gateway.internal").body(())?;
/// client.oneshot(request).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum HostMismatch {
    /// It fails with [`OriginNotAllowed`](super::OriginNotAllowed) and is not sent. The default.
    #[default]
    Refuse,
    /// The header is replaced by the origin's host.
    Overwrite,
}

/// What happens to a request that already carries a credential: the header that the token goes into, or `Authorization`.
///
/// # Examples
///
/// ```
/// use http::{Request, Response, header::AUTHORIZATION};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{BoxError, ClientCredentialsLayer, client_credentials::{AccessToken, ExistingCredential}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), "https://api.example.com".parse()?)
///     .on_existing_credential(ExistingCredential::Keep)
///     .build();
/// let client = layer.layer(service_fn(async |request: Request<()>| {
///     assert_eq!(request.headers()[AUTHORIZATION], "Bearer a-users-own");
///     Ok::<_, BoxError>(Response::new(String::new()))
/// }));
///
/// let request = Request::get("https://api.example.com/").header(AUTHORIZATION, "Bearer a-users-own").body(())?;
/// client.oneshot(request).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ExistingCredential {
    /// It is removed, and our token put in its place. The default: a gateway must not pass its caller's credential on.
    #[default]
    Replace,
    /// It is kept, and the request goes without our token. A 401 for it has no consequences for our token.
    Keep,
    /// The request fails with [`CredentialPresent`](super::CredentialPresent) and is not sent.
    Refuse,
}

const MOST_SHOWN: usize = 5;

/// How a request is to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Passage {
    /// With our token, to the allowed origin of this index.
    WithToken(usize),
    /// As it is.
    AsItIs,
}

impl Authorizer {
    /// Whether the request may pass, and how. Nothing is sent, and no token is asked for, before this.
    pub(crate) fn inspect<B>(&self, request: &mut Request<B>) -> Result<Passage, BoxError> {
        let index = match self.destination(request.uri()) {
            Ok(Some(index)) => index,
            Ok(None) => return Ok(Passage::AsItIs),
            Err(why) => return Err(OriginNotAllowed::from(why).into()),
        };
        // Names are quickly compared one by one; looking one up is not as quick.
        if request.headers().keys().any(|name| name == header::HOST) {
            self.check_host(request, index)
                .map_err(OriginNotAllowed::from)?;
        }
        // What is in the token's own place is replaced in any case, when the token is put there.
        let replaced = self.existing == ExistingCredential::Replace;
        if replaced && self.header == header::AUTHORIZATION {
            return Ok(Passage::WithToken(index));
        }
        let headers = request.headers_mut();
        if headers.contains_key(&self.header) || headers.contains_key(header::AUTHORIZATION) {
            match self.existing {
                ExistingCredential::Keep => return Ok(Passage::AsItIs),
                ExistingCredential::Refuse => return Err(CredentialPresent.into()),
                ExistingCredential::Replace => {
                    headers.remove(&self.header);
                    headers.remove(header::AUTHORIZATION);
                }
            }
        }
        Ok(Passage::WithToken(index))
    }

    /// Puts the token onto the request, and returns what was in its place.
    pub(crate) fn authorize(
        &self,
        headers: &mut HeaderMap,
        token: HeaderValue,
    ) -> Option<HeaderValue> {
        headers.insert(self.header.clone(), token)
    }

    pub(crate) fn origin(&self, index: usize) -> Option<&Origin> {
        self.origins.get(index)
    }

    fn destination(&self, uri: &Uri) -> Result<Option<usize>, NotAllowed> {
        let index = if uri.authority().is_some() {
            self.origins.iter().position(|origin| origin.matches(uri))
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
                wanted: Origin::of(uri)
                    .map_or_else(|| "such a URI".to_owned(), |origin| origin.to_string()),
                allowed: self.allowed(),
            }),
        }
    }

    /// The allowed origins, or the first of many.
    fn allowed(&self) -> String {
        let shown = self.origins.iter().take(MOST_SHOWN).map(Origin::to_string);
        let mut shown = shown.collect::<Vec<_>>().join(", ");
        if let Some(more @ 1..) = self.origins.len().checked_sub(MOST_SHOWN) {
            shown.push_str(&format!(" and {more} more"));
        }
        shown
    }

    /// A client sends a `Host` header as it is, whatever the URI says: the token would reach another virtual host.
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
    fn a_request_never_leaves_with_a_credential_that_was_to_be_replaced() {
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

                    let passage = authorizer.inspect(&mut request);

                    let case = format!("{carrier} {existing:?} {sent:?}");
                    match existing {
                        Keep if concerns => assert_eq!(passage.unwrap(), Passage::AsItIs, "{case}"),
                        Refuse if concerns => {
                            assert!(passage.unwrap_err().is::<CredentialPresent>(), "{case}");
                        }
                        Keep | Refuse | Replace => {
                            assert_eq!(passage.unwrap(), Passage::WithToken(0), "{case}");
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
