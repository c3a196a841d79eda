//! Why no credential was chosen.

use std::{error::Error, fmt, sync::Arc};

use super::CredentialId;
use crate::BoxError;

/// A request was not sent, because there is no credential for it. It never goes with another one instead.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TenantError {
    /// The request has no [`CredentialId`] in its extensions.
    NotChosen,
    /// There is no such tenant.
    Unknown(CredentialId),
    /// The tenant's layer could not be made; the next request tries again.
    Unusable(CredentialId, Arc<BoxError>),
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

impl Error for TenantError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unusable(_, error) => Some(&***error),
            _ => None,
        }
    }
}
