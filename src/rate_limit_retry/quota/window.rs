//! One quota that the server announces, by its name: the present window, and what earlier windows have taught.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    admit::SendTime,
    announced::{AnnouncedWindow, RESET_TOLERANCE},
    contradictions::Contradictions,
    token_bucket::MAX_TOKEN_BUCKET_WAIT,
};
use crate::{
    clock::add_capped,
    rate_limit_retry::headers::{Limit, Unit},
};

/// An announced quota.
#[derive(Debug)]
pub(super) struct Window {
    /// The name, the unit and the partition key of the server, by which later responses find it.
    key: WindowKey,
    /// The present window, until it is over.
    pub(super) current: Option<AnnouncedWindow>,
    /// Whether an announcement that nothing remains is believed.
    pub(super) contradictions: Contradictions,
    /// This process's share of what the quota loses, from 0 to 1, as measured in earlier windows.
    own_share: f64,
    /// The wait that a throttling response named, if it ends before the announced reset: the server replenishes the
    /// quota gradually.
    early_refill: Option<Duration>,
}

/// What identifies a quota among those of a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
struct WindowKey {
    /// The server's name, if it has one.
    name: Option<String>,
    /// What is counted.
    unit: Unit,
    /// The server's partition.
    partition: Option<Vec<u8>>,
}

/// The response by which a quota is announced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcement {
    /// The number of the request.
    pub(super) number: u64,
    /// The number of the next request.
    pub(super) next: u64,
    /// Whether the request belongs to an earlier epoch.
    pub(super) late: bool,
    /// Whether the response is a throttle.
    pub(super) throttled: bool,
    /// Whether it proves that the request was accepted.
    pub(super) served: bool,
    /// The wait that it names.
    pub(super) retry_after: Option<Duration>,
    /// The reset that began the epoch.
    pub(super) since: Option<Instant>,
    /// The time of its arrival.
    pub(super) now: Instant,
}

impl Window {
    /// Creates the entry of a quota that a response announces for the first time.
    pub(super) fn new(limit: &Limit) -> Self {
        Self::with_key(WindowKey {
            name: limit.name.clone(),
            unit: limit.unit,
            partition: limit.partition_key.clone(),
        })
    }

    /// Creates the entry of a quota that another process has reported.
    pub(super) fn from_store(current: AnnouncedWindow) -> Self {
        Self {
            current: Some(current),
            ..Self::with_key(WindowKey {
                name: None,
                unit: Unit::Requests,
                partition: None,
            })
        }
    }

    /// Creates an entry without a window.
    fn with_key(key: WindowKey) -> Self {
        Self {
            key,
            current: None,
            contradictions: Contradictions::default(),
            own_share: 1.0,
            early_refill: None,
        }
    }

    /// Returns whether the quota counts requests.
    pub(super) fn counts_requests(&self) -> bool {
        self.key.unit == Unit::Requests
    }

    /// Returns how well an announcement fits this quota; `None` if it is about another one.
    ///
    /// A name, a unit and a partition that are equal identify a quota. Without a name, the limit must be equal, too,
    /// or the reset: some servers announce only that of several quotas which is nearest to its end.
    pub(super) fn matches(&self, limit: &Limit, now: Instant) -> bool {
        let same = self.key.unit == limit.unit
            && self.key.name == limit.name
            && self.key.partition == limit.partition_key;
        if !same || limit.name.is_some() {
            return same;
        }
        let Some(current) = &self.current else {
            return true;
        };
        let same_limit = current
            .limit
            .zip(limit.limit)
            .is_none_or(|(known, announced)| known == announced);
        let reset = limit.reset.map(|reset| add_capped(now, reset));
        same_limit || reset.is_some_and(|reset| current.is_same_window(reset))
    }

    /// Records what a response announces about this quota, of which `remaining` is left.
    pub(super) fn observe(&mut self, limit: &Limit, remaining: u64, by: &Announcement) {
        if by.throttled && remaining == 0 {
            self.contradictions.on_confirmed();
        } else if by.served
            && remaining == 0
            && let Some(current) = &self.current
            && current.is_contradicted(limit.reset, by.now)
        {
            self.contradictions.on_contradicted();
        }
        // A late response can update a known window, but not create one that is over.
        let stale = by.late && !self.is_current(limit, by);
        match &mut self.current {
            Some(current) => current.observe(limit, remaining, by.number, by.next, by.now),
            None if stale => {}
            None => {
                let current = AnnouncedWindow::new(limit, remaining, by.number, by.next, by.now);
                self.current = Some(current);
            }
        }
        if by.throttled {
            self.early_refill = self.detect_early_refill(remaining, by);
        }
        if let (Some(soon), Some(current)) = (self.early_refill, &mut self.current) {
            let soon = add_capped(by.now, soon.max(Duration::from_secs(1)));
            current.reset_at = current.reset_at.map(|reset| reset.min(soon));
        }
    }

    /// Returns the wait named by a throttling response, if it shows that the quota is replenished before the reset.
    ///
    /// A short wait that ends with a short window shows nothing: then the earlier result stays. `None` if something
    /// remains or no wait is named.
    fn detect_early_refill(&self, remaining: u64, by: &Announcement) -> Option<Duration> {
        let hint = by.retry_after.filter(|_| remaining == 0)?;
        let reset = self
            .current
            .as_ref()
            .and_then(|current| current.latest_reset);
        match reset.map(|reset| reset.saturating_duration_since(by.now)) {
            Some(reset) if hint + RESET_TOLERANCE < reset => Some(hint),
            None if hint <= MAX_TOKEN_BUCKET_WAIT => Some(hint),
            _ => self.early_refill.filter(|_| hint <= MAX_TOKEN_BUCKET_WAIT),
        }
    }

    /// Returns whether a response to a request of an earlier epoch is about the present window: its reset is later
    /// than the one that began the epoch.
    fn is_current(&self, limit: &Limit, by: &Announcement) -> bool {
        let over = by.since.map(|since| since + RESET_TOLERANCE);
        let reset = limit.reset.map(|reset| add_capped(by.now, reset));
        self.early_refill.is_none() && over.zip(reset).is_some_and(|(over, reset)| reset > over)
    }

    /// Returns the present window, if the announcements are believed.
    pub(super) fn believed(&self) -> Option<&AnnouncedWindow> {
        let current = self.current.as_ref()?;
        let disregarded = self.contradictions.disregards(current.is_exhausted());
        (!disregarded).then_some(current)
    }

    /// Returns this process's share of what the quota loses.
    pub(super) fn share(&self, in_flight: u32) -> f64 {
        self.current.as_ref().map_or(self.own_share, |current| {
            current.estimate_share(self.own_share, in_flight)
        })
    }

    /// Ends the present window.
    pub(super) fn end(&mut self, in_flight: u32) {
        self.own_share = self.share(in_flight);
        self.current = None;
    }

    /// Returns why one more request must wait for this window, which ends at `over`; `None` if it need not.
    pub(super) fn admit(
        &self,
        in_flight: u32,
        share: f64,
        over: Option<Instant>,
    ) -> Option<SendTime> {
        self.current.as_ref()?.admit(in_flight, share, over)
    }
}
