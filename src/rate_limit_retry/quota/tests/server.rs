//! Simulated servers that announce their quota, with one client.

use proptest::prelude::*;

use super::*;

/// Counts in windows of a fixed length, or of any `window` that ends now.
struct Server {
    limit: u64,
    window: Duration,
    sliding: bool,
    /// Announces nothing, and counts throttled requests, too.
    counts_throttled: bool,
    /// Announces resets in whole seconds, rounded up.
    whole_seconds: bool,
    /// When the window began.
    began: Instant,
    accepted: Vec<Instant>,
    throttled: usize,
}

impl Server {
    /// Of the first window so much has passed already.
    fn new(limit: u64, window: Duration, passed: Duration) -> Self {
        Self {
            limit,
            window,
            sliding: false,
            counts_throttled: false,
            whole_seconds: false,
            began: origin() - passed,
            accepted: Vec::new(),
            throttled: 0,
        }
    }

    /// Handles a request that arrives `now`. Returns whether it is throttled, and what the response announces.
    fn take(&mut self, now: Instant) -> (bool, RateLimitInfo) {
        let start = if self.sliding {
            self.accepted.retain(|at| *at + self.window > now);
            self.accepted.first().copied().unwrap_or(now)
        } else {
            while now >= self.began + self.window {
                self.began += self.window;
            }
            let began = self.began;
            self.accepted.retain(|at| *at >= began);
            began
        };
        let used = self.accepted.len() as u64;
        let over = used >= self.limit;
        if over {
            self.throttled += 1;
        } else {
            self.accepted.push(now);
        }
        if self.counts_throttled {
            if over {
                self.accepted.push(now);
            }
            return (over, RateLimitInfo::default());
        }
        let remaining = self.limit - self.accepted.len() as u64;
        let reset = start + self.window - now;
        let whole = secs(reset.as_secs() + u64::from(reset.subsec_nanos() > 0));
        let reset = if self.whole_seconds { whole } else { reset };
        let mut info = announcing(self.limit, remaining, reset);
        info.retry_after = over.then_some(reset);
        (over, info)
    }
}

/// What happens next to a request that is under way.
enum Leg {
    Arrives,
    Responds(bool, RateLimitInfo),
}

const JOBS: usize = 300;

/// Runs one client that sends whenever it is admitted, with these delays in milliseconds in both directions, and pauses
/// before some requests. Returns the duration.
fn run(server: &mut Server, delays: &[(u64, u64)], mut pauses: Vec<(usize, u64)>) -> Duration {
    let mut world = TestQuota::new();
    let began = world.now;
    let mut legs: Vec<(Instant, u64, Leg)> = Vec::new();
    let (mut sent, mut done) = (0, 0);
    while done < JOBS {
        let pause = pauses.iter().position(|(when, _)| *when == sent);
        if let Some(pause) = pause.filter(|_| legs.is_empty()) {
            world.advance(ms(pauses.remove(pause).1));
        }
        while sent < JOBS && pauses.iter().all(|(when, _)| *when != sent) {
            let Some(number) = world.send() else { break };
            let (there, _) = delays[sent % delays.len()];
            legs.push((world.now + ms(there), number, Leg::Arrives));
            sent += 1;
        }
        legs.sort_by_key(|(at, ..)| *at);
        if legs.is_empty() {
            world.wait();
            continue;
        }
        let next = legs[0].0;
        if let SendTime::NotBefore(at) | SendTime::AfterResponse(Some(at)) = world.admit()
            && at < next
        {
            assert!(at > world.now, "a wait that has ended");
            world.now = at;
            continue;
        }
        let (at, number, leg) = legs.remove(0);
        world.now = at;
        match leg {
            Leg::Arrives => {
                let (refused, info) = server.take(at);
                let (_, back) = delays[number as usize % delays.len()];
                legs.push((at + ms(back), number, Leg::Responds(refused, info)));
            }
            Leg::Responds(refused, info) => {
                done += 1;
                if refused {
                    world.throttle(number, &info);
                } else {
                    world.succeed(number, &info);
                }
            }
        }
    }
    world.now - began
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_single_client_never_exceeds_an_announced_quota(
        limit in 8..80u64,
        window in 2_000..90_000u64,
        passed in 0..90_000u64,
        sliding in any::<bool>(),
        coarse in any::<bool>(),
        delays in prop::collection::vec((1..120u64, 1..120u64), 1..50),
        pauses in prop::collection::vec((0..JOBS, 0..40_000u64), 0..4),
    ) {
        let paused: u64 = pauses.iter().map(|(_, pause)| *pause).sum();
        let windows = u32::try_from(JOBS as u64 / limit).unwrap() + 2;
        let mut server = Server::new(limit, ms(window), ms(passed % window));
        // Resets in whole seconds do not distinguish windows of two seconds, and neither do resets that move.
        server.sliding = sliding && window >= 5000;
        server.whole_seconds = coarse && window >= 5000;

        let took = run(&mut server, &delays, pauses);

        // Where every answer names another reset, those that overtake each other can be mistaken.
        prop_assert!(server.throttled <= if server.sliding { JOBS / 30 } else { 0 }, "{} refused", server.throttled);
        let longest = windows * (ms(window) + ms(3000)) + ms(paused);
        prop_assert!(took <= longest, "{took:?} of {longest:?}");
    }
}

/// Eight go at once, just before a window ends: some are counted in it and some in the next, and the answers overtake
/// each other.
#[test]
fn an_overtaken_response_of_the_next_window_is_kept() {
    let mut server = Server::new(11, ms(65_160), ms(65_094));
    server.whole_seconds = true;
    let mut delays = [(1, 1); 11];
    delays[7] = (89, 1);
    delays[10] = (43, 25);

    run(&mut server, &delays, Vec::new());

    assert_eq!(server.throttled, 0);
}

/// A server that counts throttled requests, and announces nothing, would throttle a client forever that sends often
/// enough.
#[test]
fn a_server_that_counts_throttled_requests_is_not_probed_early() {
    for (limit, window) in [(37, 7_000), (50, 20_000), (100, 60_000)] {
        let mut server = Server::new(limit, ms(window), ms(0));
        (server.sliding, server.counts_throttled) = (true, true);
        let mut world = TestQuota::new();
        let (began, mut accepted) = (world.now, 0);

        while accepted < 8 * limit {
            let Some(number) = world.send() else {
                world.wait();
                continue;
            };
            world.advance(ms(20));
            let (refused, silence) = server.take(world.now);
            world.advance(ms(20));
            assert!(server.throttled <= 25, "{} of {limit}", server.throttled);
            if refused {
                world.throttle(number, &silence);
            } else {
                accepted += 1;
                world.succeed(number, &silence);
            }
            assert!(server.throttled <= 25, "{} of {limit}", server.throttled);
        }

        // At least seven windows, and more for the probes while nothing was known.
        let took = world.now - began;
        assert!(took <= 11 * ms(window), "{took:?} for {limit}");
    }
}
