//! Notifications of Redis channels, for the tasks that wait for them.
//!
//! A task registers with [`PushHub::subscribe`] and waits for [`Subscription::notified`]. A notification that arrives
//! in between is not lost, because each channel counts them.
//!
//! A channel without waiters stays subscribed for one or two sweeps, because a task usually waits again after a
//! notification. A sweeper task runs only while there are such channels.
//!
//! The only lock is that of [`PushHub`]. No waker is cloned, woken or dropped while it is held.

use std::{collections::HashMap, future::poll_fn, mem, sync::Arc, task::Poll, time::Duration};

use tokio::{runtime::Handle, time::sleep};

use crate::{
    store::Connection,
    sync::{Mutex, lock},
    waker_set::WakerSet,
};

/// The subscribed channels and their waiters.
#[derive(Default)]
pub(super) struct PushHub(Mutex<PushState>);

/// State behind the lock.
#[derive(Default)]
struct PushState {
    /// Number of notifications received, on any channel.
    total: u64,
    /// Subscribed channels by name.
    channels: HashMap<String, Channel>,
    /// Whether a task that unsubscribes unused channels is running.
    sweeper_running: bool,
}

/// One channel.
///
/// | state | subscriptions | at the next sweep |
/// |---|---|---|
/// | in use | at least 1 | stays |
/// | unused | 0, `idle` is `false` | `idle` is set |
/// | idle | 0, `idle` is `true` | removed, then unsubscribed |
///
/// A subscription brings each state back to "in use".
struct Channel {
    /// Value of `total` at the last notification, or when the channel was created.
    last_event: u64,
    /// Wakers of the waiting tasks.
    wakers: WakerSet,
    /// Number of [`Subscription`]s. Can exceed the number of wakers after a notification.
    subscribers: usize,
    /// Whether the channel had no subscriptions at the last sweep.
    idle: bool,
}

impl PushHub {
    /// Records a notification and wakes the waiters of the channel. `None` stands for all channels, such as after a
    /// lost connection. Notifications may have been missed then, and a spurious one costs only a report.
    ///
    /// Notifications of a channel without an entry are ignored: nothing waits for them.
    pub(super) fn notify(&self, channel: Option<&str>) {
        // Wakers are collected under the lock and woken after it is released.
        let mut woken = Vec::new();
        {
            let mut state = lock(&self.0);
            state.total += 1;
            let total = state.total;
            for (name, entry) in &mut state.channels {
                if channel.is_none_or(|channel| channel == name) {
                    entry.last_event = total;
                    woken.extend(entry.wakers.take_all());
                }
            }
        }
        // Wakers run outside the lock.
        for waker in woken {
            waker.wake();
        }
    }

    /// Registers for notifications of a channel from now on. The caller subscribes afterwards, so that no
    /// notification is missed.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        connection: &Connection,
        channel: String,
    ) -> Subscription {
        let mut state = lock(&self.0);
        let total = state.total;
        let entry = state.channels.entry(channel.clone());
        let entry = entry.or_insert_with(|| Channel {
            last_event: total,
            wakers: WakerSet::default(),
            subscribers: 0,
            idle: false,
        });
        entry.subscribers += 1;
        entry.idle = false;
        // Read under the lock that `notify` takes: a later notification has a greater number.
        let known = entry.last_event;
        drop(state);
        Subscription {
            hub: Arc::clone(self),
            connection: connection.clone(),
            channel,
            last_number: known,
            waker_id: None,
        }
    }

    /// Returns whether the channel has an entry.
    fn is_subscribed(&self, channel: &str) -> bool {
        lock(&self.0).channels.contains_key(channel)
    }

    /// Removes the channels that had no subscriptions at two consecutive sweeps. Returns `None` if every channel has
    /// one.
    fn sweep(&self) -> Option<Vec<String>> {
        let mut state = lock(&self.0);
        let mut idle = Vec::new();
        let mut left = false;
        for (channel, entry) in &mut state.channels {
            if entry.subscribers == 0 {
                left = true;
                if mem::replace(&mut entry.idle, true) {
                    idle.push(channel.clone());
                }
            }
        }
        for channel in &idle {
            state.channels.remove(channel);
        }
        left.then_some(idle)
    }
}

/// A registration for notifications of one channel. Deregisters on drop.
pub(super) struct Subscription {
    /// The channels.
    hub: Arc<PushHub>,
    /// The connection on which unused channels are unsubscribed.
    connection: Connection,
    /// Name of the channel.
    channel: String,
    /// The channel's count at registration.
    last_number: u64,
    /// Number of the waker in the [`WakerSet`], after the first poll.
    waker_id: Option<u64>,
}

