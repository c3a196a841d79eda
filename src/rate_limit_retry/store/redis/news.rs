//! What has been heard on channels, for those who wait for it. A channel that nobody has waited on for a while is left.

use std::{collections::HashMap, future::poll_fn, mem, sync::Arc, task::Poll, time::Duration};

use tokio::{runtime::Handle, time::sleep};

use crate::{
    store::Connection,
    sync::{Mutex, lock},
    waker_set::WakerSet,
};

/// The channels that are listened to, and who waits.
#[derive(Default)]
pub(super) struct News(Mutex<State>);

#[derive(Default)]
struct State {
    /// Number of times that something was heard, on any channel.
    total: u64,
    channels: HashMap<String, Heard>,
    /// Whether a task leaves channels that are not used.
    is_swept: bool,
}

struct Heard {
    /// The total when something was heard last, or when the channel was entered.
    count: u64,
    waiting: WakerSet,
    /// Number of places; more than wait while something has been heard.
    places: usize,
    /// Whether it had no places when the channels were swept last.
    idle: bool,
}

impl News {
    /// Something was heard; without a channel, perhaps on any.
    pub(super) fn note(&self, channel: Option<&str>) {
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
        for waker in woken {
            waker.wake();
        }
    }

    /// Listens to a channel from now on; the caller has it subscribed to afterwards.
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

    fn is_entered(&self, channel: &str) -> bool {
        lock(&self.0).channels.contains_key(channel)
    }

    /// Takes out the channels that had no places twice in a row; `None` if all have.
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

/// A place among those that wait for a channel. Given up when it is dropped.
pub(super) struct Place {
    news: Arc<News>,
    connection: Connection,
    channel: String,
    /// The count that was known when it was entered.
    known: u64,
    number: Option<u64>,
}

impl Place {
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Waits until something has been heard since it was entered.
    pub(super) async fn heard(mut self) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            let mut state = lock(&self.news.0);
            let Some(heard) = state.channels.get_mut(&self.channel) else {
                return Poll::Ready(());
            };
            if heard.count != self.known {
                return Poll::Ready(());
            }
            let number = *self.number.get_or_insert_with(|| heard.waiting.enter());
            let replaced = heard.waiting.register(number, waker);
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
            let sweeps = heard.places == 0 && !mem::replace(&mut state.is_swept, true);
            (waker, sweeps)
        };
        // Dropped outside the lock.
        drop(waker);
        if sweeps {
            let sweeper = Sweeper(Arc::clone(&self.news));
            // Without a runtime the next place that is given up has the channels swept.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(sweeper.run(self.connection.clone()));
            }
        }
    }
}

/// Leaves channels that are not used. One for all.
struct Sweeper(Arc<News>);

impl Sweeper {
    async fn run(self, connection: Connection) {
        loop {
            sleep(GRACE).await;
            let Some(over) = self.0.sweep() else {
                return;
            };
            for channel in over {
                // If it fails, the connection is given up, and its subscriptions with it.
                drop(connection.unsubscribe(&channel).await);
                // It may have been entered meanwhile, and subscribed to before.
                if self.0.is_entered(&channel) {
                    drop(connection.subscribe(&channel).await);
                }
            }
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        lock(&self.0.0).is_swept = false;
    }
}

/// How often channels are swept: one that is entered again soon, as after each message, stays subscribed to.
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
    async fn channels_that_nobody_waits_on_any_more_are_left() {
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
    async fn a_channel_that_is_entered_again_at_once_is_not_left() {
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
    async fn a_place_hears_what_comes_after_it_was_entered_and_all_hear_of_a_broken_connection() {
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
