//! Clients and a server in virtual time: workers in closed loops, round trips with jitter, and processing times.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::*;

/// A server in a simulation. Times are microseconds since the start.
pub(super) trait Server {
    /// Decides on a request that arrives. `Ok` is its processing time; `Err` throttles it. The second value is what the
    /// response announces.
    fn take(&mut self, at: u64) -> (Result<u64, ()>, RateLimitInfo);
    /// Records that an accepted request has been processed.
    fn finish(&mut self, _at: u64) {}
}

/// The load of a simulation.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) processes: usize,
    pub(super) workers: usize,
    pub(super) jobs: usize,
    /// Round trip in microseconds, without processing. Each direction varies by up to 10 %.
    pub(super) rtt: u64,
    pub(super) seed: u64,
}

/// The result of a simulation.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) seconds: f64,
    pub(super) throttled: usize,
    /// Number of requests that were sent before a time that the server had named.
    pub(super) early: usize,
    /// The times at which requests were accepted or throttled, by the server.
    pub(super) log: Vec<(f64, bool)>,
}

enum Event {
    Arrives,
    Finishes,
    Responds(bool, RateLimitInfo),
    Wakes,
}

struct Client {
    quota: Quota,
    /// Workers that have a job and wait.
    waiting: VecDeque<()>,
    named: u64,
    wake: Option<u64>,
}

pub(super) fn run(server: &mut dyn Server, load: Load) -> Figures {
    let began = origin();
    let mut random = fastrand::Rng::with_seed(load.seed);
    let mut clients: Vec<_> = (0..load.processes)
        .map(|_| Client {
            quota: Quota::new(&CONFIG, None),
            waiting: VecDeque::from(vec![(); load.workers]),
            named: 0,
            wake: None,
        })
        .collect();
    let mut left = load.jobs - load.processes * load.workers;
    let mut figures = Figures {
        seconds: 0.0,
        throttled: 0,
        early: 0,
        log: Vec::new(),
    };
    let mut events: BinaryHeap<Reverse<(u64, u64, usize, u64)>> = BinaryHeap::new();
    let mut kinds: HashMap<u64, Event> = HashMap::new();
    let mut id = 0;
    let (mut now, mut done) = (0u64, 0);
    macro_rules! schedule {
        ($at:expr, $client:expr, $number:expr, $event:expr) => {{
            id += 1;
            kinds.insert(id, $event);
            events.push(Reverse(($at, id, $client, $number)));
        }};
    }
    for client in 0..clients.len() {
        schedule!(0, client, 0, Event::Wakes);
    }
    while done < load.jobs {
        let Reverse((at, event, client, number)) = events.pop().expect("no deadlock");
        now = at;
        assert!(
            now < 200_000 * 1_000_000,
            "too slow: {done} of {}",
            load.jobs
        );
        let mut way = || (load.rtt as f64 * (0.45 + 0.1 * random.f64())) as u64;
        let instant = began + Duration::from_micros(now);
        match kinds.remove(&event).unwrap() {
            Event::Arrives => {
                let (result, info) = server.take(now);
                figures.log.push((now as f64 / 1e6, result.is_ok()));
                match result {
                    Ok(0) => schedule!(now + way(), client, number, Event::Responds(false, info)),
                    Ok(service) => {
                        schedule!(now + service, client, number, Event::Finishes);
                        schedule!(
                            now + service + way(),
                            client,
                            number,
                            Event::Responds(false, info)
                        );
                    }
                    Err(()) => schedule!(now + way(), client, number, Event::Responds(true, info)),
                }
                continue;
            }
            Event::Finishes => {
                server.finish(now);
                continue;
            }
            Event::Responds(throttled, info) => {
                let it = &mut clients[client];
                let outcome = Outcome::Response {
                    throttled,
                    info: &info,
                };
                it.quota.record(
                    Sent {
                        number,
                        load: &super::super::Load::ONE,
                    },
                    outcome,
                    Scope::Partition,
                    &CONFIG,
                    random.f64(),
                    Some(instant),
                );
                if throttled {
                    figures.throttled += 1;
                    it.waiting.push_back(());
                    if let Some(hint) = info.retry_after {
                        it.named = it.named.max(now + hint.as_micros() as u64);
                    }
                } else {
                    done += 1;
                    if left > 0 {
                        left -= 1;
                        it.waiting.push_back(());
                    }
                }
            }
            Event::Wakes => clients[client].wake = None,
        }
        let it = &mut clients[client];
        while !it.waiting.is_empty() {
            match it.quota.admit(&super::super::Load::ONE, &CONFIG, instant) {
                SendTime::Never => panic!("one request is never too many"),
                SendTime::Now => {
                    it.waiting.pop_front();
                    figures.early += usize::from(now < it.named);
                    let number = it.quota.enter(&super::super::Load::ONE, &CONFIG, instant);
                    let way = (load.rtt as f64 * (0.45 + 0.1 * random.f64())) as u64;
                    schedule!(now + way, client, number, Event::Arrives);
                }
                SendTime::NotBefore(at) | SendTime::AfterResponse(Some(at)) => {
                    // Timers have a resolution of 1 ms.
                    let at = (at - began).as_micros() as u64 / 1000 * 1000 + 1000;
                    if it.wake.is_none_or(|known| at < known) {
                        it.wake = Some(at);
                        schedule!(at, client, 0, Event::Wakes);
                    }
                    break;
                }
                SendTime::AfterResponse(None) => {
                    assert!(it.quota.in_flight() > 0, "no response will arrive");
                    break;
                }
            }
        }
    }
    figures.seconds = now as f64 / 1e6;
    figures
}
