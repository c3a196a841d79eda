//! Finds the certificate that made a TLS handshake fail.
//!
//! Certificate problems are permanent errors of a kind of their own, because a retry cannot resolve them.
//!
//! The descriptions distinguish three sides: the server's certificate, this client's certificate, and this machine's
//! clock. All continue the sentence "token request …".

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError, Error as Tls};

/// Returns what to check if a certificate is the cause: the server's, which this client rejected, or the client's,
/// which the server rejected.
///
/// `None` for every other failure of a handshake, which counts as a transport error and is retried.
pub(super) fn problem(error: &(dyn Error + Send + Sync + 'static)) -> Option<&'static str> {
    match tls(error)? {
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Some(
            "could not be sent: the server's certificate has expired, or this machine's clock is wrong",
        ),
        // Every other reason, such as an unknown issuer or a wrong name.
        Tls::InvalidCertificate(_) => Some(
            "could not be sent: the server's certificate is not trusted; check the URL, and pass a private CA with \
             `.root_certificate(..)`",
        ),
        Tls::AlertReceived(AlertDescription::CertificateExpired) => {
            Some("was rejected in the TLS handshake: the client certificate has expired; renew it")
        }
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate,
        ) => Some(
            "was rejected in the TLS handshake: the server does not accept the client certificate, or requires one; \
             check `.client_certificate(..)`",
        ),
        _ => None,
    }
}

/// Returns the rustls error in the chain. `io::Error::source` skips the error that it wraps, so `get_ref` is tried
/// first.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Tls> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // `io::Error` wraps the TLS error, but its `source` is the source of that error.
        let inside = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inside| inside as &(dyn Error + 'static));
        next = inside.or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(error: Tls) -> io::Error {
        io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn an_expired_certificate_is_found_in_the_source_chain() {
        let server = wrapped(Tls::InvalidCertificate(CertificateError::Expired));
        let ours = wrapped(Tls::AlertReceived(AlertDescription::CertificateExpired));

        assert!(problem(&server).is_some_and(|what| what.contains("the server's certificate has")));
        assert!(problem(&ours).is_some_and(|what| what.contains("the client certificate has")));
    }

    #[test]
    fn other_tls_errors_are_not_certificate_errors() {
        assert_eq!(problem(&wrapped(Tls::HandshakeNotComplete)), None);
        assert_eq!(problem(&io::Error::other("reset")), None);
    }
}
