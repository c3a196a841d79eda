//! The HTTP client of a token endpoint: the default client of this crate, or a service of the user.
//!
//! Without the feature `https` there is no default client, and an endpoint needs a service of the user.

#[cfg(feature = "https")]
use super::default_client::DefaultClient;
use super::transport::{Certificate, ReadyClient, Transport};
#[cfg(feature = "https")]
use crate::client_credentials::CertificateThumbprint;
use crate::client_credentials::TokenError;

/// The HTTP client that sends token requests.
#[derive(Clone)]
pub(super) enum Client {
    /// A service of the user.
    Service(Transport),
    #[cfg(feature = "https")]
    /// The default client of this crate.
    Default(DefaultClient),
    #[cfg(not(feature = "https"))]
    /// No client. A fetch reports that a client is missing.
    None,
}

impl Client {
    /// Returns the default client. Replaces a service of the user.
    ///
    /// Called by the settings that only the default client has. The last setting wins, as for every other pair of
    /// settings that exclude each other.
    #[cfg(feature = "https")]
    pub(super) fn own(&mut self) -> &mut DefaultClient {
        if let Self::Service(_) = self {
            *self = Self::default();
        }
        match self {
            Self::Default(own) => own,
            Self::Service(_) => unreachable!("replaced above"),
        }
    }

    /// Returns the certificate that the client presents.
    ///
    /// A service may present a certificate that this crate does not know, so it is unknown rather than absent.
    ///
    /// Part of the cache key: two processes with different certificates must not share a bound token.
    pub(super) async fn certificate(&self) -> Certificate {
        match self {
            Self::Service(_) => Certificate::Unknown,
            #[cfg(feature = "https")]
            Self::Default(own) => own.certificate().await,
            #[cfg(not(feature = "https"))]
            Self::None => Certificate::None,
        }
    }

    /// Returns the thumbprint of the current certificate, if it could be presented now. `None` for a service.
    #[cfg(feature = "https")]
    pub(super) async fn usable_certificate(&self) -> Option<CertificateThumbprint> {
        match self {
            Self::Service(_) => None,
            Self::Default(own) => own.usable_certificate().await,
        }
    }

    /// Checks the settings of the default client.
    ///
    /// # Errors
    ///
    /// A configuration error, if the proxy's URL is not usable.
    pub(super) fn validate(&self) -> Result<(), TokenError> {
        match self {
            #[cfg(feature = "https")]
            Self::Default(own) => own.validate(),
            _ => Ok(()),
        }
    }

    /// Returns whether the client is a service of the user, which may present a certificate.
    #[cfg(feature = "https")]
    pub(super) fn is_service(&self) -> bool {
        matches!(self, Self::Service(_))
    }

    /// Returns whether the default client presents a certificate.
    pub(super) fn has_certificate(&self) -> bool {
        match self {
            #[cfg(feature = "https")]
            Self::Default(own) => own.has_certificate(),
            _ => false,
        }
    }

    /// Returns the transport for a fetch that begins now.
    ///
    /// # Errors
    ///
    /// A configuration error without a client; otherwise the error of a certificate that cannot be read or used.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the reads of the certificate. A client that was created already stays for the next
    /// fetch.
    pub(super) async fn ready(&self) -> Result<ReadyClient, TokenError> {
        match self {
            Self::Service(transport) => Ok(transport.clone().into()),
            #[cfg(feature = "https")]
            Self::Default(own) => own.ready().await,
            #[cfg(not(feature = "https"))]
            Self::None => Err(TokenError::configuration(
                "was not sent: this build has no https client; pass one with `.service(..)`, or enable the feature \
                 `https`",
            )),
        }
    }

    /// Returns whether the client's certificate differs from the one in the last fetch.
    ///
    /// A service of the user manages its own certificate, so it never counts as changed.
    pub(super) async fn changed(&self) -> bool {
        match self {
            #[cfg(feature = "https")]
            Self::Default(own) => own.changed().await,
            _ => false,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        #[cfg(feature = "https")]
        return Self::Default(DefaultClient::default());
        #[cfg(not(feature = "https"))]
        return Self::None;
    }
}
