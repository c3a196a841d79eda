//! All contestants take turns, round by round, each on all threads at once.

use std::{
    fs::File,
    hint::spin_loop,
    os::unix::fs::FileExt,
    sync::{
        Barrier,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    thread::{available_parallelism, scope},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    allocations::count,
    contestants::{CloneMode, Contestant, Sender},
    inner::Room,
};

#[derive(Clone, Copy)]
pub struct Turns {
    pub room: Room,
    pub quick: bool,
}

impl Turns {
    /// How many rounds, and how long a turn is. Short ones with a core for each thread, so that others who are at work
    /// on the machine do not spoil most of them; with more threads than cores, turns in which these take turns.
    fn rounds(&self, oversubscribed: bool) -> (usize, Duration) {
        match (self.quick, oversubscribed) {
            (true, _) => (3, Duration::from_micros(100)),
            (false, false) => (201, Duration::from_micros(300)),
            (false, true) => (31, Duration::from_millis(3)),
        }
    }
}

/// A barrier for threads. Spins if each thread has a core, so that all start at the same time.
struct Start {
    threads: usize,
    arrived: Option<AtomicUsize>,
    barrier: Barrier,
}

impl Start {
    fn wait(&self) {
        let Some(arrived) = &self.arrived else {
            self.barrier.wait();
            return;
        };
        let before = arrived.fetch_add(1, AcqRel);
        let all = (before / self.threads + 1) * self.threads;
        while arrived.load(Acquire) < all {
            spin_loop();
        }
    }
}

/// What one contestant's requests took, above the median of the bare service.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// ns per request: the time from the first start to the last end, times the threads that can run at once, divided
    /// by all requests. The same on any number of threads for who scales perfectly.
    pub median: f64,
    pub quartiles: [f64; 2],
}

/// In the order of the contestants.
pub fn play(all: &[Contestant], habit: CloneMode, threads: usize, turns: Turns) -> Vec<Figure> {
    let runtime = Handle::current();
    let cores = available_parallelism().map_or(1, usize::from);
    let oversubscribed = threads > cores;
    let (number_of_rounds, turn) = turns.rounds(oversubscribed);
    let start = Start {
        threads,
        arrived: (!oversubscribed).then(AtomicUsize::default),
        barrier: Barrier::new(threads),
    };
    let times: Vec<AtomicU64> = all.iter().map(|_| AtomicU64::new(0)).collect();
    let played: Vec<Played> = scope(|scope| {
        let spawned = (0..threads).map(|number| {
            let (start, times, runtime) = (&start, &times, runtime.clone());
            scope.spawn(move || {
                // Some contestants need a runtime's context for its timers.
                let _entered = runtime.enter();
                let mut senders: Vec<_> = all.iter().map(|c| c.sender(habit, turns.room)).collect();
                calibrate(&mut senders, number == 0, start, times, turn);
                rounds(&mut senders, start, times, number_of_rounds)
            })
        });
        let spawned: Vec<_> = spawned.collect();
        let done = spawned.into_iter().map(|t| t.join().expect("no panic"));
        done.collect()
    });
    let scale = threads.min(cores) as f64 / threads as f64;
    let samples: Vec<Vec<f64>> = (0..all.len())
        .map(|place| {
            let times = times[place].load(Relaxed) as f64;
            let nanoseconds = |span: Duration| span.as_nanos() as f64 * scale / times;
            let spans = (0..number_of_rounds).map(|round| span(&played, round, place));
            let (spoilt, sound): (Vec<_>, Vec<_>) = spans.partition(|(_, spoilt)| *spoilt);
            // With fewer cores than threads, some thread always waits.
            let counted = if oversubscribed || sound.len() < 5 {
                [sound, spoilt].concat()
            } else {
                sound
            };
            let mut samples: Vec<_> = counted.iter().map(|(span, _)| nanoseconds(*span)).collect();
            samples.sort_by(f64::total_cmp);
            samples
        })
        .collect();
    let median_of = |name| {
        let place = all.iter().position(|other| other.name == name)?;
        Some(at(&samples[place], 0.5))
    };
    all.iter()
        .zip(&samples)
        .map(|(contestant, own)| {
            let bare = median_of(contestant.bare).filter(|_| contestant.name != contestant.bare);
            let above = |share| at(own, share) - bare.unwrap_or_default();
            Figure {
                median: above(0.5),
                quartiles: [above(0.25), above(0.75)],
            }
        })
        .collect()
}

