//! What servers sent before there was a draft, and still send: the same three fields under `X-` names.

use super::rate_limit::Fields;

/// Nobody says what `Reset` is: seconds (Zendesk, Reddit), a date in seconds (GitHub, Didit, X) or milliseconds.
pub(super) const FIELDS: [Fields; 2] = [
    Fields {
        limit: "x-ratelimit-limit",
        remaining: "x-ratelimit-remaining",
        reset: "x-ratelimit-reset",
    },
    Fields {
        limit: "x-rate-limit-limit",
        remaining: "x-rate-limit-remaining",
        reset: "x-rate-limit-reset",
    },
];
