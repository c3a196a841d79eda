//! The error of a request for which there is no credential.

use std::{error::Error, fmt, sync::Arc};

use super::CredentialId;

/// A request was not sent, because there is no credential for it. It is never sent with another credential instead.
///
/// The message contains the id, which is not a secret.
///
/// Services return it as a [`BoxError`](crate::BoxError): `error.downcast_ref::<TenantError>()`. Cheap to clone.
///
/// | error | remedy |
/// |---|---|
/// | `MissingId` | insert a [`CredentialId`] before this layer |
/// | `Unknown` | none: the tenant does not exist |
/// | `LayerFailed` | see the source of the error |
/// | `AtCapacity` | raise `max_tenants`, or lower `idle_timeout` |
///
/// # Examples
///
/// ```
/// use http::StatusCode;
/// use tower_m2m::{BoxError, tenants::TenantError};
///
/// /// What a gateway answers its caller.
/// fn status(error: &BoxError) -> StatusCode {
///     match error.downcast_ref::<TenantError>() {
///         Some(TenantError::Unknown(_)) => StatusCode::FORBIDDEN,
///         Some(TenantError::AtCapacity(_)) => StatusCode::SERVICE_UNAVAILABLE,
///         _ => StatusCode::BAD_GATEWAY,
///     }
/// }
/// # assert_eq!(status(&TenantError::MissingId.into()), StatusCode::BAD_GATEWAY);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum TenantError {
    /// The request has no [`CredentialId`] in its extensions.
    MissingId,
    /// There is no tenant with this id.
    Unknown(CredentialId),
    /// Building the tenant's layer failed; the next request tries again.
    LayerFailed(CredentialId, Arc<dyn Error + Send + Sync>),
    /// The maximum number of tenants is reached, and all of them are in use.
    AtCapacity(CredentialId),
}

impl fmt::Display for TenantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingId => f.write_str(
                "request not sent: it has no `CredentialId` in its extensions; an outer layer must set one",
            ),
            Self::Unknown(id) => write!(f, "request not sent: there is no credential {id:?} for `TenantsLayer`"),
            Self::LayerFailed(id, _) => {
                write!(f, "request not sent: the layer for the credential {id:?} could not be built")
            }
            Self::AtCapacity(id) => write!(
                f,
                "request not sent: there is no room for the credential {id:?}, because all others are in use; raise \
                 `.max_tenants(..)`"
            ),
        }
    }
}

/// Contains the message and its cause, because `main` prints the `Debug` output of the error that it returns.
impl fmt::Debug for TenantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LayerFailed(_, error) => write!(f, "TenantError({self}: {error:?})"),
            _ => write!(f, "TenantError({self})"),
        }
    }
}

impl Error for TenantError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::LayerFailed(_, error) => Some(&**error),
            _ => None,
        }
    }
}
