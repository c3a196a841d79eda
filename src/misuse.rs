//! Detects layers that are nested, ordered or built in a way that defeats them.
//!
//! Nesting is detected by type names when a layer is applied, and by the extensions of requests and responses when services
//! are type-erased. Layers that are built per request are detected by their lifetimes.
//!
//! Each layer reports at most one misuse. A place in the program is reported once: when [`SHORT_LIVED_THRESHOLD`]
//! layers in a row were built there and dropped within [`SHORT_LIFETIME`].
//!
//! | misuse | detected when | by |
//! |---|---|---|
//! | `WrongOrder` | a credentials layer is applied | the type name of the inner service |
//! | `WrongOrder` | a request is sent, behind erased types | a response that a layer inside has retried |
//! | `Nested` | a layer is applied, or a request is sent | the same two |
//! | `PerRequest` | a layer is built | the lifetimes of the layers built at that place before |
//! | `SetTwice` | a layer is built | the calls of its builder |
//!
//! Type names are compared as text, because an inner service is a type parameter without a `'static` bound. A name that
//! changes with the compiler makes the detection miss, never report falsely.

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

/// A use of the layers that defeats their purpose. Requests are not affected; an event and a warning report it once.
///
/// Reported as `TokenEvent::Misused` or `RateLimitEvent::Misused`, and with the feature `tracing` as a warning. A panic
/// in a sink is caught: a test that tolerates no misuse records the event, and fails after the call.
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
    /// [`ClientCredentialsLayer`](crate::ClientCredentialsLayer): a request that waits for its quota, or is retried,
    /// carries a token that may have expired in the meantime. Put the rate limits outside, or use
    /// [`M2mLayer`](crate::M2mLayer).
    WrongOrder,
    /// A layer is inside another one that does the same: both retry, or the inner one replaces the token that the outer
    /// one added to the request. Keep one of them.
    Nested,
    /// Layers are built repeatedly at the same place in the program, each for a request or two: each one fetches a token
    /// of its own, and loses what the others learned about quotas. Build the layer once, and clone it or the service
    /// that it creates.
    PerRequest,
    /// A setting of a builder that has one value was set twice, so that the first value was discarded. Keep one of the
    /// calls. `partition_by`, `partitions_by` and `preset` set the same.
    SetTwice {
        /// Name of the method.
        setting: &'static str,
    },
}

impl Misuse {
    /// Returns a sentence that says what is wrong and what to do.
    ///
    /// One line without a full stop, for logs. [`Display`](fmt::Display) also names the setting.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SetTwice { .. } => {
                "a setting is set twice, and its first value is discarded: remove one of the calls"
            }
            Self::WrongOrder => {
                "RateLimitRetryLayer is inside ClientCredentialsLayer: put it outside, or use M2mLayer"
            }
            Self::Nested => {
                "a layer is nested in another layer of the same kind: remove one of them"
            }
            Self::PerRequest => {
                "a layer is built per request: build it once, and clone the service"
            }
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::SetTwice { setting } => write!(f, " (`{setting}`)"),
            Self::WrongOrder | Self::Nested | Self::PerRequest => Ok(()),
        }
    }
}

/// Which settings of a builder were set, of those whose second value would silently replace the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetOnce {
    /// The settings that were set.
    set: Vec<&'static str>,
    /// The first one that was set twice.
    twice: Option<&'static str>,
}

impl SetOnce {
    /// Records that `setting` is set.
    pub(crate) fn record(&mut self, setting: &'static str) {
        if self.set.contains(&setting) {
            self.twice.get_or_insert(setting);
        } else {
            self.set.push(setting);
        }
    }

    /// Returns the misuse to report when the layer is built.
    pub(crate) fn misuse(&self) -> Option<Misuse> {
        self.twice.map(|setting| Misuse::SetTwice { setting })
    }
}

/// The misuse detection of one layer.
///
/// All flags are relaxed atomics. Threads that race may inspect a type or two more, and report once, because the report
/// is decided by a `swap`.
#[derive(Debug)]
pub(crate) struct Usage {
    /// How many inner types have been inspected, at most [`MAX_INSPECTIONS`] plus the racing threads.
    inspections: AtomicU8,
    /// Whether a misuse was reported: one layer reports one misuse, once.
    reported: AtomicBool,
    /// A service with credentials is inside.
    wraps_credentials: AtomicBool,
    /// Counts the layer's lifetime when the layer is dropped.
    _lifetime: Lifetime,
}

