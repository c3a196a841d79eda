//! Collects what a program could print.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt::Debug,
    io,
    sync::{Arc, Mutex, Once},
};

use tower_m2m::{
    client_credentials::{TokenError, TokenEvent},
    rate_limit_retry::RateLimitEvent,
};

use super::search::find;

/// Everything that one case showed. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct OutputLog(Arc<Mutex<Vec<String>>>);

impl OutputLog {
    pub(crate) fn text(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    pub(crate) fn debug(&self, value: &dyn Debug) {
        self.text(format!("{value:?}"));
    }

    /// The error and all its sources.
    pub(crate) fn error(&self, error: &(dyn Error + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.text(error.to_string());
            self.debug(&error);
            if let Some(error) = error.downcast_ref::<TokenError>() {
                self.text(error.error_description().unwrap_or_default());
                self.text(error.oauth_error().unwrap_or_default());
            }
            next = error.source();
        }
    }

    pub(crate) fn token_event(&self, event: &TokenEvent<'_>) {
        self.debug(event);
        if let TokenEvent::FetchFailed { error, .. } | TokenEvent::MetadataRejected { error, .. } =
            event
        {
            self.error(*error);
        }
    }

    pub(crate) fn rate_limit_event(&self, event: &RateLimitEvent<'_>) {
        self.debug(event);
    }

    pub(crate) fn output(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// # Panics
    ///
    /// If a canary was shown.
    pub(crate) fn assert_clean(&self, case: &str) {
        for text in &*self.0.lock().unwrap() {
            if let Some(part) = find_secret(text) {
                panic!("{case}: {part:?} is in {text}");
            }
        }
    }
}

/// [`find`], once for each text.
fn find_secret(text: &str) -> Option<&'static str> {
    static CLEAN_LOG: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if CLEAN_LOG.lock().unwrap().contains(text) {
        return None;
    }
    let found = find(text);
    if found.is_none() {
        CLEAN_LOG.lock().unwrap().insert(text.to_owned());
    }
    found
}

/// Has everything logged, by whomever, from now on.
pub(crate) fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(|| Log)
            .init();
    });
}

/// What was logged so far, in all tests, each line once.
///
/// # Panics
///
/// If a canary was.
pub(crate) fn assert_log_is_clean() -> String {
    let log = LOG.lock().unwrap().clone();
    for line in &log {
        if let Some(part) = find_secret(line) {
            panic!("{part:?} was logged: {line}");
        }
    }
    log.into_iter().collect()
}

static LOG: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Written to once for each event.
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes).into_owned();
        LOG.lock().unwrap().insert(line);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
