//! `Host` and `:authority` (RFC 9110 §7.2, RFC 9112 §3.2, RFC 9113 §8.3.1): what makes a request malformed.

use http::{Request, Version, header::HOST, uri::Authority};

/// # Errors
///
/// What is wrong, for the caller.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), &'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err("the request has more than one Host field");
    }
    let authority = request.uri().authority();
    let Some(host) = host else {
        return match request.version() {
            Version::HTTP_11 => Err("the request has no Host field"),
            Version::HTTP_2 if authority.is_none() => Err("the request has no authority"),
            _ => Ok(()),
        };
    };
    let host = match host.as_bytes() {
        // RFC 9112 §3.2: of a target without an authority.
        [] => None,
        bytes => match Authority::try_from(bytes) {
            Ok(host) if !host.as_str().contains('@') => Some(host),
            _ => return Err("the request's Host field is malformed"),
        },
    };
    // In HTTP/1.1 an authority in the target replaces the Host field.
    let differs = authority.is_some_and(|authority| host.as_ref() != Some(authority));
    if request.version() == Version::HTTP_2 && differs {
        return Err("the request's Host field differs from its authority");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_needs_one_host_that_agrees_with_its_authority() {
        for (version, uri, hosts, sound) in [
            (Version::HTTP_11, "/", &["a.example"][..], true),
            (Version::HTTP_11, "/", &["a.example:80"], true),
            (Version::HTTP_11, "/", &["[::1]:80"], true),
            (Version::HTTP_11, "/", &[""], true),
            (Version::HTTP_11, "/", &[], false),
            (Version::HTTP_11, "http://a.example/", &[], false),
            (Version::HTTP_11, "/", &["a.example", "a.example"], false),
            (Version::HTTP_11, "/", &["a.example, b.example"], false),
            (Version::HTTP_11, "/", &["a.example/path"], false),
            (Version::HTTP_11, "/", &["user@a.example"], false),
            (Version::HTTP_11, "/", &["a b"], false),
            // The target's authority replaces it.
            (Version::HTTP_11, "http://a.example/", &["b.example"], true),
            (Version::HTTP_10, "/", &[], true),
            (Version::HTTP_10, "/", &["a.example", "a.example"], false),
            (Version::HTTP_2, "http://a.example/", &[], true),
            (Version::HTTP_2, "http://a.example/", &["A.example"], true),
            (Version::HTTP_2, "http://a.example/", &["b.example"], false),
            (Version::HTTP_2, "/", &[], false),
            (Version::HTTP_2, "/", &["a.example"], true),
        ] {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }

            let checked = check(&request.body(()).unwrap());

            assert_eq!(checked.is_ok(), sound, "{version:?} {uri} {hosts:?}");
        }
    }
}
