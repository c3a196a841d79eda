//! Encoding of a request's head in a byte array: cheap to write, and decoded only when the request is sent again.
//!
//! The array holds pairs of strings, each pair after its two lengths:
//!
//! ```text
//! lengths method authority | lengths scheme path | lengths name value | lengths name value | … | zeros
//! ```
//!
//! Two lengths take 8 bytes, little endian: 31 bits for the first, and 31 bits for the second from bit 32 on. Bit 63
//! marks a sensitive value. An empty authority, scheme or path stands for a missing one.
//!
//! `GET /a` to `https://b` with the header `x: 1` is encoded as follows (lengths as two numbers, in front of their
//! strings):
//!
//! ```text
//! 3 1 GETb | 5 2 https/a | 1 1 x1 | 0 0 …
//! ```
//!
//! Both directions take one pass over the head and time proportional to its length. Encoding allocates nothing, which
//! is why it is done for each request; decoding parses and allocates like receiving a request, and happens only before
//! a retry.

use http::{
    Extensions, HeaderName, HeaderValue, Method, Request, Uri, Version,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

/// Encodes the head of `request`, except its version and extensions, into `bytes`, which must be zeros. `None` if it
/// does not fit.
///
/// On `None`, `bytes` contains a part of the head and must not be decoded: the caller tries a larger array with fresh
/// zeros.
pub(super) fn write<B>(request: &Request<B>, bytes: &mut [u8]) -> Option<()> {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let authority = uri.authority().map_or("", Authority::as_str);
    let mut encoder = Encoder { bytes, end: 0 };
    encoder.encode(request.method().as_str(), authority.as_bytes(), false)?;
    encoder.encode(uri.scheme_str().unwrap_or_default(), path.as_bytes(), false)?;
    for (name, value) in request.headers() {
        encoder.encode(name.as_str(), value.as_bytes(), value.is_sensitive())?;
    }
    // Header names are not empty, so that the zeros that follow mark the end.
    Some(())
}

/// Decodes the head in `bytes`. `None` if they were not written by `write`.
///
/// The decoded head equals the encoded one, including the order of the headers, repeated names, and the
/// [sensitive](HeaderValue::is_sensitive) mark of a value.
pub(super) fn read(bytes: &[u8], version: Version, extensions: Extensions) -> Option<Parts> {
    let mut decoder = Decoder(bytes);
    let (method, authority, _) = decoder.decode()?;
    let (scheme, path, _) = decoder.decode()?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    let mut uri = http::uri::Parts::default();
    uri.scheme = optional(scheme, Scheme::try_from)?;
    uri.authority = optional(authority, Authority::try_from)?;
    uri.path_and_query = optional(path, PathAndQuery::try_from)?;
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    // An empty name is the end: the array continues with zeros.
    while let Some((name, value, sensitive)) =
        decoder.decode().filter(|(name, ..)| !name.is_empty())
    {
        let name = HeaderName::from_bytes(name).ok()?;
        let mut value = HeaderValue::from_bytes(value).ok()?;
        value.set_sensitive(sensitive);
        request.headers_mut().append(name, value);
    }
    *request.version_mut() = version;
    *request.extensions_mut() = extensions;
    Some(request.into_parts().0)
}

/// Decodes only the method, and the path with its query.
///
/// Takes constant time apart from the validation of the two texts: the headers, which follow them, are not read.
pub(super) fn method_and_path(bytes: &[u8]) -> Option<(&str, &str)> {
    let mut decoder = Decoder(bytes);
    let (method, ..) = decoder.decode()?;
    let (_, path, _) = decoder.decode()?;
    let method = std::str::from_utf8(method).ok()?;
    Some((method, std::str::from_utf8(path).ok()?))
}

/// Byte array to write to.
struct Encoder<'a> {
    /// The whole array.
    bytes: &'a mut [u8],
    /// Number of bytes written.
    end: usize,
}

impl Encoder<'_> {
    /// Writes two strings after their lengths. `flag` is stored in the highest bit. `None` if they do not fit.
    #[inline]
    fn encode(&mut self, first: &str, second: &[u8], flag: bool) -> Option<()> {
        let end = self.end + LENGTHS_SIZE + first.len() + second.len();
        // One bounds check for all parts. Lengths that fit into an array fit into 31 bits.
        let space = self.bytes.get_mut(self.end..end)?;
        let (lengths, space) = space.split_first_chunk_mut()?;
        let (first_part, second_part) = space.split_at_mut_checked(first.len())?;
        let both =
            first.len() as u64 | (second.len() as u64) << 32 | u64::from(flag) << SENSITIVE_BIT;
        *lengths = both.to_le_bytes();
        first_part.copy_from_slice(first.as_bytes());
        second_part.copy_from_slice(second);
        self.end = end;
        Some(())
    }
}

