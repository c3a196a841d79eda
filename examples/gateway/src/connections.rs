//! What is counted and logged of a listener's connections.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::limits::ConnectionLimit;

#[derive(Debug)]
pub(crate) struct Connections {
    /// `callers` or `operators`.
    pub(crate) listener: &'static str,
    limit: Arc<ConnectionLimit>,
    dropped: [AtomicU64; Dropped::ALL.len()],
    malformed: AtomicU64,
}

/// Why the gateway has ended a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dropped {
    /// There are as many as there may be.
    TotalLimit,
    /// There are as many of this peer as there may be of one.
    PeerLimit,
    /// No request has arrived in time.
    HeaderTimeout,
    /// The peer has not taken the answer in time.
    WriteTimeout,
    /// The peer is not known, or the connection too old, and it was not closed in time.
    NotClosed,
    /// The system has not handed it over, for want of descriptors, for example.
    NotAccepted,
}

impl Dropped {
    pub(crate) const ALL: [Self; 6] = [
        Self::TotalLimit,
        Self::PeerLimit,
        Self::HeaderTimeout,
        Self::WriteTimeout,
        Self::NotClosed,
        Self::NotAccepted,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TotalLimit => "total_limit",
            Self::PeerLimit => "peer_limit",
            Self::HeaderTimeout => "header_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::NotClosed => "not_closed",
            Self::NotAccepted => "not_accepted",
        }
    }
}

impl Connections {
    pub(crate) fn new(listener: &'static str, limit: Arc<ConnectionLimit>) -> Self {
        Self {
            listener,
            limit,
            dropped: std::array::from_fn(|_| AtomicU64::new(0)),
            malformed: AtomicU64::new(0),
        }
    }

    pub(crate) fn limit(&self) -> &Arc<ConnectionLimit> {
        &self.limit
    }

    /// A connection was ended.
    pub(crate) fn drop_of(&self, peer: IpAddr, why: Dropped) {
        self.count(why);
        let (listener, reason) = (self.listener, why.as_str());
        tracing::warn!(listener, reason, %peer, "connection dropped");
    }

    /// A connection could not be accepted.
    pub(crate) fn not_accepted(&self, error: &io::Error) {
        self.count(Dropped::NotAccepted);
        let (listener, reason) = (self.listener, Dropped::NotAccepted.as_str());
        tracing::error!(listener, reason, %error, "connection dropped");
    }

    /// A request was answered 400 before anything else was done.
    pub(crate) fn malformed(&self) {
        self.malformed.fetch_add(1, Relaxed);
    }

    pub(crate) fn malformed_requests(&self) -> u64 {
        self.malformed.load(Relaxed)
    }

    pub(crate) fn open(&self) -> usize {
        self.limit.open()
    }

    pub(crate) fn dropped(&self) -> impl Iterator<Item = (Dropped, u64)> {
        let counts = self.dropped.iter().map(|count| count.load(Relaxed));
        Dropped::ALL.into_iter().zip(counts)
    }

    fn count(&self, why: Dropped) {
        let index = Dropped::ALL.iter().position(|known| *known == why);
        if let Some(count) = index.and_then(|index| self.dropped.get(index)) {
            count.fetch_add(1, Relaxed);
        }
    }
}
