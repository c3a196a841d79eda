//! Settings of an endpoint that requests tokens bound to a certificate (RFC 8705 §3).

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{BearerAnswer, SecretSource, secret::Erased, x5t};
use crate::client_credentials::{CertificateThumbprint, TokenError, TokenErrorKind};

/// Settings of tokens that are bound to a certificate (RFC 8705 §3), for
/// [`TokenEndpoint::certificate_bound`](super::TokenEndpoint::certificate_bound).
///
/// Such a token is accepted only over a connection that presents the certificate which requested it. So the client of
/// the API, which is the service that the layer wraps, must present the certificate of
/// [`TokenEndpoint::client_certificate`](super::TokenEndpoint::client_certificate).
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     ClientAuth, TokenEndpoint,
///     client_credentials::{CertificateBound, SecretFile},
/// };
///
/// let [chain, key] = ["/run/tls/tls.crt", "/run/tls/tls.key"];
/// let endpoint = TokenEndpoint::discover("https://issuer.example", ClientAuth::tls("orders"))
///     .client_certificate(SecretFile::new(chain), SecretFile::new(key))
///     .certificate_bound(CertificateBound::new());
/// # drop(endpoint);
/// ```
#[doc(alias("mTLS", "mutual TLS", "RFC 8705"))]
#[derive(Clone)]
#[must_use = "pass it to `TokenEndpoint::certificate_bound`"]
pub struct CertificateBound {
    /// The certificate that the API's client presents. `None` means that of the endpoint's client.
    api: Option<ApiCertificate>,
    /// Action for a token that is not bound.
    bearer: BearerAnswer,
    /// Action for a token that is bound to another certificate.
    mismatch: CertificateMismatch,
}

/// The certificate that the API's client presents.
#[derive(Clone)]
enum ApiCertificate {
    /// It does not change.
    Fixed(CertificateThumbprint),
    /// The chain in PEM, read again for every check.
    Source(Arc<dyn Erased>),
}

/// Action for a token that is bound to another certificate than the API's client presents.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::CertificateMismatch;
///
/// assert_eq!(CertificateMismatch::default(), CertificateMismatch::Refuse);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum CertificateMismatch {
    /// The fetch fails: the API would reject the token. The default.
    #[default]
    Refuse,
    /// The token is used, and [`TokenEvent::CertificateMismatch`](super::super::TokenEvent::CertificateMismatch) is
    /// emitted. For an API that does not check the certificate yet.
    Warn,
}

impl CertificateBound {
    /// Requires bound tokens. The API's client presents the certificate of
    /// [`client_certificate`](super::TokenEndpoint::client_certificate).
    pub fn new() -> Self {
        Self {
            api: None,
            bearer: BearerAnswer::default(),
            mismatch: CertificateMismatch::default(),
        }
    }

    /// Sets the certificate that the API's client presents: a chain in PEM, with the client's own first. It is read for
    /// each fetch, and every 5 s while requests are sent. Default: that of
    /// [`client_certificate`](super::TokenEndpoint::client_certificate).
    ///
    /// Set it if the two clients are configured separately, or if token requests are sent through a
    /// [`service`](super::TokenEndpoint::service), whose certificate is unknown here.
    pub fn api_certificate(mut self, chain: impl SecretSource) -> Self {
        self.api = Some(ApiCertificate::Source(Arc::new(chain)));
        self
    }

    /// Sets the thumbprint of the certificate that the API's client presents. Replaces
    /// [`api_certificate`](Self::api_certificate). Default: none.
    pub fn api_thumbprint(mut self, thumbprint: CertificateThumbprint) -> Self {
        self.api = Some(ApiCertificate::Fixed(thumbprint));
        self
    }

    /// Sets the action for a token that is not bound to a certificate. Default: [`BearerAnswer::Refuse`].
    ///
    /// Only the claims of a JWT say so. An opaque token counts as bound.
    pub fn on_bearer_answer(mut self, action: BearerAnswer) -> Self {
        self.bearer = action;
        self
    }

    /// Sets the action for a token that is bound to another certificate than the API's client presents. Default:
    /// [`CertificateMismatch::Refuse`].
    pub fn on_mismatch(mut self, action: CertificateMismatch) -> Self {
        self.mismatch = action;
        self
    }

    /// Returns whether tokens that are not bound are refused.
    pub(super) fn requires_binding(&self) -> bool {
        self.bearer == BearerAnswer::Refuse
    }

    /// Returns whether tokens that are bound to another certificate are refused.
    pub(super) fn refuses_mismatch(&self) -> bool {
        self.mismatch == CertificateMismatch::Refuse
    }

    /// Returns the thumbprint of the certificate that the API's client presents, if it has a setting of its own.
    ///
    /// # Errors
    ///
    /// The certificate cannot be read within 5 s, or is not a certificate.
    pub(super) async fn api(&self) -> Result<Option<CertificateThumbprint>, TokenError> {
        let source = match &self.api {
            None => return Ok(None),
            Some(ApiCertificate::Fixed(thumbprint)) => return Ok(Some(*thumbprint)),
            Some(ApiCertificate::Source(source)) => source,
        };
        let chain = timeout(READ_TIMEOUT, source.read()).await;
        let chain = chain.unwrap_or_else(|_| Err(unreadable("could not be read in time")))?;
        x5t::of_pem(chain.expose().as_bytes())
            .map(Some)
            .map_err(|found| unreadable(&format!("is not usable: {found}")))
    }
}

impl Default for CertificateBound {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CertificateBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateBound")
            .field("bearer", &self.bearer)
            .field("mismatch", &self.mismatch)
            .finish_non_exhaustive()
    }
}

/// Creates a transient error: the certificate may be replaced at this moment.
fn unreadable(what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::Certificate,
        true,
        format!("was not sent: the certificate of `CertificateBound::api_certificate` {what}"),
    )
}

/// Maximum duration of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
