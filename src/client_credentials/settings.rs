//! The settings of a layer that its token cache uses.

use std::{sync::Arc, time::Duration};

/// What a layer is built with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) credential: Option<Arc<str>>,
    pub(crate) refresh_before: Duration,
    pub(crate) fetch_timeout: Duration,
    pub(crate) max_token_backoff: Duration,
    pub(crate) refresh_cooldown: Duration,
    pub(crate) max_waiting: usize,
    pub(crate) scheme: Option<Box<str>>,
}
