//! The tuning constants of quotas.



/// Number of observations that agree.
pub(super) const MIN_EVIDENCE: u32 = 3;
/// Responses that a mean considers.
pub(super) const RECENT_RESPONSES: u32 = 16;
/// Most.
pub(super) const MAX_PROBE_INTERVAL: u32 = 32;
/// Weight of the last of them in a mean: that of an exponential mean over as many.
pub(super) const RECENT_WEIGHT: f64 = 2.0 / RECENT_RESPONSES as f64;
