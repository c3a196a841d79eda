//! Notifications of Redis channels, for the tasks that wait for them.
//!
//! A task registers with [`News::enter`] and waits for [`Place::heard`]. A notification that arrives in between is
//! not lost, because each channel counts them.
//!
//! A channel without waiters stays subscribed for one or two sweeps, because a task usually waits again after a
//! notification. A sweeper task runs only while there are such channels.
//!
//! The only lock is that of [`News`]. No waker is cloned, woken or dropped while it is held.

use std::{collections::HashMap, future::poll_fn, mem, sync::Arc, task::Poll, time::Duration};

use tokio::{runtime::Handle, time::sleep};

use crate::{
    store::Connection,
    sync::{Mutex, lock},
    waker_set::WakerSet,
};

/// The subscribed channels and their waiters.
#[derive(Default)]
pub(super) struct News(Mutex<State>);

/// State behind the lock.
#[derive(Default)]
struct State {
    /// Number of notifications received, on any channel.
    total: u64,
    /// Subscribed channels by name.
    channels: HashMap<String, Heard>,
    /// Whether a task that unsubscribes unused channels is running.
    is_swept: bool,
}

/// One channel.
struct Heard {
    /// Value of `total` at the last notification, or when the channel was entered.
    count: u64,
    /// Wakers of the waiting tasks.
    waiting: WakerSet,
    /// Number of [`Place`]s. Can exceed the number of wakers after a notification.
    places: usize,
    /// Whether the channel had no places at the last sweep.
    idle: bool,
}

