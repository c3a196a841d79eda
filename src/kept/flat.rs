//! The head of a request in one row of bytes: cheap to write, and read only when the request is sent again.
//!
//! Each part with its length before it; each header's name, whether its value is sensitive, and the value.

use http::{
    Extensions, HeaderName, HeaderValue, Method, Request, Uri, Version,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

/// How many bytes [`write`] needs for the head of `request`.
pub(super) fn length<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let head = LENGTH * 4
        + request.method().as_str().len()
        + uri.scheme_str().map_or(0, str::len)
        + uri
            .authority()
            .map_or(0, |authority| authority.as_str().len())
        + uri.path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter();
    headers
        .map(|(name, value)| LENGTH * 2 + 1 + name.as_str().len() + value.len())
        .fold(head, usize::saturating_add)
}

/// Writes the head of `request`, without version and extensions, to the beginning of `bytes`. `None` if it does not fit.
pub(super) fn write<B>(request: &Request<B>, bytes: &mut [u8]) -> Option<()> {
    let uri = request.uri();
    let mut row = Row(bytes);
    row.put(request.method().as_str().as_bytes())?;
    row.put(uri.scheme_str().unwrap_or_default().as_bytes())?;
    row.put(uri.authority().map_or("", Authority::as_str).as_bytes())?;
    row.put(
        uri.path_and_query()
            .map_or("", PathAndQuery::as_str)
            .as_bytes(),
    )?;
    for (name, value) in request.headers() {
        row.put(name.as_str().as_bytes())?;
        row.byte(u8::from(value.is_sensitive()))?;
        row.put(value.as_bytes())?;
    }
    // No header's name is empty: this is the end.
    if row.0.len() >= LENGTH {
        row.put(b"")?;
    }
    Some(())
}

/// The head that was written to `bytes`. `None` for anything else.
pub(super) fn read(bytes: &[u8], version: Version, extensions: Extensions) -> Option<Parts> {
    let mut row = Written(bytes);
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(row.take()?).ok()?;
    let mut uri = http::uri::Parts::default();
    uri.scheme = row.text(Scheme::try_from)?;
    uri.authority = row.text(Authority::try_from)?;
    uri.path_and_query = row.text(PathAndQuery::try_from)?;
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    while let Some(name) = row.take().filter(|name| !name.is_empty()) {
        let name = HeaderName::from_bytes(name).ok()?;
        let sensitive = row.byte()? == 1;
        let mut value = HeaderValue::from_bytes(row.take()?).ok()?;
        value.set_sensitive(sensitive);
        request.headers_mut().append(name, value);
    }
    *request.version_mut() = version;
    *request.extensions_mut() = extensions;
    Some(request.into_parts().0)
}

/// What is left to be written to.
struct Row<'a>(&'a mut [u8]);

impl Row<'_> {
    fn put(&mut self, part: &[u8]) -> Option<()> {
        let length = u32::try_from(part.len()).ok()?;
        self.raw(&length.to_le_bytes())?;
        self.raw(part)
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        self.raw(&[byte])
    }

    fn raw(&mut self, part: &[u8]) -> Option<()> {
        let (here, rest) = std::mem::take(&mut self.0).split_at_mut_checked(part.len())?;
        here.copy_from_slice(part);
        self.0 = rest;
        Some(())
    }
}

/// What is left to be read.
struct Written<'a>(&'a [u8]);

impl<'a> Written<'a> {
    /// `None` at the end.
    fn take(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (part, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A part of the URI, which may be missing.
    fn text<T, E>(&mut self, parse: impl Fn(&'a [u8]) -> Result<T, E>) -> Option<Option<T>> {
        match self.take()? {
            b"" => Some(None),
            part => parse(part).ok().map(Some),
        }
    }
}

/// Of a part, in bytes.
const LENGTH: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copy(request: &Request<()>) -> Parts {
        let mut bytes = vec![0xff; length(request)];
        write(request, &mut bytes).unwrap();
        read(&bytes, request.version(), Extensions::new()).unwrap()
    }

    fn is_same(request: &Request<()>) -> bool {
        let parts = copy(request);
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
    fn every_form_of_a_uri_survives() {
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
    fn a_buffer_of_another_size_is_no_danger() {
        let request = Request::builder().header("a", "b").body(()).unwrap();
        let mut long = vec![0; length(&request) + 100];
        write(&request, &mut long).unwrap();
        let mut short = vec![0; length(&request) - 1];

        assert!(read(&long, Version::HTTP_11, Extensions::new()).is_some());
        assert!(write(&request, &mut short).is_none());
    }

    proptest! {
        #[test]
        fn any_head_survives(
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
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes, Version::HTTP_11, Extensions::new()));
        }
    }
}
