//! All contestants take turns, round by round, each on all threads at once.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{available_parallelism, scope},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    allocations::count,
    contestants::{Contestant, Habit, Sender},
    inner::Room,
};

#[derive(Clone, Copy)]
pub struct Turns {
    pub room: Room,
    pub rounds: usize,
    pub turn: Duration,
}

/// What one contestant's requests took, above the bare service in the same round.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// ns per request: the time from the first start to the last end, times the threads that can run at once, divided
    /// by all requests. The same on any number of threads for who scales perfectly.
    pub median: f64,
    pub quartiles: [f64; 2],
}

/// In the order of the contestants.
pub fn play(all: &[Contestant], habit: Habit, threads: usize, turns: Turns) -> Vec<Figure> {
    let runtime = Handle::current();
    let barrier = Barrier::new(threads);
    let times: Vec<AtomicU64> = all.iter().map(|_| AtomicU64::new(0)).collect();
    let played: Vec<Played> = scope(|scope| {
        let spawned = (0..threads).map(|number| {
            let (barrier, times, runtime) = (&barrier, &times, runtime.clone());
            scope.spawn(move || {
                // Some peers look for a runtime, for its timers.
                let _entered = runtime.enter();
                let mut senders: Vec<_> = all.iter().map(|c| c.sender(habit, turns.room)).collect();
                calibrate(&mut senders, number == 0, barrier, times, turns.turn);
                rounds(&mut senders, barrier, times, turns.rounds)
            })
        });
        let spawned: Vec<_> = spawned.collect();
        let done = spawned.into_iter().map(|t| t.join().expect("no panic"));
        done.collect()
    });
    let cores = available_parallelism().map_or(1, usize::from);
    let scale = threads.min(cores) as f64 / threads as f64;
    let samples: Vec<Vec<f64>> = (0..all.len())
        .map(|place| {
            let times = times[place].load(Relaxed) as f64;
            let round = |round| span(&played, round, place).as_nanos() as f64 * scale / times;
            (0..turns.rounds).map(round).collect()
        })
        .collect();
    all.iter()
        .zip(&samples)
        .map(|(contestant, own)| {
            let bare = all.iter().position(|other| other.name == contestant.bare);
            let bare = bare.filter(|_| contestant.name != contestant.bare);
            let above = own.iter().enumerate();
            let above = above.map(|(round, ns)| ns - bare.map_or(0.0, |b| samples[b][round]));
            figure(above.collect())
        })
        .collect()
}

/// Starts and ends of one thread's turns: by round, then by contestant.
type Played = Vec<Vec<(Instant, Instant)>>;

/// How many requests make a turn, with all threads at it.
fn calibrate(
    senders: &mut [Sender],
    first: bool,
    barrier: &Barrier,
    times: &[AtomicU64],
    turn: Duration,
) {
    for (send, times) in senders.iter_mut().zip(times) {
        barrier.wait();
        send(CALIBRATION);
        barrier.wait();
        let began = Instant::now();
        send(CALIBRATION);
        barrier.wait();
        let each = began.elapsed().as_secs_f64() / CALIBRATION as f64;
        if first {
            times.store((turn.as_secs_f64() / each).max(16.0) as u64, Relaxed);
        }
    }
    barrier.wait();
}

fn rounds(senders: &mut [Sender], barrier: &Barrier, times: &[AtomicU64], rounds: usize) -> Played {
    let mut order: Vec<_> = (0..senders.len()).collect();
    // The same order on each thread, and another one in each round.
    let mut random = fastrand::Rng::with_seed(1);
    (0..rounds)
        .map(|_| {
            random.shuffle(&mut order);
            let mut turns = vec![None; senders.len()];
            for &place in &order {
                let times = times[place].load(Relaxed);
                barrier.wait();
                let began = Instant::now();
                senders[place](times);
                turns[place] = Some((began, Instant::now()));
            }
            turns.into_iter().flatten().collect()
        })
        .collect()
}

/// From the first start to the last end.
fn span(played: &[Played], round: usize, place: usize) -> Duration {
    let turns = played.iter().map(|thread| thread[round][place]);
    let began = turns.clone().map(|(began, _)| began).min();
    let ended = turns.map(|(_, ended)| ended).max();
    ended.zip(began).map_or(Duration::ZERO, |(e, b)| e - b)
}

fn figure(mut samples: Vec<f64>) -> Figure {
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
    Figure {
        median: at(0.5),
        quartiles: [at(0.25), at(0.75)],
    }
}

/// For each request, on one thread with a kept clone, when there is room for another header.
pub fn allocations(contestant: &Contestant) -> f64 {
    let mut send = contestant.sender(Habit::Kept, Room::Yes);
    // Until nothing is new any more.
    send(5000);
    let counted = count(|| send(1000));
    counted.allocations as f64 / 1000.0
}

const CALIBRATION: u64 = 500;
