//! What the value of a field cannot tell, and only the vendor's documentation does.

use std::{fmt, time::Duration};

use super::{field::Field, limit::Limit};

/// What is documented about one vendor's fields.
///
/// Most dialects are told apart by their values, and need none. [`Vendor`] has rows for some that do; implement the
/// trait for others.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::headers::{Field, Profile};
///
/// /// Sends the wait in milliseconds.
/// #[derive(Debug)]
/// struct Acme;
///
/// impl Profile for Acme {
///     fn field(&self, name: &str) -> Option<Field> {
///         (name == "acme-come-back").then_some(Field::RetryAfterMillis)
///     }
/// }
/// ```
pub trait Profile: fmt::Debug + Send + Sync + 'static {
    /// What the field with this name, in lower case, says. `None`, the default, leaves it to the general rules.
    ///
    /// Fields whose names tell nothing by themselves (`acme-left`, `acme-back-in`) are about one and the same quota.
    fn field(&self, name: &str) -> Option<Field> {
        let _ = name;
        None
    }

    /// Adds to a quota what the response does not say. The default adds nothing.
    fn complete(&self, limit: &mut Limit) {
        let _ = limit;
    }

    /// The same for one of several quotas in the same fields (`600,30000`), the first of which has the `position` 0. The
    /// default is [`complete`](Self::complete).
    fn complete_at(&self, limit: &mut Limit, position: usize) {
        let _ = position;
        self.complete(limit);
    }
}

/// One row for each vendor whose values need to be explained.
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
    fields: &'static [(&'static str, Field)],
    /// Names of quotas, an empty one for all others, and their windows in seconds.
    windows: &'static [(&'static str, u64)],
    /// The windows in seconds of quotas that are told by their position in a list.
    positions: &'static [u64],
    /// What comes back in a second.
    refill: Option<f64>,
    /// The reset is when everything is back, although it comes back by and by.
    fills_up: bool,
}

impl Vendor {
    /// GitHub's REST API: an hour, and a minute for searches.
    pub const GITHUB: Self = Self::new(&[], &[("search", 60), ("code_search", 60), ("", 3600)]);
    /// Hetzner Cloud: one request comes back in a second; the reset is when all are back.
    pub const HETZNER: Self = Self {
        refill: Some(1.0),
        fills_up: true,
        ..Self::new(&[], &[])
    };
    /// Huobi (HTX) futures: the window and the reset in milliseconds from now.
    pub const HUOBI: Self = Self::new(
        &[
            ("ratelimit-interval", Field::WindowMillis),
            ("ratelimit-reset", Field::ResetMillis),
        ],
        &[],
    );
    /// KuCoin: the reset in milliseconds from now. Also known without a profile.
    pub const KUCOIN: Self = Self::new(&[("gw-ratelimit-reset", Field::ResetMillis)], &[]);
    /// lemlist: two seconds.
    pub const LEMLIST: Self = Self::new(&[], &[("", 2)]);
    /// Linear: an hour.
    pub const LINEAR: Self = Self::new(&[], &[("", 3600)]);
    /// Oracle Access Governance: the waits in milliseconds. Also known without a profile.
    pub const ORACLE: Self = Self::new(
        &[
            ("requestlimit-default-retryafter", Field::RetryAfterMillis),
            ("requestlimit-write-retryafter", Field::RetryAfterMillis),
        ],
        &[],
    );
    /// Prisjakt: the reset in milliseconds from now.
    pub const PRISJAKT: Self = Self::new(&[("x-rate-limit-reset", Field::ResetMillis)], &[]);
    /// Reddit: ten minutes.
    pub const REDDIT: Self = Self::new(&[], &[("", 600)]);
    /// Salesforce: a day.
    pub const SALESFORCE: Self = Self::new(&[], &[("", 86_400)]);
    /// Sentinel Hub: the waits in milliseconds.
    pub const SENTINEL_HUB: Self = Self::new(
        &[
            ("retry-after", Field::RetryAfterMillis),
            ("x-processingunits-retry-after", Field::RetryAfterMillis),
        ],
        &[],
    );
    /// Shopify's REST API: two requests in a second, for standard plans.
    pub const SHOPIFY: Self = Self {
        refill: Some(2.0),
        ..Self::new(&[], &[])
    };
    /// Strava: 15 minutes and a day, in this order.
    pub const STRAVA: Self = Self {
        positions: &[900, 86_400],
        ..Self::new(&[], &[])
    };
    /// X: 15 minutes for most endpoints.
    pub const X: Self = Self::new(&[], &[("", 900)]);

    const fn new(
        fields: &'static [(&'static str, Field)],
        windows: &'static [(&'static str, u64)],
    ) -> Self {
        Self {
            fields,
            windows,
            positions: &[],
            refill: None,
            fills_up: false,
        }
    }
}

impl Profile for Vendor {
    fn field(&self, name: &str) -> Option<Field> {
        look_up(self.fields, name)
    }

    fn complete(&self, limit: &mut Limit) {
        limit.refill = limit.refill.or(self.refill);
        if let (true, true, Some(refill)) = (self.fills_up, limit.is_exhausted(), limit.refill) {
            let next = Duration::try_from_secs_f64(1.0 / refill).ok();
            limit.reset = limit.reset.min(next).or(next);
        }
        let name = limit.name.as_deref().unwrap_or_default();
        let rows = self.windows.iter();
        let row = rows
            .clone()
            .find(|row| row.0 == name)
            .or_else(|| rows.clone().find(|row| row.0.is_empty()));
        if let Some((_, seconds)) = row {
            limit.window.get_or_insert(Duration::from_secs(*seconds));
        }
    }

    fn complete_at(&self, limit: &mut Limit, position: usize) {
        if let Some(seconds) = self.positions.get(position) {
            limit.window.get_or_insert(Duration::from_secs(*seconds));
        }
        self.complete(limit);
    }
}

/// Fields whose names are one vendor's own, so that they are known without a profile.
pub(super) fn unmistakable(name: &str) -> Option<Field> {
    if name.starts_with("requestlimit-") && name.ends_with("-retryafter") {
        // Oracle Access Governance, with the name of a quota in between.
        return Some(Field::RetryAfterMillis);
    }
    look_up(&UNMISTAKABLE, name)
}

fn look_up(fields: &[(&str, Field)], name: &str) -> Option<Field> {
    fields
        .iter()
        .find(|field| field.0 == name)
        .map(|field| field.1)
}

const UNMISTAKABLE: [(&str, Field); 10] = [
    // KuCoin's, in milliseconds.
    ("gw-ratelimit-reset", Field::ResetMillis),
    ("grpc-retry-pushback-ms", Field::Pushback),
    // Scopes and notes, not quotas.
    ("ratelimit-reason", Field::Ignored),
    ("sforce-limit-info", Field::UsedOfLimit),
    ("x-amz-retry-after", Field::RetryAfterMillis),
    ("x-amzn-ratelimit-limit", Field::Rate),
    ("x-ratelimit-global", Field::Ignored),
    ("x-ratelimit-scope", Field::Ignored),
    ("x-sentry-rate-limits", Field::Cooldowns),
    ("x-shopify-shop-api-call-limit", Field::UsedOfLimit),
];