/// One thread's turns: by round, then by contestant.
type Played = Vec<Vec<Turn>>;

#[derive(Clone, Copy)]
struct Turn {
    began: Instant,
    ended: Instant,
    /// How long the thread was ready to run, and others ran.
    waited: Duration,
}

/// How long this thread has waited for a processor, where Linux counts it.
struct Waited(Option<File>);

impl Waited {
    fn of_this_thread() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    fn so_far(&self) -> Duration {
        let mut text = [0; 96];
        let read = self
            .0
            .as_ref()
            .and_then(|file| file.read_at(&mut text, 0).ok());
        let text = read.and_then(|length| std::str::from_utf8(&text[..length]).ok());
        let waited = text.and_then(|text| text.split(' ').nth(1)?.parse().ok());
        Duration::from_nanos(waited.unwrap_or_default())
    }
}

/// How many requests make a turn, with all threads at it.
fn calibrate(
    senders: &mut [Sender],
    first: bool,
    start: &Start,
    times: &[AtomicU64],
    turn: Duration,
) {
    for (send, times) in senders.iter_mut().zip(times) {
        start.wait();
        send(CALIBRATION);
        let mut least = f64::MAX;
        for _ in 0..5 {
            start.wait();
            let began = Instant::now();
            send(CALIBRATION);
            start.wait();
            least = least.min(began.elapsed().as_secs_f64());
        }
        if first {
            let each = least / CALIBRATION as f64;
            times.store((turn.as_secs_f64() / each).max(16.0) as u64, Relaxed);
        }
    }
    start.wait();
}

fn rounds(senders: &mut [Sender], start: &Start, times: &[AtomicU64], rounds: usize) -> Played {
    let mut order: Vec<_> = (0..senders.len()).collect();
    // The same order on each thread, and another one in each round.
    let waited = Waited::of_this_thread();
    let mut random = fastrand::Rng::with_seed(1);
    (0..rounds)
        .map(|_| {
            random.shuffle(&mut order);
            let mut turns = vec![None; senders.len()];
            for &place in &order {
                let times = times[place].load(Relaxed);
                start.wait();
                let before = waited.so_far();
                let began = Instant::now();
                senders[place](times);
                let ended = Instant::now();
                let waited = waited.so_far() - before;
                turns[place] = Some(Turn {
                    began,
                    ended,
                    waited,
                });
            }
            turns.into_iter().flatten().collect()
        })
        .collect()
}

/// From the first start to the last end, and whether others ran in the place of a thread.
fn span(played: &[Played], round: usize, place: usize) -> (Duration, bool) {
    let turns = played.iter().map(|thread| thread[round][place]);
    let began = turns.clone().map(|turn| turn.began).min();
    let ended = turns.clone().map(|turn| turn.ended).max();
    let span = ended.zip(began).map_or(Duration::ZERO, |(e, b)| e - b);
    (span, turns.into_iter().any(|turn| turn.waited > span / 50))
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// For each request above the bare service, in the order of the contestants.
pub fn allocations_above_bare(all: &[Contestant]) -> Vec<f64> {
    let counted: Vec<_> = all.iter().map(allocations).collect();
    let bare = |one: &Contestant| all.iter().position(|other| other.name == one.bare);
    let above = all.iter().zip(&counted).map(|(one, own)| {
        let bare = bare(one).map_or(0.0, |bare| counted[bare]);
        own - bare
    });
    above.collect()
}

/// For each request, on one thread with a kept clone, when there is room for another header.
fn allocations(contestant: &Contestant) -> f64 {
    let mut send = contestant.sender(CloneMode::Reused, Room::Yes);
    // Until nothing is new any more.
    send(5000);
    let counted = count(|| send(1000));
    counted.allocations as f64 / 1000.0
}

const CALIBRATION: u64 = 200;
