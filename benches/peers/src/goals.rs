//! What tower-m2m wants to reach: ratios of medians in one run, over a service that is free to clone.

use crate::contestants::{
    AUTHORIZATION, BOTH_OF_TOWER, CF_GEARS, COMBINED, CloneMode, LIMITS, RETRY, STACKED, TOKEN,
    TOKEN_REPLAY, Under,
};

/// The goals over one service.
pub struct Goals {
    pub ratios: &'static [Goal],
    /// The time of two threads ÷ that of one, with kept clones, where two threads that share nothing have 1.
    pub scaling: f64,
    /// Allocations above the bare service.
    pub allocations: &'static [(&'static str, f64)],
}

impl Goals {
    pub fn over(under: Under) -> Self {
        match under {
            Under::Free | Under::HyperUtil => Self {
                ratios: &SILENT,
                scaling: 1.3,
                allocations: &SILENT_ALLOCATIONS,
            },
            Under::Announcing { origins, .. } => Self {
                ratios: &ANNOUNCED,
                scaling: if origins == 1 { 1.3 } else { 1.2 },
                allocations: &ANNOUNCED_ALLOCATIONS,
            },
        }
    }
}

pub struct Goal {
    pub ours: &'static str,
    pub against: &'static str,
    pub habit: CloneMode,
    /// At most this ratio, on one thread and on more.
    pub one: f64,
    pub more: f64,
}

impl Goal {
    pub fn max(&self, threads: usize) -> f64 {
        if threads == 1 { self.one } else { self.more }
    }
}

const fn goal(
    ours: &'static str,
    against: &'static str,
    habit: CloneMode,
    one: f64,
    more: f64,
) -> Goal {
    Goal {
        ours,
        against,
        habit,
        one,
        more,
    }
}

const SILENT: [Goal; 10] = [
    goal(TOKEN, AUTHORIZATION, CloneMode::Reused, 1.7, 0.4),
    goal(TOKEN, AUTHORIZATION, CloneMode::Cloned, 1.5, 0.6),
    goal(TOKEN_REPLAY, BOTH_OF_TOWER, CloneMode::Reused, 0.6, 0.33),
    goal(TOKEN_REPLAY, BOTH_OF_TOWER, CloneMode::Cloned, 0.65, 0.6),
    goal(LIMITS, RETRY, CloneMode::Reused, 0.8, 0.6),
    goal(LIMITS, RETRY, CloneMode::Cloned, 0.8, 0.6),
    goal(COMBINED, BOTH_OF_TOWER, CloneMode::Reused, 0.8, 0.5),
    goal(COMBINED, BOTH_OF_TOWER, CloneMode::Cloned, 0.8, 0.5),
    goal(COMBINED, CF_GEARS, CloneMode::Reused, 0.15, 0.12),
    goal(COMBINED, CF_GEARS, CloneMode::Cloned, 0.15, 0.12),
];

const ANNOUNCED: [Goal; 2] = [
    goal(LIMITS, RETRY, CloneMode::Reused, 1.6, 1.6),
    goal(COMBINED, BOTH_OF_TOWER, CloneMode::Reused, 1.6, 0.8),
];

const SILENT_ALLOCATIONS: [(&str, f64); 4] = [
    (TOKEN, 0.0),
    (TOKEN_REPLAY, 1.0),
    (STACKED, 2.0),
    (COMBINED, 1.0),
];

const ANNOUNCED_ALLOCATIONS: [(&str, f64); 2] = [(LIMITS, 1.0), (COMBINED, 1.0)];
