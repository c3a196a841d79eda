//! Finds layers that are used in a way that works against them.

use std::{
    any::type_name,
    fmt,
    panic::Location,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{Clock, SystemClock};

/// A use of the layers that works against them. It changes nothing for requests; an event and a warning report it once.
///
/// # Examples
///
/// ```
/// use tower_m2m::{Misuse, client_credentials::TokenEvent};
///
/// fn sink(event: &TokenEvent<'_>) {
///     if let TokenEvent::Misused { misuse, .. } = event {
///         panic!("{misuse}");
///     }
/// }
/// # let _: fn(&TokenEvent<'_>) = sink;
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Misuse {
    /// A [`RateLimitRetryLayer`](crate::RateLimitRetryLayer) is inside a
    /// [`ClientCredentialsLayer`](crate::ClientCredentialsLayer): a request that waits for its quota, or is sent again,
    /// goes with a token that may have expired meanwhile. Put the limits outside, or use [`M2mLayer`](crate::M2mLayer).
    WrongOrder,
    /// A layer is inside another one that does the same: both retry, or the inner one replaces the token that the outer
    /// one has put onto the request. Keep one of them.
    Nested,
    /// Layers are built again and again at the same place in the program, each for a request or two: every one asks for a
    /// token of its own, and forgets what the others have learned about quotas. Build the layer once, and clone it or the
    /// service that it makes.
    PerRequest,
}

impl Misuse {
    /// What is wrong and what to do, in a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrongOrder => {
                "RateLimitRetryLayer is inside ClientCredentialsLayer: put it outside, or use M2mLayer"
            }
            Self::Nested => "a layer is inside another one that does the same: keep one of them",
            Self::PerRequest => {
                "layers are built for single requests: build the layer once, and clone the service"
            }
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one layer has noticed about its use.
#[derive(Debug)]
pub(crate) struct Usage {
    looked: AtomicU8,
    reported: AtomicBool,
    /// A service with credentials is inside.
    wraps_credentials: AtomicBool,
    _lifetime: Lifetime,
}

impl Usage {
    /// For a layer of this `kind` that is built at `place`, and whether layers are built there for single requests.
    pub(crate) fn begin(
        kind: &'static str,
        place: &'static Location<'static>,
        name: Option<Arc<str>>,
    ) -> (Self, Option<Misuse>) {
        let site = Site { kind, place, name };
        let repeated = BUILT.with(|built| built.begin(&site));
        let usage = Self {
            looked: AtomicU8::new(0),
            reported: AtomicBool::new(repeated),
            wraps_credentials: AtomicBool::new(false),
            _lifetime: Lifetime {
                site,
                born: SystemClock.now(),
            },
        };
        (usage, repeated.then_some(Misuse::PerRequest))
    }

    /// Whether a layer with limits is to report that it wraps an `Inner`. Types that are erased are not found.
    pub(crate) fn limits_around<Inner>(&self) -> Option<Misuse> {
        let nested = self.looks() && (contains::<Inner>(LIMITS) || contains::<Inner>(BOTH));
        nested.then(|| self.once(Misuse::Nested)).flatten()
    }

    /// The same for a layer with credentials.
    pub(crate) fn credentials_around<Inner>(&self) -> Option<Misuse> {
        if !self.looks() {
            return None;
        }
        if contains::<Inner>(CREDENTIALS) || contains::<Inner>(BOTH) {
            // They may send their tokens in different headers: the inner one finds out.
            CREDENTIALS_NESTED.store(true, Relaxed);
            self.wraps_credentials.store(true, Relaxed);
        }
        contains::<Inner>(LIMITS)
            .then(|| self.once(Misuse::WrongOrder))
            .flatten()
    }

    /// The same for a layer with both.
    pub(crate) fn both_around<Inner>(&self) -> Option<Misuse> {
        if !self.looks() {
            return None;
        }
        if contains::<Inner>(CREDENTIALS) {
            CREDENTIALS_NESTED.store(true, Relaxed);
        }
        let nested = contains::<Inner>(LIMITS) || contains::<Inner>(BOTH);
        nested.then(|| self.once(Misuse::Nested)).flatten()
    }

    /// A layer inside has sent a request again, with the token of this layer with credentials or with one of its own.
    pub(crate) fn sent_again_inside(&self) -> Option<Misuse> {
        self.once(match self.wraps_credentials.load(Relaxed) {
            true => Misuse::Nested,
            false => Misuse::WrongOrder,
        })
    }

    /// `misuse`, unless something was reported before.
    pub(crate) fn once(&self, misuse: Misuse) -> Option<Misuse> {
        (!self.reported.load(Relaxed) && !self.reported.swap(true, Relaxed)).then_some(misuse)
    }

    /// Whether the type of an inner service is to be looked at: names are long, and a layer may be applied often.
    fn looks(&self) -> bool {
        self.looked.load(Relaxed) < LOOKS && self.looked.fetch_add(1, Relaxed) < LOOKS
    }
}

/// Whether one layer with credentials of this process is inside another.
pub(crate) fn credentials_are_nested() -> bool {
    CREDENTIALS_NESTED.load(Relaxed)
}

/// Whether the type `Inner` has a service of this crate in it.
fn contains<Inner>(service: &str) -> bool {
    type_name::<Inner>().contains(service)
}

/// Where layers of a kind are built, and for which credential.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Site {
    kind: &'static str,
    place: &'static Location<'static>,
    name: Option<Arc<str>>,
}

