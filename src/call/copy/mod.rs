//! Copy of a request, kept until the call ends.
//!
//! There are two forms. A [`StoredCopy`] is made on the fast path: it is cheap to create, and rarely used. A
//! [`RequestCopy`] is made on the slow path, or from a [`StoredCopy`] when a call needs another attempt. Both are made
//! before the layer adds a credential.
//!
//! | | [`StoredCopy`] | [`RequestCopy`] |
//! |---|---|---|
//! | made | for each request on the fast path whose body can be copied | on the slow path, or when leaving the fast path |
//! | head | encoded into one array: one allocation, no clone of a header map | cloned |
//! | contains the service | yes: the future of the fast path owns no other clone | no: the loop owns it |
//! | can be sent | after it is decoded | at once |
//!
//! A copy is never made of a request that already has the credential: a retry must get the credential that is valid by
//! then.

mod encoding;

use std::fmt;

use http::{Extensions, Method, Request, Uri, Version, request::Parts};

use crate::replay::ReplayableBody;

/// Copy of a request's head and body, without anything that the layer added.
#[derive(Debug)]
pub(crate) struct RequestCopy<B> {
    /// Method, URI, version, headers and extensions.
    head: Parts,
    /// Clone of the body.
    body: B,
}

impl<B: ReplayableBody> RequestCopy<B> {
    /// Copies `request`. `None` if its body cannot be cloned.
    pub(crate) fn of(request: &Request<B>) -> Option<Self> {
        let body = request.body().try_clone()?;
        let head = head_of(request);
        Some(Self { head, body })
    }

    /// Copies the copy. `None` if its body cannot be cloned again.
    fn try_clone(&self) -> Option<Self> {
        Some(Self {
            head: self.head.clone(),
            body: self.body.try_clone()?,
        })
    }

    /// Returns whether the body can still be sent in full.
    pub(crate) fn is_intact(&self) -> bool {
        self.body.is_intact()
    }

    /// Returns the request, for its last attempt.
    pub(crate) fn into_request(self) -> Request<B> {
        Request::from_parts(self.head, self.body)
    }
}

/// A copy of a request, in either form.
///
/// A policy uses this view of a copy, so that its decisions do not depend on the form. It calls `supersede` only once a
/// retry is decided, because that cannot be undone.
pub(crate) trait Resend {
    /// Ends the reading of the previous attempt's body. Returns whether the copy can be sent in full.
    fn supersede(&self) -> bool;

    /// Returns the method and the path. The stored form includes the query.
    fn method_and_path(&self) -> Option<(&str, &str)>;
}

impl<B: ReplayableBody> Resend for RequestCopy<B> {
    fn supersede(&self) -> bool {
        self.body.supersede()
    }

    fn method_and_path(&self) -> Option<(&str, &str)> {
        Some((self.head.method.as_str(), self.head.uri.path()))
    }
}

impl<S, B: ReplayableBody> Resend for StoredCopy<S, B> {
    fn supersede(&self) -> bool {
        let parts = self.0.parts.as_ref();
        parts.is_some_and(|(_, body, _)| body.supersede())
    }

    fn method_and_path(&self) -> Option<(&str, &str)> {
        match &self.0.oversized_head {
            Some(head) => Some((head.method.as_str(), head.uri.path())),
            None => encoding::method_and_path(&self.0.head),
        }
    }
}

/// Clones the head of `request`.
///
/// Built field by field, because [`Parts`] has no public constructor.
fn head_of<B>(request: &Request<B>) -> Parts {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    *head.extensions_mut() = request.extensions().clone();
    head.into_parts().0
}

/// Request of the next attempt.
///
/// | state | sent | remains for another attempt |
/// |---|---|---|
/// | `Original`, first attempt | the original | a copy, if one is needed and the body can be cloned |
/// | `Copy`, further attempts | the copy | a copy of the copy, under the same conditions |
///
/// A body is sent before the copy that was made of it, as [`ReplayableBody`] requires.
#[derive(Debug)]
pub(crate) enum NextSend<B> {
    /// The original request, for the first attempt.
    Original(Request<B>),
    /// The copy, for further attempts.
    Copy(RequestCopy<B>),
}

impl<B: ReplayableBody> NextSend<B> {
    /// Returns the method and the URI.
    pub(crate) fn target(&self) -> (&Method, &Uri) {
        match self {
            Self::Original(request) => (request.method(), request.uri()),
            Self::Copy(copy) => (&copy.head.method, &copy.head.uri),
        }
    }

    /// Returns the request, and a copy for the attempt after it if one is needed and the body can be cloned.
    pub(crate) fn into_request(self, needs_copy: bool) -> (Request<B>, Option<RequestCopy<B>>) {
        match self {
            Self::Original(request) => {
                // The original is sent, and the copy is kept.
                let copy = needs_copy.then(|| RequestCopy::of(&request)).flatten();
                (request, copy)
            }
            Self::Copy(request) => {
                // The copy is sent, and a further copy is kept.
                let copy = needs_copy.then(|| request.try_clone()).flatten();
                (request.into_request(), copy)
            }
        }
    }
}

/// Copy of a request that is in flight on the fast path, and the service to send it through again.
///
/// Nearly all requests pay for one and few use it. It is one allocation: the head is encoded into a byte array of 512,
/// 1024 or 4096 bytes. A longer head is cloned, in a further allocation.
pub(crate) struct StoredCopy<S, B>(Box<EncodedParts<S, B, [u8]>>);

