//! The thumbprint of a certificate (RFC 8705 §3.1).

use rustls::pki_types::CertificateDer;

use super::pem;
use crate::{
    client_credentials::{CertificateThumbprint, TokenError},
    crypto,
};

impl CertificateThumbprint {
    /// Computes the thumbprint of a certificate, in DER or PEM. In PEM it is that of the first certificate, as in a
    /// chain (feature `https`).
    ///
    /// # Errors
    ///
    /// A permanent [`TokenError`] that describes what was found, if it is not a certificate, or that says that the
    /// program has no crypto provider with SHA-256.
    pub fn of_certificate(certificate: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let bytes = certificate.as_ref();
        let found = match bytes.first() {
            // The tag of a sequence, which is also the character `0`.
            Some(0x30) if std::str::from_utf8(bytes).is_err() => of_der(bytes),
            _ => of_pem(bytes),
        };
        found.map_err(|found| {
            TokenError::configuration(format!(
                "was not sent: the certificate has no thumbprint: {found}"
            ))
        })
    }
}

/// Returns the thumbprint of the first certificate of a chain in PEM.
///
/// # Errors
///
/// Describes what was found instead.
pub(super) fn of_pem(chain: &[u8]) -> Result<CertificateThumbprint, String> {
    pem::chain(chain)?.first().map_or_else(
        || Err("found nothing".to_owned()),
        |leaf: &CertificateDer<'_>| of_der(leaf),
    )
}

/// Returns the thumbprint of a certificate in DER.
///
/// # Errors
///
/// The program has no crypto provider with SHA-256.
fn of_der(certificate: &[u8]) -> Result<CertificateThumbprint, String> {
    crypto::sha256(certificate)
        .map(CertificateThumbprint::from_bytes)
        .ok_or_else(|| "this program has no crypto provider for TLS with SHA-256".to_owned())
}
