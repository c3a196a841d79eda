//! Many credentials in one service: each request is sent with the credential that its [`CredentialId`] names.
//!
//! ```text
//! who is it? ─▶ CredentialId into the extensions
//!            ─▶ TenantsLayer ─▶ that tenant's M2mLayer ─▶ client
//! ```
//!
//! An outermost step chooses the credential once, from an authenticated identity, and inserts a [`CredentialId`] into
//! the request's extensions. Never take it from a header as received: a caller could choose another tenant's
//! credential. Each tenant has an [`M2mLayer`](crate::M2mLayer) of its own, and with it its own token, list of allowed
//! origins, quotas and back-offs: an issuer that fails for one tenant, or an API that throttles one, does not slow down
//! the others.
//!
//! # Examples
//!
//! ```
//! use http::Request;
//! use tower_m2m::{
//!     ClientAuth, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer, TokenEndpoint,
//!     tenants::{CredentialId, TenantsLayer},
//! };
//!
//! # fn secret_of(_: &str) -> Option<String> { None }
//! let layer = TenantsLayer::new(|tenant: &CredentialId| {
//!     let Some(secret) = secret_of(tenant.as_str()) else {
//!         return Ok(None);
//!     };
//!     let endpoint = TokenEndpoint::new(
//!         "https://issuer.example/oauth/token".parse()?,
//!         ClientAuth::basic(tenant.as_str(), secret),
//!     );
//!     let credentials =
//!         ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?)
//!             .name(tenant.as_str())
//!             .build();
//!     Ok(Some(M2mLayer::new(RateLimitRetryLayer::new(), credentials)))
//! });
//!
//! let mut request = Request::get("https://api.example.com/orders").body(()).unwrap();
//! request.extensions_mut().insert(CredentialId::new("orders"));
//! # drop((layer, request));
//! ```
//!
//! # What is shared, and what is not
//!
//! | shared by all tenants | separate for each tenant |
//! |---|---|
//! | the inner service and its connections | token, and the fetch in flight |
//! | the closure that builds layers | allowed origins, quotas, queues, back-offs |
//! | the limits of the table | sinks for events, unless the closure adds the same one |
//!
//! A tenant costs the memory of its layer. It is removed when it was idle for an hour, and built again by its next
//! request; see [`TenantsLayerBuilder`] for the limits.

mod error;
mod layer;
mod service;
mod table;

use std::{fmt, sync::Arc};

pub use self::{
    error::TenantError,
    layer::{TenantsHandle, TenantsLayer, TenantsLayerBuilder},
    service::Tenants,
};

/// The id of the credential that a request is sent with: an extension of the request, read by [`Tenants`].
///
/// Not a secret: it appears in errors.
///
/// Any text may be an id, for example the name of an organization or the id of an OAuth client. It should be short: it
/// is cloned for each new tenant, and compared for each request.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower_m2m::tenants::CredentialId;
///
/// /// From what the TLS layer has verified, never from a header as it came in.
/// #[derive(Clone)]
/// struct Caller {
///     organisation: String,
/// }
///
/// /// The outermost step.
/// fn choose<B>(mut request: Request<B>) -> Request<B> {
///     if let Some(caller) = request.extensions().get::<Caller>() {
///         let id = CredentialId::new(caller.organisation.as_str());
///         request.extensions_mut().insert(id);
///     }
///     request
/// }
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CredentialId(Arc<str>);

impl CredentialId {
    /// Creates the id of the credential with this name.
    ///
    /// Two ids are equal if their texts are. Case and white space matter.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CredentialId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for CredentialId {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
