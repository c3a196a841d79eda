//! The quotas of a partition that the server announces.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    announced::AnnouncedWindow,
    outcome::Load,
    window::{Announcement, Window},
};
use crate::rate_limit_retry::{
    headers::{Limit, Unit},
    store::WindowId,
};

/// The announced quotas. At most [`MAX_WINDOWS`].
///
/// A response updates the quotas that it names, and no others. Each quota delays requests by itself.
#[derive(Debug, Default)]
pub(super) struct Windows(Vec<Window>);

impl Windows {
    /// Records what a response announces. Returns a summary.
    pub(super) fn observe(&mut self, limits: &[Limit], by: &Announcement) -> Announced {
        let mut announced = Announced::default();
        self.0.iter_mut().for_each(Window::on_unnamed);
        for limit in limits {
            let concurrency = limit.unit == Unit::ConcurrentRequests;
            let Some(remaining) = limit.remaining.filter(|_| !concurrency) else {
                continue;
            };
            announced.any = true;
            announced.requests |= limit.unit == Unit::Requests;
            if let Some(window) = self.find(limit, by.now) {
                announced.exhausted |= window.explains_throttle(remaining, by.route);
                window.observe(limit, remaining, by);
            }
        }
        announced
    }

    /// Returns the quota that an announcement is about. Creates it if there is room.
    ///
    /// If there is no room, it replaces a quota without a present window. If all have one, the announcement is ignored.
    /// No known server announces so many quotas at once.
    fn find(&mut self, limit: &Limit, now: Instant) -> Option<&mut Window> {
        let known = self.0.iter().position(|window| window.matches(limit, now));
        let at = match known {
            Some(at) => at,
            None if self.0.len() < MAX_WINDOWS => {
                self.0.push(Window::new(limit));
                self.0.len() - 1
            }
            None => {
                let unused = self.0.iter().position(|window| window.current.is_none())?;
                self.0[unused] = Window::new(limit);
                unused
            }
        };
        self.0.get_mut(at)
    }

