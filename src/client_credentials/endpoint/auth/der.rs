//! Subset of DER (X.690) for private keys. [pure]
//!
//! Lengths are read in definite form only, as DER requires. All buffers that may contain a key are zeroized.
//!
//! Readers take a slice and return the content and the rest, so that a structure is read by a chain of calls. Writers
//! return owned, zeroized buffers. Nothing is read recursively.

use zeroize::Zeroizing;

/// Zeroized bytes.
type Bytes = Zeroizing<Vec<u8>>;

/// Encodes a key as PKCS #8 (RFC 5958).
pub(super) fn pkcs8(algorithm: &[u8], key: &[u8]) -> Bytes {
    let content = join(&[
        &integer(&[0]),
        &element(SEQUENCE, algorithm),
        &element(OCTET_STRING, key),
    ]);
    element(SEQUENCE, &content)
}

/// Encodes an unsigned big-endian number. Removes leading zeros, and adds one if the number would otherwise be
/// negative.
pub(super) fn integer(number: &[u8]) -> Bytes {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    let padded = number.first().is_none_or(|first| first & 0x80 != 0);
    element(INTEGER, &join(&[if padded { &[0] } else { &[] }, number]))
}

/// Encodes an element with a tag and its content.
pub(super) fn element(tag: u8, content: &[u8]) -> Bytes {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let length = &length[zeros..];
    match content.len() {
        short @ 0..=0x7F => join(&[&[tag, short as u8], content]),
        _ => join(&[&[tag, 0x80 | length.len() as u8], length, content]),
    }
}

/// Concatenates `parts` in one allocation, so that no copy of a key is left in freed memory.
pub(super) fn join(parts: &[&[u8]]) -> Bytes {
    let mut joined = Zeroizing::new(Vec::with_capacity(parts.iter().map(|p| p.len()).sum()));
    for part in parts {
        joined.extend_from_slice(part);
    }
    joined
}

/// Returns the content of the first element in `der` and the bytes after the element. Returns `None` if its tag is not
/// `tag`.
///
/// Never panics, whatever the bytes are: lengths are checked before they are used.
pub(super) fn content(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    if der.first() != Some(&tag) {
        return None;
    }
    let (whole, rest) = der.split_at_checked(length(der)?)?;
    Some((&whole[header(der)?.0..], rest))
}

/// Returns the length of the first element in `der`, including its header.
pub(super) fn length(der: &[u8]) -> Option<usize> {
    let (header, content) = header(der)?;
    header.checked_add(content)
}

/// Returns the lengths of the header and the content of the first element.
///
/// Accepts lengths that are not minimal, which DER forbids: some tools write them.
fn header(der: &[u8]) -> Option<(usize, usize)> {
    match *der.get(1)? {
        short @ 0..=0x7F => Some((2, short.into())),
        long => {
            let count = usize::from(long & 0x7F);
            // At most 4 length bytes, so that `sum` cannot overflow.
            // Long form: the lower bits contain the number of length bytes.
            let bytes = der.get(2..2 + count).filter(|_| count <= 4)?;
            let content = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            Some((2 + count, content))
        }
    }
}

/// Tag of a bit string.
pub(super) const BIT_STRING: u8 = 0x03;
/// Tag of the context-specific element 0.
pub(super) const CONTEXT_0: u8 = 0xA0;
/// Tag of the context-specific element 1.
pub(super) const CONTEXT_1: u8 = 0xA1;
/// Tag of an integer.
pub(super) const INTEGER: u8 = 0x02;
/// Tag of an octet string.
pub(super) const OCTET_STRING: u8 = 0x04;
/// Tag of a sequence.
pub(super) const SEQUENCE: u8 = 0x30;
/// First byte of an uncompressed point on a curve (SEC 1).
pub(super) const UNCOMPRESSED: u8 = 0x04;

// Encoded object identifiers.
pub(super) const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
pub(super) const P256: &[u8] = &[0x06, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
pub(super) const P384: &[u8] = &[0x06, 5, 0x2B, 0x81, 0x04, 0x00, 0x22];
pub(super) const P521: &[u8] = &[0x06, 5, 0x2B, 0x81, 0x04, 0x00, 0x23];
pub(super) const ED25519: &[u8] = &[0x06, 3, 0x2B, 0x65, 0x70];
