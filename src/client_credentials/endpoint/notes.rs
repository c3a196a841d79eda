//! What is odd about an endpoint's settings, although they are used: reported with the first token request.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::client_credentials::{TokenEvent, context::Surroundings, trim::trimmed};

/// Clones of an endpoint report once together; one whose settings are changed reports for itself.
#[derive(Clone, Default)]
pub(super) struct Notes {
    notes: Vec<Note>,
    reported: Arc<AtomicBool>,
}

#[derive(Clone)]
pub(super) enum Note {
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

    pub(super) fn add(&mut self, note: Note) {
        self.notes.push(note);
        self.reported = Arc::default();
    }

    /// Whether this is the first time that they are to be reported.
    pub(super) fn are_due(&self) -> bool {
        !self.reported.swap(true, Relaxed)
    }

    pub(super) fn report(&self, cx: &Surroundings<'_>) {
        for note in &self.notes {
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
    }
}

pub(in crate::client_credentials) fn report_trimmed(setting: &str, cx: &Surroundings<'_>) {
    cx.emit(|credential| TokenEvent::ValueTrimmed {
        credential,
        setting,
    });
}
