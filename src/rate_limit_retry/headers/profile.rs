//! Header profiles: the meaning of fields that only the vendor's documentation defines.
//!
//! A profile is needed in these cases:
//!
//! - A number is in milliseconds, and neither the field name nor the value shows that.
//! - A field name contains none of the usual words.
//! - The length of the window is documented, but not part of the response.
//! - The quota refills continuously, at a documented rate.
//!
//! Without a profile, a misunderstanding is limited: the layer holds requests too long or too short, and corrects
//! itself with the next response. [`max_hold`](crate::rate_limit_retry::RateLimitRetryLayerBuilder::max_hold) bounds
//! the first.

use std::{fmt, time::Duration};

use super::{field::Field, limit::Limit};

/// The documented meaning of one vendor's fields.
///
/// Most vendors need no profile, because the values of their fields are unambiguous. [`Vendor`] has profiles for some
/// vendors that need one; implement the trait for others.
///
/// The methods are called for each response, and should return quickly. They must not depend on anything but their
/// arguments: a field may be read twice.
///
/// # Examples
///
/// A documented window:
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::headers::{HeaderProfile, Limit};
///
/// #[derive(Debug)]
/// struct PerMinute;
///
/// impl HeaderProfile for PerMinute {
///     fn complete(&self, limit: &mut Limit) {
///         limit.window.get_or_insert(Duration::from_secs(60));
///     }
/// }
/// ```
///
/// A field with a name of its own:
///
/// ```
/// use tower_m2m::rate_limit_retry::headers::{Field, HeaderProfile};
///
/// /// Sends the wait in milliseconds.
/// #[derive(Debug)]
/// struct Acme;
///
/// impl HeaderProfile for Acme {
///     fn field(&self, name: &str) -> Option<Field> {
///         (name == "acme-come-back").then_some(Field::RetryAfterMillis)
///     }
/// }
/// ```
pub trait HeaderProfile: fmt::Debug + Send + Sync + 'static {
    /// Returns the meaning of the field `name`, which is in lower case. `None`, the default, applies the general
    /// rules.
    ///
    /// All fields whose names have no meaning by the general rules (`acme-left`, `acme-back-in`) describe the same
    /// quota.
    fn field(&self, name: &str) -> Option<Field> {
        let _ = name;
        None
    }

    /// Adds documented properties to a quota, such as its window. The default adds nothing.
    ///
    /// Must not derive what remains from what remains: a response that differs from earlier ones in this number only is read
    /// without a call.
    ///
    /// Called once for each quota, after all fields have been read. It may also change what the response contains, for
    /// example the unit.
    fn complete(&self, limit: &mut Limit) {
        let _ = limit;
    }

    /// Adds documented properties to one of several quotas in the same fields (`600,30000`). `position` starts at 0.
    /// The default calls [`complete`](Self::complete).
    fn complete_at(&self, limit: &mut Limit, position: usize) {
        let _ = position;
        self.complete(limit);
    }
}

/// The profiles of vendors whose values are ambiguous.
///
/// They are data only, taken from the vendors' documentation. A vendor that is missing here most likely needs no
/// profile. Use a profile in a layer that sends requests to this vendor only.
///
/// # Examples
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::headers::Vendor};
///
/// let layer = RateLimitRetryLayer::builder().profile(Vendor::GITHUB).build();
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Vendor {
    /// Field names and their meaning.
    fields: &'static [(&'static str, Field)],
    /// Names of quotas and the length of their windows, in seconds. An empty name stands for all other quotas.
    windows_by_name: &'static [(&'static str, u64)],
    /// Lengths of windows in seconds, by the position of the quota in a list.
    windows_by_position: &'static [u64],
    /// Number of requests per second that a token bucket refills.
    refill: Option<f64>,
    /// Whether the announced reset is the time when the bucket is full again, although it refills continuously.
    resets_when_full: bool,
}

