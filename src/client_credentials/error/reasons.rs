//! Errors that do not come from the endpoint's response.
//!
//! Each message continues the sentence "token request …", and says what helps if something does.
//!
//! | constructor | transient | remedy |
//! |---|---|---|
//! | `configuration` | no | the text names the setting |
//! | `abandoned` | yes | a runtime that outlives its requests |
//! | `expired` | yes | longer lifetimes at the server |
//! | `no_runtime` | yes | call the service within a runtime |
//! | `panicked` | yes | the panic's message is on stderr |
//! | `shut_down` | no | shut down after the last request |
//! | `timeout` | yes | the network, the server, or a longer limit |
//! | `queue_full` | yes | fewer requests at once, or a larger queue |

use std::{borrow::Cow, time::Duration};

use super::{super::settings::Settings, TokenError, TokenErrorKind};

impl TokenError {
    /// A wrong configuration. Permanent.
    pub(crate) fn configuration(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(TokenErrorKind::Configuration, false, what)
    }

    /// The caller's fetches were lost with their runtimes. Transient.
    pub(crate) fn abandoned() -> Self {
        Self::new(
            TokenErrorKind::Abandoned,
            true,
            "was dropped with its runtime several times; send requests on a runtime that outlives them",
        )
    }

    /// The token was received after its expiry. Transient.
    pub(crate) fn expired() -> Self {
        Self::new(
            TokenErrorKind::Expired,
            true,
            "brought a token that had expired on its way: the answer took longer than its life; have the server issue tokens that live longer",
        )
    }

    /// There is no runtime to spawn the fetch on. Transient.
    pub(crate) fn no_runtime() -> Self {
        Self::new(
            TokenErrorKind::NoRuntime,
            true,
            "needs a tokio runtime: call the service from within one",
        )
    }

    /// The token source panicked. Transient.
    pub(crate) fn panicked() -> Self {
        Self::new(
            TokenErrorKind::Panicked,
            true,
            "ended in a panic of the token source; its message went to stderr",
        )
    }

    /// The handle was shut down. Permanent.
    pub(crate) fn shut_down() -> Self {
        Self::new(
            TokenErrorKind::ShutDown,
            false,
            "was not sent: the token handle was shut down; do so after the last request",
        )
    }

    /// The work took longer than `limit`. Transient.
    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::new(
            TokenErrorKind::Timeout,
            true,
            format!("got no answer within {limit:?}"),
        )
    }

    /// As many callers wait as the settings allow. Transient.
    pub(crate) fn queue_full(settings: &Settings) -> Self {
        let credential = match &settings.credential {
            Some(name) => format!("for credential {name:?} "),
            None => String::new(),
        };
        let limit = settings.max_waiting;
        Self::new(
            TokenErrorKind::QueueFull,
            true,
            format!(
                "{credential}has {limit} callers waiting for it already; send less at once, or raise `max_waiting`"
            ),
        )
    }
}
