//! Why no credential was chosen.

use std::{error::Error, fmt, sync::Arc};

use super::CredentialId;

/// A request was not sent, because there is no credential for it. It never goes with another one instead.
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
///         Some(TenantError::Full(_)) => StatusCode::SERVICE_UNAVAILABLE,
///         _ => StatusCode::BAD_GATEWAY,
///     }
/// }
/// # assert_eq!(status(&TenantError::NotChosen.into()), StatusCode::BAD_GATEWAY);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum TenantError {
    /// The request has no [`CredentialId`] in its extensions.
    NotChosen,
    /// There is no such tenant.
    Unknown(CredentialId),
    /// The tenant's layer could not be made; the next request tries again.
    Unusable(CredentialId, Arc<dyn Error + Send + Sync>),
    /// There are as many tenants as there may be, and all are in use.
    Full(CredentialId),
}

impl fmt::Display for TenantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotChosen => f.write_str(
                "request not sent: it has no `CredentialId` in its extensions; an outer layer must choose one",
            ),
            Self::Unknown(id) => write!(f, "request not sent: there is no credential {id:?} for `TenantsLayer`"),
            Self::Unusable(id, _) => {
                write!(f, "request not sent: the layer for the credential {id:?} could not be made")
            }
            Self::Full(id) => write!(
                f,
                "request not sent: there is no room for the credential {id:?}, and all others are in use; raise \
                 `.max_tenants(..)`"
            ),
        }
    }
}

/// The message, too, and what caused it: a `main` that returns an error prints it so.
impl fmt::Debug for TenantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(_, error) => write!(f, "TenantError({self}: {error:?})"),
            _ => write!(f, "TenantError({self})"),
        }
    }
}

impl Error for TenantError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unusable(_, error) => Some(&**error),
            _ => None,
        }
    }
}
