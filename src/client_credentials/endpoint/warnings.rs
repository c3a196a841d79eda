//! Peculiarities of an endpoint's settings, which do not prevent their use. Reported with the first token request.
//!
//! A builder cannot emit events, because the layer's sinks are not known yet. The warnings are kept until the first
//! fetch.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::client_credentials::{TokenEvent, context::SourceContext, trim::trimmed};

/// Peculiarities of an endpoint's settings.
///
/// Clones of an endpoint share the flag, and so report once. Changing the settings of a clone gives it a flag of its
/// own.
///
/// A warning that is added after the first fetch starts over: all warnings of that clone are then reported again.
#[derive(Clone, Default)]
pub(super) struct Warnings {
    /// The peculiarities, in the order of the settings.
    warnings: Vec<Warning>,
    /// Whether they have been reported.
    reported: Arc<AtomicBool>,
}

/// One peculiarity.
///
/// Holds names of settings and descriptions, never values.
#[derive(Clone)]
pub(super) enum Warning {
    /// The value of this setting was trimmed.
    Trimmed(Cow<'static, str>),
    #[cfg(feature = "https")]
    /// A certificate of a trust store is not used.
    Certificate {
        /// The setting that names the file.
        setting: String,
        /// What is wrong with the certificate.
        problem: String,
    },
}

impl Warnings {
    /// Returns `value` trimmed at both ends. Adds a warning if this removed anything.
    pub(super) fn trim(&mut self, setting: &'static str, value: impl AsRef<str>) -> String {
        let value = value.as_ref();
        let trimmed_value = trimmed(value);
        if trimmed_value.len() < value.len() {
            self.add(Warning::Trimmed(setting.into()));
        }
        trimmed_value.to_owned()
    }

    /// Adds a warning, to be reported by the next fetch.
    pub(super) fn add(&mut self, note: Warning) {
        self.warnings.push(note);
        self.reported = Arc::default();
    }

    /// Returns whether the warnings must be reported now, and marks them as reported.
    ///
    /// The caller must report them: no other call returns `true` for these clones.
    pub(super) fn should_report(&self) -> bool {
        // Relaxed: the flag guards no other data, and `swap` lets exactly one fetch report.
        !self.reported.swap(true, Relaxed)
    }

    /// Emits an event for each warning.
    pub(super) fn report(&self, cx: &SourceContext<'_>) {
        for note in &self.warnings {
            match note {
                Warning::Trimmed(setting) => report_trimmed(setting, cx),
                #[cfg(feature = "https")]
                Warning::Certificate { setting, problem } => {
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

/// Emits an event: the value of `setting` was trimmed.
pub(in crate::client_credentials) fn report_trimmed(setting: &str, cx: &SourceContext<'_>) {
    cx.emit(|credential| TokenEvent::ValueTrimmed {
        credential,
        setting,
    });
}
