//! The callback for published messages.

use std::sync::Arc;

/// Callback with the channel on which a message arrived. Called with `None` when a connection broke, because messages
/// may have been lost.
pub(super) type OnPush = Arc<dyn Fn(Option<&str>) + Send + Sync>;
