//! Whether a token is bound to the certificate that the API's client presents (RFC 8705 §3).
//!
//! | setting | the token says (`cnf`) | what follows |
//! |---|---|---|
//! | none | a certificate or a key | `BoundToken`; if it is the endpoint's certificate, the token is dropped with it |
//! | `certificate_bound` | the API client's certificate, or nothing readable | bound |
//! | `certificate_bound` | another certificate | `CertificateMismatch` refuses it, or reports it |
//! | `certificate_bound` | that it is not bound to a certificate | `BearerAnswer` refuses it, or accepts it |
//!
//! Only a JWT says what it is bound to (RFC 8705 §3.1); the client does not introspect tokens (§3.2). A token that says
//! nothing counts as bound to the certificate that requested it.

use super::{
    TokenEndpoint,
    claims::{Claims, Confirmation},
    transport::Certificate,
};
#[cfg(feature = "https")]
use crate::client_credentials::TokenErrorKind;
use crate::client_credentials::{
    AccessToken, CertificateThumbprint, TokenError, TokenEvent, context::SourceContext,
};

/// The certificates of one fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchCertificates {
    /// The certificate that the token endpoint's client presents, if it is known.
    endpoint: Option<CertificateThumbprint>,
    /// The certificate that the API's client presents, if it is known.
    #[cfg_attr(not(feature = "https"), expect(dead_code))]
    api: Option<CertificateThumbprint>,
}

impl TokenEndpoint {
    /// Returns the certificates of a fetch whose client presents `endpoint`.
    ///
    /// # Errors
    ///
    /// The certificate of the API's client cannot be read, or is another one, and the setting refuses that.
    #[cfg_attr(
        not(feature = "https"),
        expect(clippy::unused_async, reason = "reads a certificate with `https`")
    )]
    pub(super) async fn fetch_certificates(
        &self,
        endpoint: Option<CertificateThumbprint>,
    ) -> Result<FetchCertificates, TokenError> {
        #[cfg(feature = "https")]
        if let Some(bound) = &self.certificate_bound {
            let api = bound.api().await?.or(endpoint);
            // Known before anything is sent.
            if endpoint.is_some() && api != endpoint && bound.refuses_mismatch() {
                return Err(mismatch(
                    true,
                    "was not sent: the API's client presents another certificate than the token endpoint's client, to \
                     which the token would be bound (RFC 8705 §3)",
                ));
            }
            return Ok(FetchCertificates { endpoint, api });
        }
        let api = None;
        Ok(FetchCertificates { endpoint, api })
    }

    /// Checks what a token that was issued to this process is bound to. Returns it with its binding.
    ///
    /// # Errors
    ///
    /// The token is not bound, or is bound to another certificate, and the settings refuse that.
    pub(super) async fn check_binding(
        &self,
        token: AccessToken,
        certificates: FetchCertificates,
        cx: &SourceContext<'_>,
    ) -> Result<AccessToken, TokenError> {
        // Bound to a key, and sent with proofs.
        if token.prover().is_some() {
            return Ok(token);
        }
        let named = token.expose().and_then(Claims::of);
        let named = named.map(|claims| claims.confirmation());
        #[cfg(feature = "https")]
        if let Some(bound) = &self.certificate_bound {
            let api = certificates.api;
            return match named {
                Some(Confirmation::Certificate(named)) if api.is_some_and(|api| api != named) => {
                    if bound.refuses_mismatch() {
                        // With a client of the program's own, it is not known whether both present the new certificate
                        // yet.
                        return Err(mismatch(
                            certificates.endpoint.is_none(),
                            "returned a token that is bound to another certificate (RFC 8705 §3.1) than the API's \
                             client presents; check whether a proxy presents its own certificate to the token endpoint",
                        ));
                    }
                    cx.emit(|credential| TokenEvent::CertificateMismatch { credential });
                    Ok(token.unshareable())
                }
                Some(Confirmation::Certificate(named)) => Ok(token.bound_to_certificate(named)),
                Some(Confirmation::None | Confirmation::Other) if bound.requires_binding() => {
                    Err(TokenError::new(
                        TokenErrorKind::InvalidResponse,
                        false,
                        "returned a token that is not bound to the client certificate: its `cnf` has no x5t#S256 \
                         (RFC 8705 §3.1); check that the client is registered with \
                         `tls_client_certificate_bound_access_tokens`, and that no proxy terminates TLS in front of \
                         the token endpoint, or accept such tokens with `CertificateBound::on_bearer_answer`",
                    ))
                }
                Some(Confirmation::None | Confirmation::Other) => Ok(token),
                None => {
                    if certificates.endpoint.is_some() && api != certificates.endpoint {
                        cx.emit(|credential| TokenEvent::CertificateMismatch { credential });
                        return Ok(token.unshareable());
                    }
                    Ok(match api {
                        Some(api) => token.bound_to_certificate(api),
                        None => token,
                    })
                }
            };
        }
        let token = match named {
            None | Some(Confirmation::None) => return Ok(token),
            // Dropped when the endpoint's certificate changes.
            Some(Confirmation::Certificate(named)) if Some(named) == certificates.endpoint => {
                token.bound_to_certificate(named)
            }
            Some(_) => token,
        };
        cx.emit(|credential| TokenEvent::BoundToken { credential });
        // Useless to a process with another certificate.
        Ok(match self.client.certificate().await {
            Certificate::Known(_) => token,
            Certificate::None | Certificate::Unknown => token.unshareable(),
        })
    }

    /// Returns `false` if a certificate that `token` is bound to has been replaced, so that another token is needed (RFC
    /// 8705 §6.2).
    ///
    /// An unreadable certificate counts as unchanged, and so does one that the API's client presents before the
    /// endpoint's client does: a new token would be bound to the old one.
    #[cfg(feature = "https")]
    pub(super) async fn is_still_bound(&self, token: &AccessToken) -> bool {
        let Some(bound_to) = token.certificate() else {
            return true;
        };
        let api = match &self.certificate_bound {
            Some(bound) => bound.api().await,
            None => Ok(None),
        };
        match api {
            Ok(Some(api)) if api == bound_to => true,
            Ok(Some(api)) => match self.client.certificate().await {
                Certificate::Known(_) => self.client.usable_certificate().await != Some(api),
                Certificate::None | Certificate::Unknown => !self.client.is_service(),
            },
            Ok(None) => {
                let usable = self.client.usable_certificate().await;
                usable.is_none_or(|usable| usable == bound_to)
            }
            Err(_) => true,
        }
    }
}

/// Creates the error of a token that the API would reject.
#[cfg(feature = "https")]
fn mismatch(is_transient: bool, what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::Certificate,
        is_transient,
        format!(
            "{what}; pass the same certificate to both clients, and name the one of the API's client with \
             `CertificateBound::api_certificate`"
        ),
    )
}