    /// Iterates over the quotas.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Window> {
        self.0.iter()
    }

    /// Returns whether a quota is counted by several replicas.
    pub(super) fn have_replicas(&self) -> bool {
        self.0
            .iter()
            .any(|window| window.has_replicas() && window.current.is_some())
    }

    /// Returns the wait until one more unit is refilled, if `hint` is the wait until a quota is full again.
    pub(super) fn refill_instead_of(&self, hint: Duration, now: Instant) -> Option<Duration> {
        self.0
            .iter()
            .filter_map(|window| window.refill_instead_of(hint, now))
            .max()
    }

    /// Debits a request with this cost that may have been counted. `accepted`: it was accepted, and its response
    /// announces nothing.
    pub(super) fn debit(&mut self, load: &Load, accepted: bool) {
        let windows = self.0.iter_mut();
        for window in windows.filter(|window| !window.is_charged_at_settlement(&load.cost)) {
            let amount = window.debit_for(&load.cost, load.route);
            if let Some(current) = &mut window.current {
                if accepted {
                    current.debit_unannounced(amount);
                } else {
                    current.debit(amount);
                }
            }
        }
    }

    /// Iterates over the quotas, mutably.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Window> {
        self.0.iter_mut()
    }

    /// Iterates over the present windows, mutably.
    pub(super) fn current_mut(&mut self) -> impl Iterator<Item = &mut AnnouncedWindow> {
        self.0
            .iter_mut()
            .filter_map(|window| window.current.as_mut())
    }

    /// Ends the windows without a reset, because many responses have announced nothing.
    pub(super) fn end_without_reset(&mut self) {
        for window in &mut self.0 {
            window.current = window.current.filter(|current| current.reset_at.is_some());
        }
    }

    /// Takes the quotas that have a name out.
    pub(super) fn take_named(&mut self) -> Vec<Window> {
        self.0
            .extract_if(.., |window| window.name_of_server().is_some())
            .collect()
    }

    /// Adds a quota that another partition has known until now, where `next` is the number of the next request. What is
    /// known here already stays, unless less remains by the other one. The grant of the other partition ends, and the store
    /// is told of the quota here.
    pub(super) fn insert(&mut self, mut window: Window, next: u64) {
        window.grant.end();
        window.grant.has_update = true;
        let known = self.0.iter_mut().find(|known| known.is_same(&window));
        match (known, &mut window.current) {
            (Some(known), Some(current)) => match &mut known.current {
                Some(mine) if mine.available() <= current.available() => {}
                mine => {
                    current.renumber(next);
                    *mine = Some(*current);
                    known.grant.has_update = true;
                }
            },
            (Some(_), None) => {}
            (None, current) => {
                if let Some(current) = current {
                    current.renumber(next);
                }
                if self.0.len() < MAX_WINDOWS {
                    self.0.push(window);
                }
            }
        }
    }

    /// Returns whether no quota has a present window.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|window| window.current.is_none())
    }

    /// Returns the latest reset of the present windows.
    pub(super) fn latest_reset(&self) -> Option<Instant> {
        let current = self.0.iter().filter_map(|window| window.current.as_ref());
        current.filter_map(|current| current.reset_at).max()
    }

    /// Returns the quota with the fewest available requests: the one that the partition's status shows. Quotas of other
    /// units do not count.
    pub(super) fn nearest(&self) -> Option<&Window> {
        self.0.get(self.nearest_index()?)
    }

    /// Adds a quota that another process has reported.
    pub(super) fn insert_shared(&mut self, new: Window) {
        let has_room = self.0.len() < MAX_WINDOWS;
        let mut ended = self.0.iter_mut().filter(|known| known.current.is_none());
        match ended.find(|known| known.has_key_of(&new)) {
            Some(known) => (known.current, known.grant) = (new.current, new.grant),
            None if has_room => self.0.push(new),
            None => {}
        }
    }

    /// Returns the quota that a fleet shares under this name.
    pub(super) fn find_shared(&mut self, id: &WindowId) -> Option<&mut Window> {
        let is_it = |window: &Window| window.shared_name().and_then(|name| name.id());
        self.0
            .iter_mut()
            .find(|window| is_it(window).as_ref() == Some(id))
    }

    /// Returns the same quota, mutably.
    pub(super) fn nearest_mut(&mut self) -> Option<&mut Window> {
        let nearest = self.nearest_index()?;
        self.0.get_mut(nearest)
    }

    /// Returns the index of the quota with the fewest available requests; of several, of the one that resets last.
    fn nearest_index(&self) -> Option<usize> {
        let current = |window: &Window| {
            let current = window
                .current
                .as_ref()
                .filter(|_| window.counts_requests())?;
            Some((current.available(), std::cmp::Reverse(current.reset_at)))
        };
        let known = self.0.iter().enumerate();
        let known = known.filter_map(|(at, window)| Some((current(window)?, at)));
        known.min().map(|(_, at)| at)
    }
}

/// A summary of what a response announces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Announced {
    /// Whether it announces what remains of a quota.
    pub(super) any: bool,
    /// Whether it announces what remains of a quota of requests.
    pub(super) requests: bool,
    /// Whether a quota explains a throttle: too little may remain for one request.
    pub(super) exhausted: bool,
}

/// Returns the limit with the fewest remaining requests, and of several such limits the one that resets last.
pub(super) fn fewest_remaining(limits: &[Limit]) -> Option<&Limit> {
    limits
        .iter()
        .filter(|limit| limit.unit == Unit::Requests && limit.remaining.is_some())
        .min_by_key(|limit| (limit.remaining, std::cmp::Reverse(limit.reset)))
}

/// Maximum number of announced quotas of a partition. No known server announces more than eight at once.
const MAX_WINDOWS: usize = 16;
