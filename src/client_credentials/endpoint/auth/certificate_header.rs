//! Header members that name the certificate of a key: `x5t#S256`, `x5t` and `x5c` (RFC 7515 §4.1.6 to §4.1.8).
//!
//! They are computed when the header is configured, so that no signature has to hash the certificate.

use std::sync::Arc;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{
    super::pem::{self, Block},
    der::{self, SEQUENCE},
};
use crate::client_credentials::{TokenError, TokenErrorKind};

/// The certificate of a signing key, as the members of a JWS header that name it.
///
/// Contains `x5t#S256`, by which Microsoft Entra and others find the public key instead of by `kid`. Older servers
/// expect [`x5t`](Self::with_sha1), or [the chain](Self::with_chain) itself. Cheap to clone.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{CertificateHeader, TokenErrorKind};
///
/// let error = CertificateHeader::new("no certificate").unwrap_err();
///
/// assert_eq!(error.kind(), TokenErrorKind::Configuration);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateHeader {
    /// The chain in DER, with the certificate of the key first.
    chain: Arc<[Vec<u8>]>,
    /// Members of the header.
    members: Map<String, Value>,
}

impl CertificateHeader {
    /// Reads a certificate, in PEM or DER, whose SHA-256 thumbprint becomes the member `x5t#S256` (RFC 7515 §4.1.8).
    ///
    /// If there are several certificates in PEM, the first one is that of the key. Other blocks, such as the key, are
    /// ignored. Whether the certificate belongs to the key is not checked: the server does that.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`Configuration`](TokenErrorKind::Configuration) that describes what was found, if
    /// there is no certificate or one is damaged.
    pub fn new(certificate: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let chain = chain(certificate.as_ref())?;
        let mut header = Self {
            chain: chain.into(),
            members: Map::new(),
        };
        header.set(
            "x5t#S256",
            URL_SAFE_NO_PAD.encode(Sha256::digest(header.own())),
        );
        Ok(header)
    }

    /// Adds the SHA-1 thumbprint as the member `x5t` (RFC 7515 §4.1.7), for servers that do not know `x5t#S256`.
    #[must_use]
    pub fn with_sha1(mut self) -> Self {
        self.set("x5t", URL_SAFE_NO_PAD.encode(Sha1::digest(self.own())));
        self
    }

    /// Adds the whole chain as the member `x5c` (RFC 7515 §4.1.6), for servers that trust the issuer of the certificate
    /// instead of the certificate.
    #[must_use]
    pub fn with_chain(mut self) -> Self {
        // Not base64url, unlike the other members.
        let chain: Vec<_> = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
        self.set("x5c", chain);
        self
    }

    /// Returns the certificate of the key.
    fn own(&self) -> &[u8] {
        self.chain.first().map_or(&[], Vec::as_slice)
    }

    /// Sets a member.
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.members.insert(name.to_owned(), value.into());
    }

    /// Adds the members to a header.
    pub(super) fn add_to(&self, header: &mut Map<String, Value>) {
        header.extend(self.members.clone());
    }
}

/// Returns the certificates in `text`, at least one.
fn chain(text: &[u8]) -> Result<Vec<Vec<u8>>, TokenError> {
    // DER begins with a sequence, PEM with text.
    if der::content(text, SEQUENCE).is_some_and(|(_, rest)| rest.is_empty()) {
        return Ok(vec![text.to_vec()]);
    }
    let text = pem::unwrapped(text);
    let blocks = pem::blocks(&text);
    let certificates = blocks.iter().filter(|block| block.is_certificate());
    let chain = certificates
        .map(|block| block.der().and_then(first))
        .collect::<Option<Vec<_>>>();
    chain
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| invalid(&blocks, &text))
}

/// Returns the first DER value. OpenSSL's `TRUSTED CERTIFICATE` has further data after the certificate.
fn first(der: &[u8]) -> Option<Vec<u8>> {
    let length = der::length(der)?;
    der::content(der, SEQUENCE)?;
    Some(der.get(..length)?.to_vec())
}

/// Describes what was found instead of certificates.
fn invalid(blocks: &[Block], text: &[u8]) -> TokenError {
    let found = match blocks.iter().any(Block::is_certificate) {
        true => "a truncated or damaged certificate".to_owned(),
        false => pem::found(text),
    };
    TokenError::new(
        TokenErrorKind::Configuration,
        false,
        format!(
            "was not sent: the certificate for the header is not usable: found {found}; expected a certificate in PEM or \
             DER format"
        ),
    )
}
