//! Servers that block a client for several windows once it exceeds its quota.

use super::{
    simulation::{Load, Server, run},
    *,
};

/// A fixed window with a block: after a rejected request, the client is throttled until it has sent nothing for
/// `block`.
struct PenaltyBox {
    limit: u64,
    window: u64,
    block: u64,
    used: (u64, u64),
    until: u64,
    blocks: usize,
    /// Whether a throttling response names the limit.
    named: bool,
}

impl Server for PenaltyBox {
    fn take(&mut self, at: u64) -> (Result<u64, ()>, RateLimitInfo) {
        // The first window began before the first request.
        let number = (at + self.window / 3) / self.window;
        if self.used.0 != number {
            self.used = (number, 0);
        }
        if at >= self.until && self.used.1 < self.limit {
            self.used.1 += 1;
            return (Ok(0), RateLimitInfo::default());
        }
        self.blocks += usize::from(at >= self.until);
        self.until = at + self.block;
        let hint = Duration::from_micros(self.block);
        let mut info = with_retry_after(hint);
        if self.named {
            info.limits = announcing(self.limit, 0, hint).limits;
        }
        (Err(()), info)
    }
}

#[test]
fn after_one_block_the_limit_is_not_exceeded_again() {
    for named in [false, true] {
        for (window, block) in [(60, 300), (60, 600), (120, 600)] {
            let mut server = PenaltyBox {
                limit: 100,
                window: window * 1_000_000,
                block: block * 1_000_000,
                used: (0, 0),
                until: 0,
                blocks: 0,
                named,
            };
            let load = Load {
                processes: 1,
                workers: 8,
                jobs: 1000,
                rtt: 40_000,
                seed: 1,
            };
            let figures = run(&mut server, load);
            assert_eq!(server.blocks, 1, "{window} {block}");
            assert_eq!(figures.early, 0);
            // Windows are assumed to be a fifth of the block.
            let most = block as f64 + 9.0 * 1.02 * block as f64 / 5.0;
            assert!(figures.seconds < most, "{window}: {}", figures.seconds);
        }
    }
}

/// The first wait is that of a long window. The second one is shorter, which shows that it is not a block.
#[test]
fn a_long_window_is_not_taken_for_a_block() {
    let mut world = TestQuota::new();
    for (hint, then) in [(300, 300), (240, 240)] {
        for _ in 0..5 {
            let number = world.send().unwrap();
            world.succeed(number, &RateLimitInfo::default());
        }
        if then < 300 {
            // A fifth of the wait.
            assert_eq!(world.wait(), secs(60));
        }
        let number = world.send().unwrap();
        world.throttle(number, &with_retry_after(secs(hint)));
        assert!(world.wait() >= secs(then));
    }
    let estimate = world.quota.estimate();
    let number = world.send().unwrap();
    world.succeed(number, &RateLimitInfo::default());
    assert_eq!(estimate.limit, Some(5));
    let window = world.quota.estimate().window;
    assert_eq!(window, Some(secs(300)));
}
