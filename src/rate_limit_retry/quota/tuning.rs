//! The tuning constants of quotas, which were chosen by measurement.
//!
//! Each affects scenarios of the arena (`benches/arena/src/scenario/`), whose names are shortened here.
//! "tests" stands for the tests of this folder, where no scenario shows the value.
//!
//! | constant | value | reason | scenarios |
//! |---|---|---|---|
//! | [`MIN_EVIDENCE`] | 3 | one observation may be chance, and two often agree by chance | `4 replicas in step`, `reset when full again`, `incorrect remaining` |
//! | [`RECENT_RESPONSES`] | 16 | a mean over fewer is noisy, and one over more lags | `4 replicas`, `60,000 tokens a minute` |
//! | [`MAX_PROBE_INTERVAL`] | 32 | at most 3 % of the windows contain a rejected probe | `fixed window, no headers`, `penalty box of 5 min` |
//! | [`TIMER_RESOLUTION`] | 1 ms | tokio's timers fire at whole milliseconds | `8 at a time`, `token bucket 40/s` |
//! | [`ARRIVAL_TOLERANCE`] | 30 ms | requests sent together arrive at different times | `rejected requests count`, `sliding log, no headers` |
//! | [`LATENCY_TOLERANCE`] | 150 ms | responses to requests sent together arrive at different times | `fixed window, no headers`, `sliding log, no headers` |
//! | [`HINT_RESOLUTION`] | 1 s | servers name whole seconds | `token bucket 5/s`, `headers on 429 only`, `8 processes of 4` with `--workers 48 --limit 120` |
//! | [`USUAL_WINDOW`] | 60 s | the most common window | `penalty box of 5 min, Retry-After only` |
//! | [`PROBES_PER_RANGE`] | 6 | fewer probes find the opening late, and each one is a rejected request | `fixed window, no headers` |
//! | [`WINDOWS_PER_BLOCK`] | 5 | a server that punishes blocks for several windows | `penalty box of 5 min, headers on 429 only` |
//! | [`COMMON_WINDOWS`] | 37 lengths | windows that servers have; one of them within the bounds is more likely than their middle | `no headers`, `rejected requests count` |
//! | [`ESTIMATE_TTL`] | 1 h | the longest window of which requests per window are usually learned | tests |
//! | [`NEARLY_ALL`] | 0.9 | counts of one quota differ because responses are reordered and other clients use it | `neighbour takes half`, `costs of 1 to 5` |
//! | [`MIN_SHARE`] | 1 ÷ 64 | a division by a smaller share would delay all requests | `8 processes of 4`, `4 replicas` |
//! | [`MAX_RATE_RATIO`] | 1.5 | two measurements of one rate differ by less | `token bucket 5/s`, `reset when full again` |
//! | [`GROWTH_INTERVAL`] | 20 | each attempt may cost a rejected request: 5 % of them with a limit of 3 | `8 at a time` |
//! | [`SPACING`] | 0.96 | even spacing itself would otherwise limit the rate | `8 at a time` |
//! | [`MAX_TRIAL`] | 10 s | usual requests have ended by then, and long polls have not | tests |
//! | [`CONCURRENCY_TTL`] | 10 min | a wrong decision ends after it | tests |
//! | [`PROBE_TIMEOUT_FACTOR`] | 8 | a probe that is answered late must not double what is sent | `brown-out of 20 s` |
//!
//! [`RECENT_WEIGHT`], [`RESET_TOLERANCE`] and [`MAX_TOKEN_BUCKET_WAIT`] are derived from them.
//!
//! Numbers that only bound memory or work stay where they are used: the sizes of the log of sends, of the log of a
//! local limit and of the marks of a fleet, and the numbers of quotas and of units. So does the threshold of the fast
//! path (`pace`), which delays no request, and what concerns the reports to a store (`fleet_share`, `report`).

use std::time::Duration;

