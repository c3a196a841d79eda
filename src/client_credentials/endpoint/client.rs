//! The client of a token endpoint: the crate's own, or a service of the user's.

#[cfg(feature = "https")]
use super::own::OwnClient;
use super::transport::{Certificate, Ready, Transport};
use crate::client_credentials::TokenError;

/// What carries token requests.
#[derive(Clone)]
pub(super) enum Client {
    Service(Transport),
    #[cfg(feature = "https")]
    Own(OwnClient),
    #[cfg(not(feature = "https"))]
    None,
}

impl Client {
    /// The crate's own client; a service of the user's is replaced by it.
    #[cfg(feature = "https")]
    pub(super) fn own(&mut self) -> &mut OwnClient {
        if let Self::Service(_) = self {
            *self = Self::default();
        }
        match self {
            Self::Own(own) => own,
            Self::Service(_) => unreachable!("replaced above"),
        }
    }

    /// The certificate that shows the client to the server.
    pub(super) async fn certificate(&self) -> Certificate {
        match self {
            Self::Service(_) => Certificate::Unknown,
            #[cfg(feature = "https")]
            Self::Own(own) => own.certificate().await,
            #[cfg(not(feature = "https"))]
            Self::None => Certificate::None,
        }
    }

    /// What carries the requests of a fetch that begins now.
    pub(super) async fn ready(&self) -> Result<Ready, TokenError> {
        match self {
            Self::Service(transport) => Ok(transport.clone().into()),
            #[cfg(feature = "https")]
            Self::Own(own) => own.ready().await,
            #[cfg(not(feature = "https"))]
            Self::None => Err(TokenError::configuration(
                "was not sent: this build has no https client; pass yours with `.service(..)`, or enable the feature \
                 `https`",
            )),
        }
    }

    /// Whether the client's certificate is another one than in the last fetch.
    pub(super) async fn changed(&self) -> bool {
        match self {
            #[cfg(feature = "https")]
            Self::Own(own) => own.changed().await,
            _ => false,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        #[cfg(feature = "https")]
        return Self::Own(OwnClient::default());
        #[cfg(not(feature = "https"))]
        return Self::None;
    }
}