impl Usage {
    /// Starts the detection for a layer of this `kind` that is built at `location`. Also returns whether layers are built
    /// there for single requests.
    pub(crate) fn begin(
        kind: &'static str,
        caller: &'static Location<'static>,
        name: Option<Arc<str>>,
    ) -> (Self, Option<Misuse>) {
        let site = Site {
            kind,
            location: caller,
            name,
        };
        let repeated = SITES.with(|built| built.begin(&site));
        // A misuse that was found at the place counts as this layer's report.
        let usage = Self {
            inspections: AtomicU8::new(0),
            reported: AtomicBool::new(repeated),
            wraps_credentials: AtomicBool::new(false),
            _lifetime: Lifetime {
                site,
                created_at: SystemClock.now(),
            },
        };
        (usage, repeated.then_some(Misuse::PerRequest))
    }

    /// Returns the misuse to report if a rate-limit layer wraps an `Inner`. Does not see through erased types.
    pub(crate) fn limits_around<Inner>(&self) -> Option<Misuse> {
        let nested = self.should_inspect()
            && (contains::<Inner>(LIMITS_SERVICE) || contains::<Inner>(M2M_SERVICE));
        nested.then(|| self.report_once(Misuse::Nested)).flatten()
    }

    /// Returns the misuse to report if a credentials layer wraps an `Inner`.
    pub(crate) fn credentials_around<Inner>(&self) -> Option<Misuse> {
        if !self.should_inspect() {
            return None;
        }
        if contains::<Inner>(CREDENTIALS_SERVICE) || contains::<Inner>(M2M_SERVICE) {
            // Their tokens may go into different headers: the inner layer checks that per request.
            CREDENTIALS_NESTED.store(true, Relaxed);
            self.wraps_credentials.store(true, Relaxed);
        }
        contains::<Inner>(LIMITS_SERVICE)
            .then(|| self.report_once(Misuse::WrongOrder))
            .flatten()
    }

    /// Returns the misuse to report if a layer with both wraps an `Inner`.
    pub(crate) fn both_around<Inner>(&self) -> Option<Misuse> {
        if !self.should_inspect() {
            return None;
        }
        if contains::<Inner>(CREDENTIALS_SERVICE) {
            CREDENTIALS_NESTED.store(true, Relaxed);
        }
        let nested = contains::<Inner>(LIMITS_SERVICE) || contains::<Inner>(M2M_SERVICE);
        nested.then(|| self.report_once(Misuse::Nested)).flatten()
    }

    /// Returns the misuse to report when a layer inside has retried a request with the token of this credentials layer,
    /// or with one of its own.
    pub(crate) fn on_inner_retry(&self) -> Option<Misuse> {
        self.report_once(match self.wraps_credentials.load(Relaxed) {
            true => Misuse::Nested,
            false => Misuse::WrongOrder,
        })
    }

    /// Returns `misuse`, unless one was reported before.
    pub(crate) fn report_once(&self, misuse: Misuse) -> Option<Misuse> {
        // The load avoids a write to the shared cache line on every call.
        (!self.reported.load(Relaxed) && !self.reported.swap(true, Relaxed)).then_some(misuse)
    }

    /// Returns whether to inspect the type of an inner service. Type names are long, and a layer may be applied often, so
    /// only the first few are inspected.
    fn should_inspect(&self) -> bool {
        self.inspections.load(Relaxed) < MAX_INSPECTIONS
            && self.inspections.fetch_add(1, Relaxed) < MAX_INSPECTIONS
    }
}

/// Returns whether a credentials layer of this process is inside another one.
pub(crate) fn has_nested_credentials() -> bool {
    CREDENTIALS_NESTED.load(Relaxed)
}

/// Returns whether the type `Inner` contains a service of this crate, by its type name.
fn contains<Inner>(service: &str) -> bool {
    type_name::<Inner>().contains(service)
}

/// The place in the program where layers of a kind are built for a credential.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Site {
    /// Kind of layer.
    kind: &'static str,
    /// Call site of the builder.
    location: &'static Location<'static>,
    /// Name of the credential.
    name: Option<Arc<str>>,
}

/// The time from when a layer is built until its last user drops it. Recorded on drop.
#[derive(Debug)]
struct Lifetime {
    site: Site,
    created_at: Instant,
}

impl Drop for Lifetime {
    fn drop(&mut self) {
        let lived = SystemClock.now().saturating_duration_since(self.created_at);
        SITES.with(|built| built.end(&self.site, lived));
    }
}

/// The number of short-lived layers in a row, by where they were built.
///
/// A lookup compares with at most [`MAX_SITES`] places. The lock is taken when a layer is built and when its last user
/// drops it, never for a request.
struct Sites(Mutex<Vec<(Site, Streak)>>);