/// Contents of a [`StoredCopy`]. `H` is the byte array with the encoded head.
///
/// `parts` is taken out when the copy is decoded, because an unsized value cannot be moved out of its box. It is `None`
/// only after that.
struct EncodedParts<S, B, H: ?Sized> {
    /// Taken when the request is sent again.
    parts: Option<RawParts<S, B>>,
    /// HTTP version of the request.
    version: Version,
    /// A head that is too long for any array.
    oversized_head: Option<Box<Parts>>,
    /// The encoded head. Zeros follow it.
    head: H,
}

/// Service, body and extensions, which are not encoded.
type RawParts<S, B> = (S, B, Extensions);

impl<S: Clone, B: ReplayableBody> StoredCopy<S, B> {
    /// Copies `request` and clones `service`. `None` if the body cannot be cloned.
    pub(crate) fn of(request: &Request<B>, service: &S) -> Option<Self> {
        let parts = (
            service.clone(),
            request.body().try_clone()?,
            request.extensions().clone(),
        );
        // Trying the next size is rare, and costs less than measuring every head first.
        let flat = EncodedParts::<S, B, [u8; 512]>::of(parts, request)
            .or_else(|parts| EncodedParts::<S, B, [u8; 1024]>::of(parts, request))
            .or_else(|parts| EncodedParts::<S, B, [u8; 4096]>::of(parts, request));
        Some(Self(flat.unwrap_or_else(|parts| {
            let mut flat = Box::<EncodedParts<S, B, [u8; 0]>>::default();
            flat.parts = parts;
            flat.oversized_head = Some(Box::new(head_of(request)));
            flat
        })))
    }
}

impl<S, B, const N: usize> Default for EncodedParts<S, B, [u8; N]> {
    fn default() -> Self {
        Self {
            parts: None,
            version: Version::default(),
            oversized_head: None,
            head: [0; N],
        }
    }
}

impl<S, B, const N: usize> EncodedParts<S, B, [u8; N]> {
    /// Encodes the head of `request` and stores it with `parts`. Returns the parts if the head is longer than the
    /// array.
    fn of(
        parts: impl Into<Option<RawParts<S, B>>>,
        request: &Request<B>,
    ) -> Result<Box<EncodedParts<S, B, [u8]>>, Option<RawParts<S, B>>> {
        // Created in place: `Box::new` would move the whole array.
        let mut flat = Box::<Self>::default();
        flat.parts = parts.into();
        flat.version = request.version();
        match encoding::write(request, &mut flat.head) {
            Some(()) => Ok(flat),
            None => Err(flat.parts.take()),
        }
    }
}

impl<S, B: ReplayableBody> StoredCopy<S, B> {
    /// Returns whether the body can still be sent in full.
    pub(crate) fn is_intact(&self) -> bool {
        let parts = self.0.parts.as_ref();
        parts.is_some_and(|(_, body, _)| body.is_intact())
    }

    /// Decodes the copy, and returns it with the service. An encoded head can always be decoded.
    pub(crate) fn into_copy(mut self) -> Option<(S, RequestCopy<B>)> {
        let (service, body, extensions) = self.0.parts.take()?;
        let head = match self.0.oversized_head.take() {
            Some(head) => *head,
            None => encoding::read(&self.0.head, self.0.version, extensions)?,
        };
        Some((service, RequestCopy { head, body }))
    }
}

impl<S, B> fmt::Debug for StoredCopy<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredCopy")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::replay::ReplayBody;

    #[tokio::test]
    async fn a_copy_reports_when_it_is_no_longer_complete() {
        for (data, intact) in [("abcd", true), ("abcde", false)] {
            // Does not say how long it is.
            let body = Full::new(Bytes::from(data)).map_frame(|frame| frame);
            let request = Request::new(ReplayBody::new(body, 4));
            let retained = StoredCopy::of(&request, &()).unwrap();
            let kept = RequestCopy::of(&request).unwrap();
            assert!(kept.is_intact() && retained.is_intact());

            let read = request.into_body().collect().await.unwrap();

            assert_eq!(read.to_bytes(), data);
            assert_eq!(kept.is_intact(), intact, "{data}");
            assert_eq!(retained.is_intact(), intact, "{data}");
            assert_eq!(format!("{retained:?}"), "StoredCopy");
        }
    }

    #[test]
    fn a_head_of_any_length_is_copied() {
        for length in [0, 400, 600, 2000, 4000, 10_000] {
            let request = Request::put("https://api.example/a?b")
                .version(Version::HTTP_2)
                .header("x-long", "x".repeat(length))
                .extension(7_u8)
                .body("body".to_owned())
                .unwrap();

            let retained = StoredCopy::of(&request, &"service").unwrap();
            let (method, path) = retained.method_and_path().unwrap();
            assert_eq!(method, "PUT");
            assert!(path.starts_with("/a"));
            let (service, kept) = retained.into_copy().unwrap();
            let copy = kept.into_request();

            assert_eq!(service, "service");
            assert_eq!(copy.method(), request.method());
            assert_eq!(copy.uri(), request.uri());
            assert_eq!(copy.version(), Version::HTTP_2);
            assert_eq!(copy.headers(), request.headers());
            assert_eq!(copy.extensions().get::<u8>(), Some(&7));
            assert_eq!(copy.body(), "body");
        }
    }
}
