//! What is known of the other processes of a fleet, as far as a store has told; and what is to be told to it.
//!
//! The store keeps for each process how many requests it has under way or may send without asking again. What the API
//! says that remains, less all of that, is free, and each process is given a part of it: its allowance.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::clock::after;

#[derive(Debug, Default)]
pub(super) struct Fleet {
    /// So many may go; and so many more where there is enough, because the store is late.
    pub(super) allowance: u32,
    pub(super) advance: u32,
    /// Until when the allowance counts; `None` while nobody has told of a window, or while the store fails.
    pub(super) until: Option<Instant>,
    /// Less is free than is reserved: what ends here is news for others.
    pub(super) scarce: bool,
    pub(super) used_up: bool,
    /// When some of the last requests went.
    pub(super) marks: VecDeque<(u64, Instant)>,
    /// Answers have said something of a window since the last report.
    pub(super) spoken: bool,
    /// Since the last report: how many requests went, whether something has become known, whether one was kept back.
    pub(super) sent: u32,
    pub(super) news: bool,
    pub(super) kept_back: bool,
    /// Requests went that nobody knows of, because they were not allowed before.
    pub(super) beyond: bool,
    /// How many requests the last report wanted room for; and whether that was more than there was.
    pub(super) wanted: u32,
    pub(super) expects: bool,
    pub(super) reported: Option<Instant>,
    pub(super) under_way: bool,
    /// How often in a row nothing was granted.
    pub(super) dry: u32,
    /// A hold to be told.
    pub(super) hold: Option<Instant>,
    /// The last one that others told of.
    pub(super) heard: Option<Instant>,
    pub(super) asked: bool,
    /// The store has failed, and is not asked before then.
    pub(super) rests: Option<Instant>,
}

impl Fleet {
    /// Whether the other processes are known, so that what the quota loses to them is ours.
    pub(super) fn is_together(&self) -> bool {
        self.until.is_some()
    }

    /// Until when the allowance counts, if it does.
    pub(super) fn rules(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// Whether one more may go.
    pub(super) fn allows(&mut self) -> bool {
        self.kept_back |= self.allowance == 0;
        self.allowance > 0 || self.advance > 0
    }

    pub(super) fn entered(&mut self, number: u64, now: Instant) {
        if self.marks.back().is_none_or(|(_, at)| *at + TICK <= now) {
            if self.marks.len() == MARKS {
                self.marks.pop_front();
            }
            self.marks.push_back((number, now));
        }
        match self.allowance {
            0 => {
                self.advance = self.advance.saturating_sub(1);
                self.beyond = true;
            }
            _ => self.allowance -= 1,
        }
        self.sent = self.sent.saturating_add(1);
    }

    /// A request is no longer under way.
    pub(super) fn ended(&mut self) {
        self.news = true;
    }

    /// An answer has said something of a window.
    pub(super) fn told(&mut self) {
        self.spoken = true;
    }

    /// A time before which the request was not sent.
    pub(super) fn sent_after(&self, number: u64) -> Option<Instant> {
        let before = self.marks.iter().rev().find(|(mark, _)| *mark <= number)?;
        Some(before.1)
    }

    pub(super) fn refused(&mut self, until: Instant) {
        if self.heard.is_none_or(|heard| heard < until) {
            self.hold = Some(until);
        }
    }

    /// The window is over.
    pub(super) fn over(&mut self) {
        self.until = None;
        (self.allowance, self.advance) = (0, 0);
    }

    /// What was known of a window is forgotten.
    pub(super) fn forget(&mut self) {
        self.over();
        self.hold = None;
    }

    /// How many requests there should be room for.
    pub(super) fn wants(&self, waiting: u32, now: Instant) -> u32 {
        let passed = self.reported.map_or(AHEAD, |at| now - at).max(TICK);
        let soon = f64::from(self.sent) * AHEAD.div_duration_f64(passed);
        // What is scarce is not kept for requests that may come.
        let soon = if self.scarce { 0 } else { soon.ceil() as u32 };
        waiting.saturating_add(soon)
    }

    /// When the next report is due.
    pub(super) fn due(&self, in_flight: u32, told: bool, now: Instant) -> Option<Instant> {
        if self.under_way {
            return None;
        }
        let Some(reported) = self.reported else {
            return Some(now);
        };
        if let Some(rests) = self.rests {
            return Some(rests);
        }
        let ruled = self.rules(now).is_some();
        let apart = told && !ruled && (self.spoken || self.beyond);
        let pause = match self.dry {
            0 => TICK,
            dry => SHORTEST
                .saturating_mul(2_u32.saturating_pow(dry))
                .min(LONGEST),
        };
        let low = self.sent > 0 && self.allowance <= self.wanted / 2;
        if self.hold.is_some() || self.asked {
            Some(now)
        } else if ruled && self.used_up {
            // More than that is not to be had before the reset.
            self.news.then(|| after(reported, LONGEST))
        } else if apart {
            Some(after(reported, TICK))
        } else if ruled && (self.kept_back || self.beyond || (low && !self.scarce)) {
            Some(after(reported, pause))
        } else if self.scarce && self.news {
            Some(after(reported, SHORTEST))
        } else if in_flight > 0 || self.allowance > 0 || self.news {
            Some(after(reported, ALIVE))
        } else {
            None
        }
    }
}

const TICK: Duration = Duration::from_millis(1);
/// For so long a process may send without asking again, where there is enough.
const AHEAD: Duration = Duration::from_millis(100);
const MARKS: usize = 64;
/// How soon a process asks again that was granted nothing, or tells what has ended.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(100);
/// Whoever has something reserved says so as often as this.
const ALIVE: Duration = Duration::from_millis(300);
