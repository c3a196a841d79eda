//! Descriptions of why a token request could not be sent. [pure]
//!
//! The HTTP client's own errors say what failed in its layers, not what to do. These descriptions name the setting or
//! the part of the environment to check.
//!
//! A description is chosen by type where the type is public, and by text where it is not. The texts are those of
//! hyper-util, rustls and OpenSSL. If one of them changes, the error becomes less specific, and nothing else.

use std::{error::Error, io};

use crate::error::chain;

/// Describes `error`, the failure of a request over https or plain http. Returns `None` if its cause is not a known
/// one.
///
/// The result continues the sentence "token request …", as all texts of a
/// [`TokenError`](crate::client_credentials::TokenError) do.
pub(super) fn describe(error: &(dyn Error + 'static), https: bool) -> Option<&'static str> {
    // The outermost error with a known cause determines the description.
    chain(error).find_map(|link| {
        describe_io(link)
            .or_else(|| of_tls(link))
            .or_else(|| describe_text(link, https))
    })
}

/// Describes an I/O error by its kind.
///
/// Other kinds, such as a reset, have no single remedy.
fn describe_io(link: &(dyn Error + 'static)) -> Option<&'static str> {
    match link.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::ConnectionRefused => Some(
            "could not be sent: the connection was refused; check the host and port, and that the server is running",
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some("could not be sent: there is no route to the host; check the network and the host")
        }
        io::ErrorKind::TimedOut => {
            Some("could not be sent: connecting timed out; check the network and the host")
        }
        _ => None,
    }
}

/// Describes a TLS error: the server did not speak TLS.
#[cfg(feature = "https")]
fn of_tls(link: &(dyn Error + 'static)) -> Option<&'static str> {
    use rustls::{Error as Tls, InvalidMessage};

    matches!(
        link.downcast_ref::<Tls>()?,
        Tls::InvalidMessage(InvalidMessage::InvalidContentType)
    )
    .then_some(NO_TLS)
}

/// Without the feature `https` there are no TLS errors of rustls.
#[cfg(not(feature = "https"))]
fn of_tls(_: &(dyn Error + 'static)) -> Option<&'static str> {
    None
}

/// Describes an error by its text, for error types that are private or belong to other TLS libraries.
fn describe_text(link: &(dyn Error + 'static), https: bool) -> Option<&'static str> {
    let text = link.to_string();
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if has(&[
        "dns error",
        "failed to lookup address",
        "Name or service not known",
    ]) {
        return Some(
            "could not be sent: the host name could not be resolved; check the URL, and this machine's DNS",
        );
    }
    // The texts of rustls and OpenSSL.
    if https && has(&["InvalidContentType", "wrong version number"]) {
        return Some(NO_TLS);
    }
    // hyper reads a TLS alert as the start of a response.
    if !https && has(&["invalid HTTP version"]) {
        return Some(
            "received a response that is not HTTP: the port may be for https; use https:// in the URL, or check the \
             port",
        );
    }
    None
}

/// Description of a connection to a port without TLS.
const NO_TLS: &str = "could not be sent: the server does not speak TLS on this port; check the port, or use http:// if \
     the server is on this machine";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_errors_are_described() {
        let wrapped = |error: io::Error| io::Error::other(error);
        let kind = |kind: io::ErrorKind| wrapped(kind.into());
        let text = |text: &str| wrapped(io::Error::other(text.to_owned()));
        for (error, https, says) in [
            (
                kind(io::ErrorKind::ConnectionRefused),
                true,
                Some("connection was refused"),
            ),
            (
                kind(io::ErrorKind::HostUnreachable),
                true,
                Some("no route to the host"),
            ),
            (kind(io::ErrorKind::TimedOut), true, Some("timed out")),
            (text("dns error"), true, Some("name could not be resolved")),
            (
                text("received corrupt message of type InvalidContentType"),
                true,
                Some("not speak TLS"),
            ),
            (
                text("invalid HTTP version parsed"),
                false,
                Some("the port may be for https"),
            ),
            (text("invalid HTTP version parsed"), true, None),
            (kind(io::ErrorKind::ConnectionReset), true, None),
        ] {
            let words = describe(&error, https);

            assert_eq!(words.is_some(), says.is_some(), "{error:?}");
            assert!(
                words.unwrap_or_default().contains(says.unwrap_or_default()),
                "{words:?}"
            );
        }
        #[cfg(feature = "https")]
        {
            let tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
            assert_eq!(
                describe(
                    &wrapped(io::Error::new(io::ErrorKind::InvalidData, tls)),
                    true
                ),
                Some(NO_TLS)
            );
        }
    }
}
