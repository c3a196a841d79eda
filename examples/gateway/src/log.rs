//! The log: what repeats itself is limited, and the lines left out are counted.
//!
//! While an issuer or an upstream is away, every request fails for the same reason. Of lines that say the same about the
//! same tenant, [`LINES`] are written in each [`PERIOD`]; after it, one line says how many more there were.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt::{self, Write as _},
    hash::{Hash, Hasher},
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower_m2m::BoxError;
use tracing::{
    Event, Metadata,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer as _, Registry,
    filter::{FilterExt as _, Targets},
    layer::{Context, Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::now;

/// Number of lines that say the same in one [`PERIOD`].
const LINES: u64 = 5;

/// Period that [`LINES`] counts in.
const PERIOD: Duration = Duration::from_secs(10);

/// Maximum number of different lines that are counted apart.
const MAX_KINDS: usize = 4096;

/// Target of the lines that say how many were left out, which are always written.
const TARGET: &str = "gateway::log";

/// Writes the log to standard error, with colours if that is a terminal and `NO_COLOR` is not set.
///
/// `GATEWAY_LOG` sets the levels, such as `info,tower_m2m=debug`. Default: `info`.
///
/// # Errors
///
/// If `GATEWAY_LOG` is malformed, or the process has a log already.
pub fn init(variable: impl Fn(&str) -> Option<String>) -> Result<Repeated, BoxError> {
    let levels = variable("GATEWAY_LOG").unwrap_or_else(|| "info".to_owned());
    let levels: Targets = levels
        .parse()
        .map_err(|error| format!("GATEWAY_LOG is not a list of levels: {error}"))?;
    let colours =
        io::stderr().is_terminal() && variable("NO_COLOR").is_none_or(|set| set.is_empty());
    let repeated = Repeated::default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colours);
    let filter = levels.and(repeated.clone());
    Registry::default()
        .with(lines.with_filter(filter))
        .try_init()?;
    Ok(repeated)
}

/// Lines that are left out because they were written often enough.
#[derive(Clone, Debug, Default)]
pub struct Repeated(Arc<Mutex<Counts>>);

impl Repeated {
    /// Says once in a while how many lines were left out. Does not return.
    pub async fn report(self) {
        loop {
            sleep(Duration::from_secs(1)).await;
            self.write(|counts| counts.overflow(now()));
        }
    }

    /// Says now how many lines were left out: at the end of the program.
    pub fn report_all(&self) {
        self.write(Counts::all);
    }

    fn write(&self, which: impl FnOnce(&mut Counts) -> Vec<Sum>) {
        let sums = which(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for Sum { count, about } in sums {
            tracing::warn!(target: TARGET, count, about, "repeated log lines suppressed");
        }
    }
}

impl<S> Filter<S> for Repeated {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.target() == TARGET {
            return true;
        }
        let mut labels = Labels::default();
        event.record(&mut labels);
        let mut hasher = DefaultHasher::new();
        (metadata.callsite(), &labels.of).hash(&mut hasher);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.admit(hasher.finish(), now(), || labels.to_string())
    }
}

/// What distinguishes log lines, besides their location.
#[derive(Debug, Default)]
struct Labels {
    message: String,
    of: String,
}

impl Visit for Labels {
    fn record_str(&mut self, field: &Field, value: &str) {
        let labels = [
            "tenant",
            "credential",
            "partition",
            "outcome",
            "reason",
            "listener",
            "by",
        ];
        if labels.contains(&field.name()) {
            // Writing to a string does not fail.
            let _ = write!(self.of, " {}={value}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        }
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.message, self.of)
    }
}

/// How often each kind of line came. Time comes in as an argument.
#[derive(Debug, Default)]
struct Counts(HashMap<u64, Count>);

#[derive(Debug)]
struct Count {
    since: Instant,
    lines: u64,
    left_out: u64,
    about: String,
}

/// Lines that were left out.
#[derive(Debug, Eq, PartialEq)]
struct Sum {
    count: u64,
    about: String,
}

impl Counts {
    /// Whether a line is written.
    fn admit(&mut self, kind: u64, now: Instant, about: impl FnOnce() -> String) -> bool {
        let full = self.0.len() >= MAX_KINDS;
        // Beyond that, all others are one kind.
        let (kind, other) = match full && !self.0.contains_key(&kind) {
            true => (0, true),
            false => (kind, false),
        };
        let count = self.0.entry(kind).or_insert_with(|| Count {
            since: now,
            lines: 0,
            left_out: 0,
            about: match other {
                true => "others".to_owned(),
                false => about(),
            },
        });
        // What was left out before is reported first.
        if count.left_out == 0 && now.saturating_duration_since(count.since) >= PERIOD {
            (count.since, count.lines) = (now, 0);
        }
        if count.lines < LINES {
            count.lines += 1;
            return true;
        }
        count.left_out += 1;
        false
    }

    /// The sums of the periods that are over, which end with this.
    fn overflow(&mut self, now: Instant) -> Vec<Sum> {
        self.take(|count| now.saturating_duration_since(count.since) >= PERIOD)
    }

    fn all(&mut self) -> Vec<Sum> {
        self.take(|_| true)
    }

    fn take(&mut self, is_over: impl Fn(&Count) -> bool) -> Vec<Sum> {
        let mut sums = Vec::new();
        self.0.retain(|_, count| {
            let over = is_over(count);
            if over && count.left_out > 0 {
                let about = std::mem::take(&mut count.about);
                sums.push(Sum {
                    count: count.left_out,
                    about,
                });
            }
            !over
        });
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_are_rate_limited_and_summarized() {
        let (mut counts, began) = (Counts::default(), now());
        let about = || "request failed tenant=acme".to_owned();

        let written = (0..1000).filter(|_| counts.admit(1, began, about)).count();
        assert_eq!(written as u64, LINES);
        assert!(counts.admit(2, began, String::new), "another kind");
        assert_eq!(counts.overflow(began + PERIOD / 2), []);

        let [sum] = &counts.overflow(began + PERIOD)[..] else {
            panic!("one sum");
        };
        assert_eq!((sum.count, sum.about.as_str()), (995, &*about()));
        assert!(counts.admit(1, began + PERIOD, about), "a new period");
    }

    #[test]
    fn rare_lines_are_always_written() {
        let (mut counts, began) = (Counts::default(), now());
        for second in 0..1000 {
            let at = began + Duration::from_secs(3 * second);
            assert!(counts.admit(1, at, String::new), "{second}");
        }
        assert_eq!(counts.all(), []);
    }

    #[test]
    fn memory_for_repeated_lines_is_bounded() {
        let (mut counts, began) = (Counts::default(), now());
        for kind in 1..=100_000 {
            counts.admit(kind, began, String::new);
        }

        assert!(counts.0.len() <= MAX_KINDS + 1);
        let sums = counts.all();
        assert_eq!(sums.len(), 1);
        assert_eq!(sums[0].about, "others");
        assert_eq!(sums[0].count, 100_000 - MAX_KINDS as u64 - LINES);
    }
}
