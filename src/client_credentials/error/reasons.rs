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
            TokenErrorKind::Aborted,
            true,
            "was canceled several times because its runtime shut down; send requests on a runtime that outlives them",
        )
    }

    /// The token was received after its expiry. Transient.
    pub(crate) fn expired() -> Self {
        Self::new(
            TokenErrorKind::InvalidResponse,
            true,
            "returned a token that had already expired: the response took longer than the token's lifetime; configure \
             the server to issue tokens with a longer lifetime",
        )
    }

    /// There is no runtime to spawn the fetch on. Transient.
    pub(crate) fn no_runtime() -> Self {
        Self::new(
            TokenErrorKind::Configuration,
            true,
            "needs a tokio runtime: call the service from within one",
        )
    }

    /// The token source panicked. Transient.
    pub(crate) fn panicked() -> Self {
        Self::new(
            TokenErrorKind::Aborted,
            true,
            "failed: the token source panicked; its message went to stderr",
        )
    }

    /// The handle was shut down. Permanent.
    pub(crate) fn shut_down() -> Self {
        Self::new(
            TokenErrorKind::ShutDown,
            false,
            "was not sent: the token handle was shut down; shut it down after the last request",
        )
    }

    /// The work took longer than `limit`. Transient.
    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::new(
            TokenErrorKind::Timeout,
            true,
            format!("received no response within {limit:?}"),
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
                "{credential}already has {limit} waiting callers; send fewer requests at once, or raise `max_waiting`"
            ),
        )
    }
}
