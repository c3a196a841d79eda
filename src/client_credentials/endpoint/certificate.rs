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

/// Returns what to check if a certificate is the cause of a failed connection to an https proxy. `None` for every other
/// failure.
///
/// Continues the sentence "could not be sent through the proxy: …".
pub(super) fn problem_of_proxy(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match tls(error)? {
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Some("its certificate has expired, or this machine's clock is wrong"),
        Tls::InvalidCertificate(_) => Some(
            "its certificate is not trusted, or is for another host; check its URL, and pass a private CA with \
             `.root_certificate(..)`",
        ),
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate,
        ) => Some(
            "it requires a client certificate, which is never presented to a proxy; connect with a client of your own, \
             `.service(..)`",
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
    fn the_certificate_of_a_proxy_is_described_as_such() {
        for (error, says) in [
            (
                Tls::InvalidCertificate(CertificateError::Expired),
                "has expired",
            ),
            (
                Tls::InvalidCertificate(CertificateError::UnknownIssuer),
                "`.root_certificate(..)`",
            ),
            (
                Tls::AlertReceived(AlertDescription::CertificateRequired),
                "never presented",
            ),
        ] {
            let what = problem_of_proxy(&wrapped(error)).unwrap();
            assert!(what.contains(says), "{what}");
        }
        let other = wrapped(Tls::HandshakeNotComplete);
        assert_eq!(problem_of_proxy(&other), None);
    }

    #[test]
    fn other_tls_errors_are_not_certificate_errors() {
        assert_eq!(problem(&wrapped(Tls::HandshakeNotComplete)), None);
        assert_eq!(problem(&io::Error::other("reset")), None);
    }
}
