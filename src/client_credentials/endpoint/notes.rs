//! What is odd about an endpoint's settings, although they are used: reported with the first token request.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::TokenEndpoint;
use crate::client_credentials::{TokenEvent, context::Surroundings, trim::trimmed};

/// Clones of an endpoint report once together; one whose settings are changed reports for itself.
#[derive(Clone, Default)]
pub(super) struct Notes {
    notes: Vec<Note>,
    reported: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Note {
    Trimmed(Cow<'static, str>),
    #[cfg(feature = "https")]
    Certificate {
        setting: String,
        problem: String,
    },
}

impl Notes {
    /// `value` without line breaks and marks at its ends, which is noted.
    pub(super) fn trim(&mut self, setting: &'static str, value: impl AsRef<str>) -> String {
        let value = value.as_ref();
        let kept = trimmed(value);
        if kept.len() < value.len() {
            self.add(Note::Trimmed(setting.into()));
        }
        kept.to_owned()
    }

    fn add(&mut self, note: Note) {
        self.notes.push(note);
        self.reported = Arc::default();
    }
}

impl TokenEndpoint {
    /// The value at the key `setting` of a configuration was trimmed.
    pub(in crate::client_credentials) fn note_trimmed(&mut self, setting: String) {
        self.notes.add(Note::Trimmed(setting.into()));
    }

    /// A certificate that is not trusted, in the file that the key `setting` of a configuration names.
    #[cfg(feature = "https")]
    pub(in crate::client_credentials) fn note_certificate(
        &mut self,
        setting: String,
        problem: String,
    ) {
        self.notes.add(Note::Certificate { setting, problem });
    }

    /// Reports what is odd about the settings, once.
    pub(super) fn report_notes(&self, cx: &Surroundings<'_>) {
        if self.notes.reported.swap(true, Relaxed) {
            return;
        }
        if self.auth.trims_id() {
            report_trimmed("client id", cx);
        }
        for note in &self.notes.notes {
            match note {
                Note::Trimmed(setting) => report_trimmed(setting, cx),
                #[cfg(feature = "https")]
                Note::Certificate { setting, problem } => {
                    cx.emit(|credential| TokenEvent::CertificateSkipped {
                        credential,
                        setting,
                        problem,
                    });
                }
            }
        }
        for (setting, rule) in self.deviations() {
            cx.emit(|credential| TokenEvent::NonstandardSetting {
                credential,
                setting,
                rule,
            });
        }
    }
}

pub(in crate::client_credentials) fn report_trimmed(setting: &str, cx: &Surroundings<'_>) {
    cx.emit(|credential| TokenEvent::ValueTrimmed {
        credential,
        setting,
    });
}
