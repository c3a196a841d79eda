//! Servers that tell their quota, with one client.

use proptest::prelude::*;

use super::*;

/// Counts in windows of a fixed length, or of any `window` that ends now.
struct Server {
    limit: u64,
    window: Duration,
    sliding: bool,
    /// Tells resets in whole seconds, rounded up.
    coarse: bool,
    began: Instant,
    accepted: Vec<Instant>,
    refused: usize,
}

impl Server {
    /// Takes a request that arrives `now`. Returns whether it is refused, and what the answer says.
    fn take(&mut self, now: Instant) -> (bool, Signals) {
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
            self.refused += 1;
        } else {
            self.accepted.push(now);
        }
        let remaining = self.limit - self.accepted.len() as u64;
        let reset = start + self.window - now;
        let whole = secs(reset.as_secs() + u64::from(reset.subsec_nanos() > 0));
        let reset = if self.coarse { whole } else { reset };
        let mut signals = telling(self.limit, remaining, reset);
        signals.retry_after = over.then_some(reset);
        (over, signals)
    }
}

/// What happens next to a request that is under way.
enum Leg {
    Arrives,
    Answered(bool, Signals),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_quota_that_is_told_is_never_exceeded_by_one_client_alone(
        limit in 8..80u64,
        window in 2_000..90_000u64,
        offset in 0..90_000u64,
        sliding in any::<bool>(),
        coarse in any::<bool>(),
        delays in prop::collection::vec((1..120u64, 1..120u64), 1..50),
        pauses in prop::collection::vec((0..300usize, 0..40_000u64), 0..4),
    ) {
        let mut world = World::new();
        let mut server = Server {
            limit,
            window: ms(window),
            sliding,
            coarse,
            began: world.now - ms(offset % window),
            accepted: Vec::new(),
            refused: 0,
        };
        let mut legs: Vec<(Instant, u64, Leg)> = Vec::new();
        let mut sent = 0;
        let mut done = 0;
        let paused: u64 = pauses.iter().map(|(_, pause)| *pause).sum();
        let mut pauses = pauses;
        let began = world.now;
        while done < 300 {
            let pause = pauses.iter().position(|(when, _)| *when == sent);
            if let Some(pause) = pause.filter(|_| legs.is_empty()) {
                world.pass(ms(pauses.remove(pause).1));
            }
            let pauses_at = |sent| pauses.iter().any(|(when, _)| *when == sent);
            while sent < 300 && !pauses_at(sent) {
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
            if let Admit::NotBefore(at) | Admit::AfterAnswer(Some(at)) = world.admit() && at < next {
                world.now = at;
                continue;
            }
            let (at, number, leg) = legs.remove(0);
            world.now = at;
            match leg {
                Leg::Arrives => {
                    let (refused, signals) = server.take(at);
                    let (_, back) = delays[number as usize % delays.len()];
                    legs.push((at + ms(back), number, Leg::Answered(refused, signals)));
                }
                Leg::Answered(false, signals) => {
                    world.accept(number, &signals);
                    done += 1;
                }
                Leg::Answered(true, signals) => {
                    world.refuse(number, &signals);
                    done += 1;
                }
            }
        }

        // Where every answer names another reset, those that overtake each other can be mistaken.
        prop_assert!(server.refused <= if sliding { 3 } else { 0 }, "{} refused", server.refused);
        // And the quota is used.
        let windows = u32::try_from(300 / limit).unwrap() + 2;
        let longest = windows * (ms(window) + ms(3000)) + ms(paused);
        prop_assert!(world.now - began <= longest, "{:?} of {:?}", world.now - began, longest);
    }
}