/// A run of short-lived layers at one place.
#[derive(Clone, Copy, Default)]
struct Streak {
    /// Number of short-lived layers since the last long-lived one.
    short_lived: u32,
    /// Whether this place was reported.
    reported: bool,
}

impl Sites {
    /// Runs `act` under the lock. A poisoned lock is recovered: the list is consistent after every statement.
    fn with<R>(&self, act: impl FnOnce(&mut Vec<(Site, Streak)>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The known places, in the order in which they were added.
trait SiteHistory {
    /// Records that a layer is built. Returns whether to report the place now.
    fn begin(&mut self, site: &Site) -> bool;
    /// Records that a layer ended after `lived`.
    fn end(&mut self, site: &Site, lived: Duration);
}

impl SiteHistory for Vec<(Site, Streak)> {
    // Marks the place as reported, so that it is reported once.
    fn begin(&mut self, site: &Site) -> bool {
        let known = self.iter_mut().find(|(known, _)| known == site);
        let due = known
            .filter(|(_, streak)| streak.short_lived >= SHORT_LIVED_THRESHOLD && !streak.reported);
        due.map(|(_, streak)| streak.reported = true).is_some()
    }

    fn end(&mut self, site: &Site, lived: Duration) {
        let known = self.iter_mut().find(|(known, _)| known == site);
        match known {
            Some((_, streak)) if lived < SHORT_LIFETIME => {
                streak.short_lived = streak.short_lived.saturating_add(1);
            }
            // A long-lived layer shows that the place does not build one per request.
            Some((_, streak)) => streak.short_lived = 0,
            None if lived < SHORT_LIFETIME => {
                // The oldest place makes room.
                if self.len() >= MAX_SITES {
                    self.remove(0);
                }
                let streak = Streak {
                    short_lived: 1,
                    reported: false,
                };
                self.push((site.clone(), streak));
            }
            // A place is listed only once a short-lived layer ends there.
            None => {}
        }
    }
}

/// The places of this process.
static SITES: Sites = Sites(Mutex::new(Vec::new()));
/// Whether a credentials layer of this process wraps another one. Never reset.
/// Relaxed is enough for all flags of this module: they guard no other data.
static CREDENTIALS_NESTED: AtomicBool = AtomicBool::new(false);

/// Start of the type name of the service with both layers. A string, because naming the type would make the modules
/// import each other.
const M2M_SERVICE: &str = "tower_m2m::stack::service::M2m<";
/// Start of the type name of the credentials service.
const CREDENTIALS_SERVICE: &str = "tower_m2m::client_credentials::service::ClientCredentials<";
/// Start of the type name of the rate-limit service.
const LIMITS_SERVICE: &str = "tower_m2m::rate_limit_retry::service::RateLimitRetry<";

/// Maximum number of inner types that a layer inspects.
const MAX_INSPECTIONS: u8 = 8;
/// Number of short-lived layers in a row that counts as misuse.
const SHORT_LIVED_THRESHOLD: u32 = 32;
/// Lifetime below which a layer counts as short-lived: about that of a request.
const SHORT_LIFETIME: Duration = Duration::from_secs(10);
/// Maximum number of places that are tracked.
const MAX_SITES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> Site {
        Site {
            kind: "test",
            location: Location::caller(),
            name: Some(name.into()),
        }
    }

    #[test]
    fn layers_built_per_request_are_reported_once() {
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
    fn a_long_lived_layer_is_not_reported() {
        let mut places = Vec::new();
        let site = site("a");
        for index in 0..200 {
            assert!(!places.begin(&site));
            let lived = if index % 20 == 0 { 60 } else { 1 };
            places.end(&site, Duration::from_secs(lived));
        }
    }

    #[test]
    fn the_number_of_remembered_sites_is_bounded() {
        let mut places = Vec::new();
        for index in 0..1000 {
            places.end(&site(&index.to_string()), Duration::ZERO);
        }
        assert_eq!(places.len(), MAX_SITES);
    }

    #[test]
    fn a_nested_service_is_found_by_type_name() {
        use crate::{
            client_credentials::ClientCredentials, rate_limit_retry::RateLimitRetry, stack::M2m,
        };

        type Mapped<S> = tower::util::MapErr<S, fn(())>;
        assert!(contains::<Mapped<RateLimitRetry<u8>>>(LIMITS_SERVICE));
        assert!(contains::<Mapped<ClientCredentials<u8>>>(
            CREDENTIALS_SERVICE
        ));
        assert!(contains::<M2m<Mapped<u8>>>(M2M_SERVICE));
        assert!(!contains::<Mapped<u8>>(LIMITS_SERVICE));
        assert!(!contains::<Mapped<M2m<u8>>>(CREDENTIALS_SERVICE));
    }
}
