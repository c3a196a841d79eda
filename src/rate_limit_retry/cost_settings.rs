//! The settings of costs.

use std::{fmt, sync::Arc};

use http::request::Parts;

use super::Cost;

/// The settings of costs.
#[derive(Clone, Default)]
pub(super) struct CostSettings {
    /// The user's estimate.
    pub(super) function: Option<Arc<dyn Fn(&Parts) -> Cost + Send + Sync>>,
    /// Whether requests have a handle even without a function.
    pub(super) report: bool,
}

impl CostSettings {
    /// Returns whether there is a function, which needs the head of the request.
    pub(super) fn has_function(&self) -> bool {
        self.function.is_some()
    }

    /// Returns whether requests have a handle by which layers below report their cost.
    pub(super) fn are_tracked(&self) -> bool {
        self.report || self.has_function()
    }

    /// Returns the estimate for a request with this head.
    pub(super) fn estimate(&self, head: Option<&Parts>) -> Cost {
        let estimate = self.function.as_ref().zip(head);
        estimate.map_or(Cost::ONE, |(function, head)| function(head))
    }
}

impl fmt::Debug for CostSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CostSettings")
            .field("function", &self.has_function())
            .field("report", &self.report)
            .finish()
    }
}
