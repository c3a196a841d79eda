//! The HTTP status that corresponds to a gRPC status.
//!
//! The details are protobuf messages of which three fields are needed, so they are parsed here instead of with generated
//! code. They come from the server: their length is limited, and malformed input means that there is no wait.
//!
//! Messages that are read, with the numbers of their fields:
//!
//! | message | field | type |
//! |---|---|---|
//! | `google.rpc.Status` | 3, `details` | repeated `google.protobuf.Any` |
//! | `google.protobuf.Any` | 1, `type_url`; 2, `value` | string; bytes |
//! | `google.rpc.RetryInfo` | 1, `retry_delay` | `google.protobuf.Duration` |
//! | `google.protobuf.Duration` | 1, `seconds`; 2, `nanos` | int64; int32 |
//!
//! Unknown fields are skipped, as protobuf demands. Parsing takes time proportional to the length of the details, and
//! allocates only to decode their base64.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// An HTTP status with its wait.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Translation {
    /// Status of the same meaning.
    pub(super) status: StatusCode,
    /// Value for `grpc-retry-pushback-ms`.
    pub(super) pushback: Option<HeaderValue>,
}

/// Returns the status to set; `None` if the response stays unchanged. `RESOURCE_EXHAUSTED` without a wait may be about the
/// size of a message, so it counts as a rate limit only with a wait, or with `any_exhaustion`.
pub(super) fn translate(fields: &HeaderMap, any_exhaustion: bool) -> Option<Translation> {
    let code = fields.get(STATUS)?.to_str().ok()?;
    match code.parse().ok()? {
        UNAUTHENTICATED => Some(Translation {
            status: StatusCode::UNAUTHORIZED,
            pushback: None,
        }),
        // Without a wait the layer above would back off, although retrying cannot help with a message that is too large.
        RESOURCE_EXHAUSTED => {
            let pushback = pushback(fields);
            (any_exhaustion || pushback.is_some()).then_some(Translation {
                status: StatusCode::TOO_MANY_REQUESTS,
                pushback,
            })
        }
        _ => None,
    }
}

/// Returns the server's own pushback, or the delay of `google.rpc.RetryInfo` in milliseconds, rounded up.
///
/// A pushback that is negative or malformed is passed on as it is: the layer above reads it as "do not retry" (gRFC
/// A6).
fn pushback(fields: &HeaderMap) -> Option<HeaderValue> {
    if let Some(own) = fields.get(PUSHBACK) {
        return Some(own.clone());
    }
    let details = fields.get(DETAILS)?.as_bytes();
    if details.len() > MAX_DETAILS_BYTES {
        return None;
    }
    // Several values of one field may have been joined with commas (RFC 9110 §5.3).
    let mut details = details.split(|byte| *byte == b',');
    let millis = details.find_map(|one| retry_info(&BASE64.decode(one.trim_ascii()).ok()?))?;
    Some(millis.into())
}

/// Returns the delay in milliseconds of the first `google.rpc.RetryInfo` among the details of a `google.rpc.Status`.
fn retry_info(status: &[u8]) -> Option<u64> {
    // Status: field 3 is a list of `Any`. `Any`: 1 is the type's URL, 2 the value. RetryInfo: 1 is the delay.
    let details = Fields(status).filter(|field| field.number == 3);
    details
        .filter_map(|any| {
            let of = |number| Fields(any.bytes).find(|field| field.number == number);
            let name = of(1)?.bytes;
            if !name.ends_with(b"/google.rpc.RetryInfo") {
                return None;
            }
            // An empty value is omitted on the wire, as is a delay of zero.
            let info = of(2).map_or(&[][..], |value| value.bytes);
            let delay = Fields(info).find(|field| field.number == 1);
            let delay = delay.map_or(&[][..], |delay| delay.bytes);
            // Duration: 1 is the seconds, 2 the nanoseconds.
            let part = |number| {
                let part = Fields(delay).find(|field| field.number == number);
                // A negative number decodes to one above `i64::MAX`.
                i64::try_from(part.map_or(0, |part| part.value))
                    .ok()?
                    .try_into()
                    .ok()
            };
            let (seconds, nanos): (u64, u64) = (part(1)?, part(2)?);
            Some(
                seconds
                    .saturating_mul(1000)
                    .saturating_add(nanos.div_ceil(1_000_000)),
            )
        })
        .next()
}

/// An iterator over the fields of a protobuf message. Ends at the first malformed field.
struct Fields<'a>(&'a [u8]);

