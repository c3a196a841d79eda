//! The JSON key file of a Google service account. [pure]
//!
//! `gcloud iam service-accounts keys create` and the console write the same format. Only the members that a
//! token request needs are read.

use serde::Deserialize;
use zeroize::Zeroizing;

/// The relevant members of a key file. The key is zeroized on drop.
#[derive(Deserialize)]
pub(in super::super) struct ServiceAccountFile {
    /// Type of the credential.
    #[serde(rename = "type")]
    kind: String,
    /// Name of the service account, an email address.
    pub(in super::super) client_email: String,
    /// Private key in PEM.
    pub(in super::super) private_key: Zeroizing<String>,
    /// Id of the key.
    pub(in super::super) private_key_id: Option<String>,
    /// URL of the token endpoint.
    pub(in super::super) token_uri: String,
}

impl ServiceAccountFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Describes what was found, without its content.
    pub(in super::super) fn read(text: &[u8]) -> Result<Self, String> {
        /// The member that names the type of the credential.
        #[derive(Deserialize)]
        struct Kind {
            #[serde(rename = "type")]
            kind: Option<String>,
        }

        if let Ok(file) = serde_json::from_slice::<Self>(text)
            && file.kind == SERVICE_ACCOUNT
        {
            return Ok(file);
        }
        Err(match serde_json::from_slice::<Kind>(text) {
            Ok(Kind { kind: Some(kind) }) if kind == SERVICE_ACCOUNT => {
                "a file without `client_email`, `private_key` or `token_uri`".to_owned()
            }
            // The types of other files are public; any other text is not repeated.
            Ok(Kind { kind: Some(kind) }) => {
                match OTHERS.into_iter().find(|known| *known == kind) {
                    Some(known) => format!("a file of type `{known}`"),
                    None => "a file of another type".to_owned(),
                }
            }
            Ok(Kind { kind: None }) => "JSON without `type`".to_owned(),
            Err(_) => "no JSON".to_owned(),
        })
    }
}

/// Value of `type` in the key file of a service account.
const SERVICE_ACCOUNT: &str = "service_account";
/// Types of other credential files of Google.
const OTHERS: [&str; 4] = [
    "authorized_user",
    "external_account",
    "external_account_authorized_user",
    "impersonated_service_account",
];
