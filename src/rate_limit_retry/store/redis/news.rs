//! What has been heard on channels, for those who wait for it.

use std::{collections::HashMap, future::poll_fn, task::Poll};

use crate::{
    sync::{Mutex, lock},
    waker_set::WakerSet,
};

/// How often something was heard on each channel.
#[derive(Default)]
pub(super) struct News(Mutex<HashMap<String, Heard>>);

#[derive(Default)]
struct Heard {
    count: u64,
    waiting: WakerSet,
}

impl News {
    /// Something was heard; without a channel, perhaps on any.
    pub(super) fn note(&self, channel: Option<&str>) {
        let mut woken = Vec::new();
        for (name, heard) in lock(&self.0).iter_mut() {
            if channel.is_none_or(|channel| channel == name) {
                heard.count += 1;
                woken.extend(heard.waiting.take_all());
            }
        }
        for waker in woken {
            waker.wake();
        }
    }

    pub(super) fn count(&self, channel: &str) -> u64 {
        let mut all = lock(&self.0);
        match all.get(channel) {
            Some(heard) => heard.count,
            None => {
                all.insert(channel.to_owned(), Heard::default());
                0
            }
        }
    }

    /// Waits until more has been heard than is `known`.
    pub(super) async fn after(&self, channel: &str, known: u64) {
        let mut place = Place {
            news: self,
            channel,
            number: None,
        };
        poll_fn(|cx| {
            let mut all = lock(&self.0);
            let heard = all.entry(channel.to_owned()).or_default();
            if heard.count != known {
                return Poll::Ready(());
            }
            let number = *place.number.get_or_insert_with(|| heard.waiting.enter());
            heard.waiting.register(number, cx.waker());
            Poll::Pending
        })
        .await;
    }
}

/// Given up when it is dropped.
struct Place<'a> {
    news: &'a News,
    channel: &'a str,
    number: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let former = self.number.and_then(|number| {
            let mut all = lock(&self.news.0);
            all.get_mut(self.channel)?.waiting.leave(number)
        });
        drop(former);
    }
}