/// Bytes left to decode.
struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// Reads two strings and the flag. `None` at the end.
    fn decode(&mut self) -> Option<(&'a [u8], &'a [u8], bool)> {
        let (lengths, rest) = self.0.split_first_chunk()?;
        let both = u64::from_le_bytes(*lengths);
        let (first, second) = (both & MAX_LENGTH, both >> 32 & MAX_LENGTH);
        let (first, rest) = rest.split_at_checked(usize::try_from(first).ok()?)?;
        let (second, rest) = rest.split_at_checked(usize::try_from(second).ok()?)?;
        self.0 = rest;
        Some((first, second, both >> SENSITIVE_BIT == 1))
    }
}

/// Parses a part of the URI. Empty text stands for a missing part. `None` if it is malformed.
fn optional<'a, T, E>(
    part: &'a [u8],
    parse: impl Fn(&'a [u8]) -> Result<T, E>,
) -> Option<Option<T>> {
    match part {
        b"" => Some(None),
        part => parse(part).ok().map(Some),
    }
}

/// Size of two lengths, in bytes.
const LENGTHS_SIZE: usize = 8;
/// Bit of the two lengths that marks a sensitive value.
const SENSITIVE_BIT: u32 = 63;
/// Mask of one length, which is also its maximum.
const MAX_LENGTH: u64 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(request: &Request<()>) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        write(request, &mut bytes).unwrap();
        bytes
    }

    fn another(request: &Request<()>) -> Parts {
        let bytes = encoded(request);
        read(&bytes, request.version(), Extensions::new()).unwrap()
    }

    fn is_same(request: &Request<()>) -> bool {
        let parts = another(request);
        let sensitive = |headers: &http::HeaderMap| {
            headers
                .values()
                .map(HeaderValue::is_sensitive)
                .collect::<Vec<_>>()
        };
        parts.method == request.method()
            && parts.uri == *request.uri()
            && parts.version == request.version()
            && parts.headers == *request.headers()
            && sensitive(&parts.headers) == sensitive(request.headers())
    }

    #[test]
    fn every_uri_form_round_trips() {
        for uri in [
            "https://api.example.com/a?b=c",
            "/only/a/path",
            "*",
            "host:443",
            "http://h",
        ] {
            let request = Request::builder().uri(uri).body(()).unwrap();

            assert!(is_same(&request), "{uri}");
        }
    }

    #[test]
    fn the_sensitive_flag_round_trips() {
        for sensitive in [false, true] {
            let mut value = HeaderValue::from_static("b");
            value.set_sensitive(sensitive);
            let request = Request::builder().header("a", value).body(()).unwrap();

            let copied = &another(&request).headers["a"];

            assert_eq!(copied, "b");
            assert_eq!(copied.is_sensitive(), sensitive);
        }
    }

    #[test]
    fn a_buffer_of_any_size_is_handled() {
        let request = Request::builder().header("a", "b").body(()).unwrap();
        let long = encoded(&request);
        // Three pairs of lengths, `GET`, `/`, `a`, `b`.
        let needed = 3 * LENGTHS_SIZE + 6;

        assert!(read(&long, Version::HTTP_11, Extensions::new()).is_some());
        assert!(read(&long[..needed], Version::HTTP_11, Extensions::new()).is_some());
        assert!(write(&request, &mut vec![0; needed]).is_some());
        assert!(write(&request, &mut vec![0; needed - 1]).is_none());
    }

    proptest! {
        #[test]
        fn any_head_round_trips(
            method in "[A-Z]{1,12}",
            path in "/[a-z0-9/%]{0,40}",
            headers in prop::collection::vec(("[a-z][a-z0-9-]{0,20}", "[ -~\u{e4}]{0,60}", any::<bool>()), 0..12),
        ) {
            let mut request = Request::builder()
                .method(method.as_str())
                .uri(path)
                .version(Version::HTTP_2)
                .body(())
                .unwrap();
            for (name, value, sensitive) in headers {
                let name: HeaderName = name.parse().unwrap();
                let mut value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                value.set_sensitive(sensitive);
                request.headers_mut().append(name, value);
            }
            prop_assert!(is_same(&request));
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes, Version::HTTP_11, Extensions::new()));
        }
    }
}