impl Vendor {
    /// GitHub's REST API: windows of one hour, and one minute for searches.
    pub const GITHUB: Self = Self::new(&[], &[("search", 60), ("code_search", 60), ("", 3600)]);
    /// Hetzner Cloud: refills one request per second; the reset is the time when the quota is full.
    pub const HETZNER: Self = Self {
        refill: Some(1.0),
        resets_when_full: true,
        ..Self::new(&[], &[])
    };
    /// Huobi (HTX) futures: window and reset in milliseconds from now.
    pub const HUOBI: Self = Self::new(
        &[
            ("ratelimit-interval", Field::WindowMillis),
            ("ratelimit-reset", Field::ResetMillis),
        ],
        &[],
    );
    /// KuCoin: reset in milliseconds from now. Recognized without a profile as well.
    pub const KUCOIN: Self = Self::new(&[("gw-ratelimit-reset", Field::ResetMillis)], &[]);
    /// lemlist: windows of two seconds.
    pub const LEMLIST: Self = Self::new(&[], &[("", 2)]);
    /// Linear: windows of one hour.
    pub const LINEAR: Self = Self::new(&[], &[("", 3600)]);
    /// Oracle Access Governance: waits in milliseconds. Recognized without a profile as well.
    pub const ORACLE: Self = Self::new(
        &[
            ("requestlimit-default-retryafter", Field::RetryAfterMillis),
            ("requestlimit-write-retryafter", Field::RetryAfterMillis),
        ],
        &[],
    );
    /// Prisjakt: reset in milliseconds from now.
    pub const PRISJAKT: Self = Self::new(&[("x-rate-limit-reset", Field::ResetMillis)], &[]);
    /// Reddit: windows of ten minutes.
    pub const REDDIT: Self = Self::new(&[], &[("", 600)]);
    /// Salesforce: windows of one day.
    pub const SALESFORCE: Self = Self::new(&[], &[("", 86_400)]);
    /// Sentinel Hub: waits in milliseconds.
    pub const SENTINEL_HUB: Self = Self::new(
        &[
            ("retry-after", Field::RetryAfterMillis),
            ("x-processingunits-retry-after", Field::RetryAfterMillis),
        ],
        &[],
    );
    /// Shopify's REST API: refills two requests per second, for standard plans.
    pub const SHOPIFY: Self = Self {
        refill: Some(2.0),
        ..Self::new(&[], &[])
    };
    /// Strava: windows of 15 minutes and one day, in this order.
    pub const STRAVA: Self = Self {
        windows_by_position: &[900, 86_400],
        ..Self::new(&[], &[])
    };
    /// X: windows of 15 minutes, for most endpoints.
    pub const X: Self = Self::new(&[], &[("", 900)]);

    /// Creates a profile from field meanings and windows by name.
    const fn new(
        fields: &'static [(&'static str, Field)],
        windows: &'static [(&'static str, u64)],
    ) -> Self {
        Self {
            fields,
            windows_by_name: windows,
            windows_by_position: &[],
            refill: None,
            resets_when_full: false,
        }
    }
}

impl HeaderProfile for Vendor {
    fn field(&self, name: &str) -> Option<Field> {
        find_field(self.fields, name)
    }

    fn complete(&self, limit: &mut Limit) {
        limit.refill = limit.refill.or(self.refill);
        // The next request is available after one refill interval, long before the bucket is full.
        if let (true, true, Some(refill)) =
            (self.resets_when_full, limit.is_exhausted(), limit.refill)
        {
            let next = Duration::try_from_secs_f64(1.0 / refill).ok();
            limit.reset = limit.reset.min(next).or(next);
        }
        let name = limit.name.as_deref().unwrap_or_default();
        let rows = self.windows_by_name.iter();
        // The row with this name, or the row for all other quotas.
        let row = rows
            .clone()
            .find(|row| row.0 == name)
            .or_else(|| rows.clone().find(|row| row.0.is_empty()));
        if let Some((_, seconds)) = row {
            limit.window.get_or_insert(Duration::from_secs(*seconds));
        }
    }

    fn complete_at(&self, limit: &mut Limit, position: usize) {
        if let Some(seconds) = self.windows_by_position.get(position) {
            limit.window.get_or_insert(Duration::from_secs(*seconds));
        }
        self.complete(limit);
    }
}

/// Returns the meaning of a field whose name is unambiguous, so that it needs no profile.
pub(super) fn vendor_field(name: &str) -> Option<Field> {
    if name.starts_with("requestlimit-") && name.ends_with("-retryafter") {
        // Oracle Access Governance. The name of a quota is between the prefix and the suffix.
        return Some(Field::RetryAfterMillis);
    }
    find_field(&VENDOR_FIELDS, name)
}

/// Returns the meaning of the field `name` in `fields`.
fn find_field(fields: &[(&str, Field)], name: &str) -> Option<Field> {
    fields
        .iter()
        .find(|field| field.0 == name)
        .map(|field| field.1)
}

/// Field names with only one meaning, and that meaning.
const VENDOR_FIELDS: [(&str, Field); 10] = [
    // KuCoin, in milliseconds.
    ("gw-ratelimit-reset", Field::ResetMillis),
    ("grpc-retry-pushback-ms", Field::RetryPushback),
    // Scopes and reasons, which are not quotas.
    ("ratelimit-reason", Field::Ignored),
    ("sforce-limit-info", Field::UsedOfLimit),
    ("x-amz-retry-after", Field::RetryAfterMillis),
    ("x-amzn-ratelimit-limit", Field::Rate),
    ("x-ratelimit-global", Field::Ignored),
    ("x-ratelimit-scope", Field::Ignored),
    ("x-sentry-rate-limits", Field::CategoryDelays),
    ("x-shopify-shop-api-call-limit", Field::UsedOfLimit),
];
