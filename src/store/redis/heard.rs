//! What is told of messages.

use std::sync::Arc;

/// Called with the channel on which something was heard; without one when a connection has broken, and something may
/// have been missed.
pub(super) type Heard = Arc<dyn Fn(Option<&str>) + Send + Sync>;
