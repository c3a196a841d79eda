//! What a gRPC status means for the layers above.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The HTTP status that says the same, and the wait that goes with it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Meaning {
    pub(super) status: StatusCode,
    pub(super) pushback: Option<HeaderValue>,
}

/// `None` where nothing is to be done. A quota counts only with a wait: `RESOURCE_EXHAUSTED` without one may as well be
/// about the size of a message, unless `any_exhaustion` says otherwise.
pub(super) fn meaning(fields: &HeaderMap, any_exhaustion: bool) -> Option<Meaning> {
    let code = fields.get(STATUS)?.to_str().ok()?;
    match code.parse().ok()? {
        UNAUTHENTICATED => Some(Meaning {
            status: StatusCode::UNAUTHORIZED,
            pushback: None,
        }),
        RESOURCE_EXHAUSTED => {
            let pushback = pushback(fields);
            (any_exhaustion || pushback.is_some()).then_some(Meaning {
                status: StatusCode::TOO_MANY_REQUESTS,
                pushback,
            })
        }
        _ => None,
    }
}

/// The server's own, or the delay of `google.rpc.RetryInfo`, rounded up.
fn pushback(fields: &HeaderMap) -> Option<HeaderValue> {
    if let Some(own) = fields.get(PUSHBACK) {
        return Some(own.clone());
    }
    let details = fields.get(DETAILS)?.as_bytes();
    if details.len() > MOST_BYTES {
        return None;
    }
    // Several values of one name may have been joined (RFC 9110 §5.3).
    let mut details = details.split(|byte| *byte == b',');
    let millis = details.find_map(|one| retry_info(&BASE64.decode(one.trim_ascii()).ok()?))?;
    Some(millis.into())
}

/// The milliseconds of the first `google.rpc.RetryInfo` among the details of a `google.rpc.Status`.
fn retry_info(status: &[u8]) -> Option<u64> {
    let details = Fields(status).filter(|field| field.number == 3);
    details
        .filter_map(|any| {
            let of = |number| Fields(any.bytes).find(|field| field.number == number);
            let name = of(1)?.bytes;
            if !name.ends_with(b"/google.rpc.RetryInfo") {
                return None;
            }
            // Left out where it is empty, as is a delay of nothing.
            let info = of(2).map_or(&[][..], |value| value.bytes);
            let delay = Fields(info).find(|field| field.number == 1);
            let delay = delay.map_or(&[][..], |delay| delay.bytes);
            let part = |number| {
                let part = Fields(delay).find(|field| field.number == number);
                // A negative number is a very large one here.
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

/// The fields of a protobuf message; ends where it is malformed.
struct Fields<'a>(&'a [u8]);

/// One of them: a number, or what has a length.
struct Field<'a> {
    number: u64,
    value: u64,
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
    fn varint(&mut self) -> Option<u64> {
        let length = self.0.iter().take(10).position(|byte| *byte < 0x80)? + 1;
        let bytes = self.take(length)?;
        let value = |value, byte: &u8| (value << 7) | u64::from(byte & 0x7f);
        Some(bytes.iter().rev().fold(0, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Maximum length of the details that are read; gRPC's own limit for all metadata of an answer is 8 KiB.
const MOST_BYTES: usize = 16 * 1024;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNAUTHENTICATED: u32 = 16;

pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// With padding or without: gRPC wants both to be understood.
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

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        lines.collect()
    }

    fn wait(lines: &[(&'static str, &str)]) -> Option<String> {
        let mut all = fields(lines);
        all.insert(STATUS, HeaderValue::from_static("8"));
        let pushback = meaning(&all, false)?.pushback?;
        Some(pushback.to_str().unwrap().to_owned())
    }

    #[test]
    fn unauthenticated_is_a_401_and_other_statuses_are_left_alone() {
        let status = |code: &str| meaning(&fields(&[("grpc-status", code)]), true);

        assert_eq!(status("16").unwrap().status, StatusCode::UNAUTHORIZED);
        assert_eq!(status("8").unwrap().status, StatusCode::TOO_MANY_REQUESTS);
        for code in ["0", "7", "14", "", "x", "-16", "4294967312"] {
            assert_eq!(status(code), None, "{code}");
        }
    }

    #[test]
    fn an_exhaustion_without_a_wait_counts_only_if_so_wished() {
        let bare = fields(&[("grpc-status", "8")]);

        assert_eq!(meaning(&bare, false), None);
        assert_eq!(meaning(&bare, true).unwrap().pushback, None);
    }

    #[test]
    fn the_wait_is_the_pushback_or_else_the_retry_info() {
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
    fn what_is_torn_or_negative_gives_no_wait() {
        assert_eq!(wait(&[("grpc-status-details-bin", NEGATIVE)]), None);
        for end in 0..DETAILS.trim_end_matches('=').len() - 1 {
            let torn = &DETAILS[..end];
            assert_eq!(wait(&[("grpc-status-details-bin", torn)]), None, "{torn}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            retry_info(&bytes);
        }
    }
}