/// From when a layer is built until nothing uses it any more.
#[derive(Debug)]
struct Lifetime {
    site: Site,
    born: Instant,
}

impl Drop for Lifetime {
    fn drop(&mut self) {
        let lived = SystemClock.now().saturating_duration_since(self.born);
        BUILT.with(|built| built.end(&self.site, lived));
    }
}

/// How many layers in succession had a short life, by where they were built.
struct Built(Mutex<Vec<(Site, Streak)>>);

#[derive(Clone, Copy, Default)]
struct Streak {
    short_lived: u32,
    reported: bool,
}

impl Built {
    fn with<R>(&self, act: impl FnOnce(&mut Vec<(Site, Streak)>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The places that are remembered, the latest one last.
trait Places {
    fn begin(&mut self, site: &Site) -> bool;
    fn end(&mut self, site: &Site, lived: Duration);
}

impl Places for Vec<(Site, Streak)> {
    /// Whether it is to be reported now.
    fn begin(&mut self, site: &Site) -> bool {
        let known = self.iter_mut().find(|(known, _)| known == site);
        let due = known.filter(|(_, streak)| streak.short_lived >= MANY && !streak.reported);
        due.map(|(_, streak)| streak.reported = true).is_some()
    }

    fn end(&mut self, site: &Site, lived: Duration) {
        let known = self.iter_mut().find(|(known, _)| known == site);
        match known {
            Some((_, streak)) if lived < SHORT => {
                streak.short_lived = streak.short_lived.saturating_add(1);
            }
            Some((_, streak)) => streak.short_lived = 0,
            None if lived < SHORT => {
                if self.len() >= PLACES {
                    self.remove(0);
                }
                let streak = Streak {
                    short_lived: 1,
                    reported: false,
                };
                self.push((site.clone(), streak));
            }
            None => {}
        }
    }
}

static BUILT: Built = Built(Mutex::new(Vec::new()));
static CREDENTIALS_NESTED: AtomicBool = AtomicBool::new(false);

/// How the names of the services begin. (To name the types would be a circle of imports.)
const BOTH: &str = "tower_m2m::stack::service::M2m<";
const CREDENTIALS: &str = "tower_m2m::client_credentials::service::ClientCredentials<";
const LIMITS: &str = "tower_m2m::rate_limit_retry::service::RateLimitRetry<";

/// Number of times that a layer inspects the type of the service that it wraps.
const LOOKS: u8 = 8;
/// Number of layers with a short life, one after the other, that are no accident.
const MANY: u32 = 32;
/// A life that is not longer than that of a request.
const SHORT: Duration = Duration::from_secs(10);
/// Maximum number of places that are remembered.
const PLACES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> Site {
        Site {
            kind: "test",
            place: Location::caller(),
            name: Some(name.into()),
        }
    }

    #[test]
    fn layers_that_are_built_for_single_requests_are_reported_once() {
        let mut places = Vec::new();
        let site = site("a");
        let mut reports = 0;
        for _ in 0..200 {
            reports += usize::from(places.begin(&site));
            places.end(&site, Duration::from_millis(30));
        }
        assert_eq!(reports, 1);
    }

    #[test]
    fn a_layer_that_lives_on_is_no_reason_for_a_report() {
        let mut places = Vec::new();
        let site = site("a");
        for index in 0..200 {
            assert!(!places.begin(&site));
            let lived = if index % 20 == 0 { 60 } else { 1 };
            places.end(&site, Duration::from_secs(lived));
        }
    }

    #[test]
    fn only_so_many_places_are_remembered() {
        let mut places = Vec::new();
        for index in 0..1000 {
            places.end(&site(&index.to_string()), Duration::ZERO);
        }
        assert_eq!(places.len(), PLACES);
    }

    #[test]
    fn a_service_is_found_in_the_type_of_another() {
        use crate::{
            client_credentials::ClientCredentials, rate_limit_retry::RateLimitRetry, stack::M2m,
        };

        type Mapped<S> = tower::util::MapErr<S, fn(())>;
        assert!(contains::<Mapped<RateLimitRetry<u8>>>(LIMITS));
        assert!(contains::<Mapped<ClientCredentials<u8>>>(CREDENTIALS));
        assert!(contains::<M2m<Mapped<u8>>>(BOTH));
        assert!(!contains::<Mapped<u8>>(LIMITS));
        assert!(!contains::<Mapped<M2m<u8>>>(CREDENTIALS));
    }
}