impl Subscription {
    /// Returns the name of the channel.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Waits for a notification since the registration. Returns at once if there was one already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future deregisters it.
    pub(super) async fn notified(mut self) {
        poll_fn(|cx| {
            // Cloned before the lock is taken, because the clone may run any code.
            let waker = cx.waker().clone();
            let mut state = lock(&self.hub.0);
            // The sweeper removes only channels without subscriptions, so this is unreachable in practice; it errs
            // towards waking.
            let Some(entry) = state.channels.get_mut(&self.channel) else {
                return Poll::Ready(());
            };
            if entry.last_event != self.last_number {
                return Poll::Ready(());
            }
            let number = *self.waker_id.get_or_insert_with(|| entry.wakers.insert());
            let replaced = entry.wakers.register(number, waker);
            // A replaced waker is dropped outside the lock, because its drop may run any code.
            drop(state);
            drop(replaced);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (waker, sweeps) = {
            let mut state = lock(&self.hub.0);
            let Some(entry) = state.channels.get_mut(&self.channel) else {
                return;
            };
            let waker = self.waker_id.and_then(|number| entry.wakers.remove(number));
            entry.subscribers -= 1;
            // The subscription that sets the flag starts the sweeper, so there is at most one.
            let sweeps = entry.subscribers == 0 && !mem::replace(&mut state.sweeper_running, true);
            (waker, sweeps)
        };
        // Dropped outside the lock.
        drop(waker);
        if sweeps {
            let sweeper = Sweeper(Arc::clone(&self.hub));
            // Without a runtime, the drop of a later subscription starts the sweep.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(sweeper.run(self.connection.clone()));
            }
        }
    }
}

/// The task that unsubscribes unused channels. At most one runs at a time.
struct Sweeper(Arc<PushHub>);

impl Sweeper {
    /// Sweeps every [`SWEEP_INTERVAL`] until every channel has subscriptions.
    async fn run(self, connection: Connection) {
        loop {
            sleep(SWEEP_INTERVAL).await;
            let Some(idle) = self.0.sweep() else {
                return;
            };
            for channel in idle {
                // If this fails, the connection is closed, which ends its subscriptions.
                drop(connection.unsubscribe(&channel).await);
                // Another task may have subscribed to the channel before the unsubscription.
                if self.0.is_subscribed(&channel) {
                    drop(connection.subscribe(&channel).await);
                }
            }
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // Also runs if the runtime drops the task, so that a later subscription can start another sweeper.
        lock(&self.0.0).sweeper_running = false;
    }
}

/// Interval between sweeps. A channel that is subscribed to again soon, as after each notification, is kept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Context};

    use super::*;

    fn unreachable() -> Connection {
        Connection::with_push_handler(["redis://127.0.0.1:1"], |_| {}).unwrap()
    }

    fn poll(waiting: impl Future<Output = ()>) -> Poll<()> {
        pin!(waiting).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn unused_channels_are_unsubscribed() {
        let (hub, connection) = (Arc::<PushHub>::default(), unreachable());
        let stays = hub.subscribe(&connection, "stays".to_owned());
        for number in 0..1000 {
            let subscription = hub.subscribe(&connection, number.to_string());
            assert!(poll(subscription.notified()).is_pending());
        }

        sleep(10 * SWEEP_INTERVAL).await;

        let channels: Vec<_> = lock(&hub.0).channels.keys().cloned().collect();
        assert_eq!(channels, ["stays"]);
        assert!(!lock(&hub.0).sweeper_running);
        drop(stays);
        sleep(10 * SWEEP_INTERVAL).await;
        assert!(!hub.is_subscribed("stays"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_resubscribed_channel_is_kept() {
        let (hub, connection) = (Arc::<PushHub>::default(), unreachable());
        let mut subscription = hub.subscribe(&connection, "a".to_owned());
        for _ in 0..20 {
            sleep(SWEEP_INTERVAL / 2).await;
            hub.notify(Some("a"));
            assert!(poll(subscription.notified()).is_ready());
            subscription = hub.subscribe(&connection, "a".to_owned());
            assert!(hub.is_subscribed("a"));
        }
        drop(subscription);
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_get_later_messages_and_connection_loss() {
        let (hub, connection) = (Arc::<PushHub>::default(), unreachable());
        let enter = || hub.subscribe(&connection, "a".to_owned());
        let (before, other) = (enter(), hub.subscribe(&connection, "b".to_owned()));
        hub.notify(Some("a"));
        let after = enter();

        assert!(poll(before.notified()).is_ready());
        assert!(poll(after.notified()).is_pending());
        let after = enter();
        hub.notify(None);
        assert!(poll(after.notified()).is_ready());
        assert!(poll(other.notified()).is_ready());
    }
}