impl News {
    /// Records a notification and wakes the waiters of the channel. `None` stands for all channels, such as after a
    /// lost connection.
    pub(super) fn note(&self, channel: Option<&str>) {
        // Wakers are collected under the lock and woken after it is released.
        let mut woken = Vec::new();
        {
            let mut state = lock(&self.0);
            state.total += 1;
            let total = state.total;
            for (name, heard) in &mut state.channels {
                if channel.is_none_or(|channel| channel == name) {
                    heard.count = total;
                    woken.extend(heard.waiting.take_all());
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
    pub(super) fn enter(self: &Arc<Self>, connection: &Connection, channel: String) -> Place {
        let mut state = lock(&self.0);
        let total = state.total;
        let heard = state.channels.entry(channel.clone());
        let heard = heard.or_insert_with(|| Heard {
            count: total,
            waiting: WakerSet::default(),
            places: 0,
            idle: false,
        });
        heard.places += 1;
        heard.idle = false;
        let known = heard.count;
        drop(state);
        Place {
            news: Arc::clone(self),
            connection: connection.clone(),
            channel,
            known,
            number: None,
        }
    }

    /// Returns whether the channel has an entry.
    fn is_entered(&self, channel: &str) -> bool {
        lock(&self.0).channels.contains_key(channel)
    }

    /// Removes the channels that had no places at two consecutive sweeps. Returns `None` if every channel has places.
    fn sweep(&self) -> Option<Vec<String>> {
        let mut state = lock(&self.0);
        let mut over = Vec::new();
        let mut left = false;
        for (channel, heard) in &mut state.channels {
            if heard.places == 0 {
                left = true;
                if mem::replace(&mut heard.idle, true) {
                    over.push(channel.clone());
                }
            }
        }
        for channel in &over {
            state.channels.remove(channel);
        }
        left.then_some(over)
    }
}

/// A registration for notifications of one channel. Deregisters on drop.
pub(super) struct Place {
    /// The channels.
    news: Arc<News>,
    /// The connection on which unused channels are unsubscribed.
    connection: Connection,
    /// Name of the channel.
    channel: String,
    /// The channel's count at registration.
    known: u64,
    /// Number of the waker in the [`WakerSet`], after the first poll.
    number: Option<u64>,
}

impl Place {
    /// Returns the name of the channel.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Waits for a notification since the registration. Returns at once if there was one already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future deregisters it.
    pub(super) async fn heard(mut self) {
        poll_fn(|cx| {
            // Cloned before the lock is taken, because the clone may run any code.
            let waker = cx.waker().clone();
            let mut state = lock(&self.news.0);
            // The sweeper removes only channels without places, so this is unreachable in practice; it errs towards
            // waking.
            let Some(heard) = state.channels.get_mut(&self.channel) else {
                return Poll::Ready(());
            };
            if heard.count != self.known {
                return Poll::Ready(());
            }
            let number = *self.number.get_or_insert_with(|| heard.waiting.enter());
            let replaced = heard.waiting.register(number, waker);
            // A replaced waker is dropped outside the lock, because its drop may run any code.
            drop(state);
            drop(replaced);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (waker, sweeps) = {
            let mut state = lock(&self.news.0);
            let Some(heard) = state.channels.get_mut(&self.channel) else {
                return;
            };
            let waker = self.number.and_then(|number| heard.waiting.leave(number));
            heard.places -= 1;
            // The place that starts a sweep is the one that sets the flag, so there is at most one sweeper.
            let sweeps = heard.places == 0 && !mem::replace(&mut state.is_swept, true);
            (waker, sweeps)
        };
        // Dropped outside the lock.
        drop(waker);
        if sweeps {
            let sweeper = Sweeper(Arc::clone(&self.news));
            // Without a runtime, the drop of a later place starts the sweep.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(sweeper.run(self.connection.clone()));
            }
        }
    }
}

/// The task that unsubscribes unused channels. At most one runs at a time.
struct Sweeper(Arc<News>);

impl Sweeper {
    /// Sweeps every [`GRACE`] until every channel has places.
    async fn run(self, connection: Connection) {
        loop {
            sleep(GRACE).await;
            let Some(over) = self.0.sweep() else {
                return;
            };
            for channel in over {
                // If this fails, the connection is closed, which ends its subscriptions.
                drop(connection.unsubscribe(&channel).await);
                // The channel may have been entered, and subscribed to, before the unsubscription.
                if self.0.is_entered(&channel) {
                    drop(connection.subscribe(&channel).await);
                }
            }
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // Also runs if the runtime drops the task, so that a later place can start another sweeper.
        lock(&self.0.0).is_swept = false;
    }
}

/// Interval between sweeps. A channel that is entered again soon, as after each notification, stays subscribed.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Context};

    use super::*;

    fn unreachable() -> Connection {
        Connection::listening(["redis://127.0.0.1:1"], |_| {}).unwrap()
    }

    fn poll(waiting: impl Future<Output = ()>) -> Poll<()> {
        pin!(waiting).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn unused_channels_are_unsubscribed() {
        let (news, connection) = (Arc::<News>::default(), unreachable());
        let stays = news.enter(&connection, "stays".to_owned());
        for number in 0..1000 {
            let place = news.enter(&connection, number.to_string());
            assert!(poll(place.heard()).is_pending());
        }

        sleep(10 * GRACE).await;

        let channels: Vec<_> = lock(&news.0).channels.keys().cloned().collect();
        assert_eq!(channels, ["stays"]);
        assert!(!lock(&news.0).is_swept);
        drop(stays);
        sleep(10 * GRACE).await;
        assert!(!news.is_entered("stays"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_resubscribed_channel_is_kept() {
        let (news, connection) = (Arc::<News>::default(), unreachable());
        let mut place = news.enter(&connection, "a".to_owned());
        for _ in 0..20 {
            sleep(GRACE / 2).await;
            news.note(Some("a"));
            assert!(poll(place.heard()).is_ready());
            place = news.enter(&connection, "a".to_owned());
            assert!(news.is_entered("a"));
        }
        drop(place);
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_get_later_messages_and_connection_loss() {
        let (news, connection) = (Arc::<News>::default(), unreachable());
        let enter = || news.enter(&connection, "a".to_owned());
        let (before, other) = (enter(), news.enter(&connection, "b".to_owned()));
        news.note(Some("a"));
        let after = enter();

        assert!(poll(before.heard()).is_ready());
        assert!(poll(after.heard()).is_pending());
        let after = enter();
        news.note(None);
        assert!(poll(after.heard()).is_ready());
        assert!(poll(other.heard()).is_ready());
    }
}