/// A field of a protobuf message. Fixed-size fields count as bytes; groups are malformed.
struct Field<'a> {
    /// Field number.
    number: u64,
    /// Value of a varint field, otherwise 0.
    value: u64,
    /// Content of any other field.
    bytes: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let tag = self.varint()?;
        let mut field = Field {
            number: tag >> 3,
            value: 0,
            bytes: &[],
        };
        match tag & 7 {
            // Wire types: 0 is a varint, 1 is 64 bits, 2 has a length, 5 is 32 bits.
            0 => field.value = self.varint()?,
            1 => field.bytes = self.take(8)?,
            2 => {
                let length = self.varint()?;
                field.bytes = self.take(length.try_into().ok()?)?;
            }
            5 => field.bytes = self.take(4)?,
            _ => return None,
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    /// Reads a base-128 varint of at most 10 bytes, least significant group first.
    fn varint(&mut self) -> Option<u64> {
        let length = self.0.iter().take(10).position(|byte| *byte < 0x80)? + 1;
        let bytes = self.take(length)?;
        // Bits beyond 64 are dropped.
        let value = |value, byte: &u8| (value << 7) | u64::from(byte & 0x7f);
        Some(bytes.iter().rev().fold(0, value))
    }

    /// Takes `length` bytes off the front.
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Maximum length, in bytes, of the details that are parsed. gRPC's own default limit for all metadata of a response is
/// 8 KiB.
const MAX_DETAILS_BYTES: usize = 16 * 1024;
/// gRPC status code: a quota or another resource is exhausted.
const RESOURCE_EXHAUSTED: u32 = 8;
/// gRPC status code: the credentials are missing or invalid.
const UNAUTHENTICATED: u32 = 16;

/// Field with the status code of a call.
pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Field with the server's wait before a retry, in milliseconds (gRFC A6).
pub(super) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Field with a base64-encoded `google.rpc.Status`.
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Accepts base64 with and without padding, as the gRPC specification requires.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A `google.rpc.Status` with an `ErrorInfo`, and a `RetryInfo` of 1.499000001 s.
    const DETAILS: &str = concat!(
        "CAgSBnNsb3dlchozCih0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuRXJyb3JJbmZvEgcKBVFV",
        "T1RBGjYKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SCgoICAEQwcX47QE=",
    );

    /// The same with a second less than none.
    const NEGATIVE: &str = concat!(
        "CAgSBnNsb3dlchozCih0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuRXJyb3JJbmZvEgcKBVFV",
        "T1RBGjkKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SDQoLCP///////////wE=",
    );

    fn trailers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        lines.collect()
    }

    fn wait(lines: &[(&'static str, &str)]) -> Option<String> {
        let mut all = trailers(lines);
        all.insert(STATUS, HeaderValue::from_static("8"));
        let pushback = translate(&all, false)?.pushback?;
        Some(pushback.to_str().unwrap().to_owned())
    }

    #[test]
    fn unauthenticated_is_a_401_and_other_statuses_are_left_alone() {
        let status = |code: &str| translate(&trailers(&[("grpc-status", code)]), true);

        assert_eq!(status("16").unwrap().status, StatusCode::UNAUTHORIZED);
        assert_eq!(status("8").unwrap().status, StatusCode::TOO_MANY_REQUESTS);
        for code in ["0", "7", "14", "", "x", "-16", "4294967312"] {
            assert_eq!(status(code), None, "{code}");
        }
    }

    #[test]
    fn exhaustion_without_a_delay_counts_only_if_enabled() {
        let bare = trailers(&[("grpc-status", "8")]);

        assert_eq!(translate(&bare, false), None);
        assert_eq!(translate(&bare, true).unwrap().pushback, None);
    }

    #[test]
    fn pushback_takes_precedence_over_retry_info() {
        let wait_in = |details: &str| wait(&[("grpc-status-details-bin", details)]);
        let padded = DETAILS.len();
        let bare = DETAILS.trim_end_matches('=');

        assert_eq!(wait_in(DETAILS).unwrap(), "1500");
        assert!(bare.len() < padded);
        assert_eq!(wait_in(bare).unwrap(), "1500");
        assert_eq!(wait_in(&format!("AAAA, {bare}")).unwrap(), "1500");
        let both = [
            ("grpc-retry-pushback-ms", "-1"),
            ("grpc-status-details-bin", DETAILS),
        ];
        assert_eq!(wait(&both).unwrap(), "-1");
    }

    #[test]
    fn truncated_or_negative_delays_are_ignored() {
        assert_eq!(wait(&[("grpc-status-details-bin", NEGATIVE)]), None);
        for end in 0..DETAILS.trim_end_matches('=').len() - 1 {
            let torn = &DETAILS[..end];
            assert_eq!(wait(&[("grpc-status-details-bin", torn)]), None, "{torn}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes: Vec<u8>) {
            retry_info(&bytes);
        }
    }
}