/// Number of observations that must agree before something is concluded from them: that a reset means "full again",
/// that several replicas count, that an announcement is wrong, that the server's waits are too short, or that a
/// concurrency limit has fallen by more than one. As many requests of the present window also weigh as much as all
/// earlier windows in this process's share.
pub(super) const MIN_EVIDENCE: u32 = 3;
/// Number of responses that count as recent: those that a mean covers, and those in a row that show a change of what a
/// server announces.
pub(super) const RECENT_RESPONSES: u32 = 16;
/// Weight of one response in an exponential mean over [`RECENT_RESPONSES`].
pub(super) const RECENT_WEIGHT: f64 = 2.0 / RECENT_RESPONSES as f64;
/// Maximum number of windows between two probes for a greater limit. Also the greatest factor by which an announcement
/// is doubted later after wrong doubts.
pub(super) const MAX_PROBE_INTERVAL: u32 = 32;
/// Resolution of timers. A shorter wait would not end in time.
pub(super) const TIMER_RESOLUTION: Duration = Duration::from_millis(1);
/// Uncertainty of the times at which the server counts requests.
pub(super) const ARRIVAL_TOLERANCE: Duration = Duration::from_millis(30);
/// Uncertainty of what responses show about times, due to round trips and their jitter. Probes that are closer
/// together show no more than one.
pub(super) const LATENCY_TOLERANCE: Duration = Duration::from_millis(150);
/// Resolution of the waits and resets that servers name. A hold is prolonged at random by at most a quarter of it, so
/// that processes that were throttled together do not send together.
pub(super) const HINT_RESOLUTION: Duration = Duration::from_secs(1);
/// Maximum difference between two announcements of the same reset: one step of the resolution, and half of one for
/// what the responses took.
pub(super) const RESET_TOLERANCE: Duration =
    Duration::from_millis((HINT_RESOLUTION.as_millis() + HINT_RESOLUTION.as_millis() / 2) as u64);
/// Maximum duration of a throttle that indicates a rate. Servers that count in whole seconds name one or two seconds.
pub(super) const MAX_TOKEN_BUCKET_WAIT: Duration = HINT_RESOLUTION
    .saturating_mul(2)
    .saturating_add(LATENCY_TOLERANCE);
/// The most common window. A wait above it may be a block, and a limit without a reset is valid for as long.
pub(super) const USUAL_WINDOW: Duration = Duration::from_secs(60);
/// Number of probes within the time in which a window can open.
pub(super) const PROBES_PER_RANGE: u32 = 6;
/// Number of windows that a block is assumed to last at first.
pub(super) const WINDOWS_PER_BLOCK: u32 = 5;
/// Common lengths of windows, in seconds, in ascending order.
pub(super) const COMMON_WINDOWS: [u64; 37] = [
    1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 45, 50, 60, 61, 75, 90, 100, 120, 150, 180, 240, 300,
    400, 450, 500, 600, 750, 900, 1000, 1200, 1500, 1800, 2400, 3000, 3600, 7200,
];
/// Time after the last request for which limits learned from throttling are kept. No estimate delays a request longer.
pub(super) const ESTIMATE_TTL: Duration = Duration::from_secs(3600);
/// Minimum share that counts as the whole: of a window's limit, of a quota's use, of an earlier count.
pub(super) const NEARLY_ALL: f64 = 0.9;
/// Minimum share of this process in a quota's use, and of a replica in a quota.
pub(super) const MIN_SHARE: f64 = 1.0 / 64.0;
/// Maximum ratio of two measurements of one rate. Nothing is concluded from less precise ones.
pub(super) const MAX_RATE_RATIO: f64 = 1.5;
/// Number of requests accepted at a concurrency limit before it grows by one; 4 times as many after a failed attempt.
pub(super) const GROWTH_INTERVAL: u32 = 20;
/// Interval between two requests at a concurrency limit, as a share of the even distance.
pub(super) const SPACING: f64 = 0.96;
/// Time without a response after which a trial of a concurrency limit ends: what is in flight may be a long poll, which
/// shows nothing.
pub(super) const MAX_TRIAL: Duration = Duration::from_secs(10);
/// Time without a cut after which a learned concurrency limit is removed. Also the time for which a throttled trial
/// excludes concurrency.
pub(super) const CONCURRENCY_TTL: Duration = Duration::from_secs(600);
/// Factor by which a probe may take longer than the first response of a partition.
pub(super) const PROBE_TIMEOUT_FACTOR: u32 = 8;
