//! All scenarios and their goals.

use super::{
    RefusedLimit::{Count, Share},
    Scenario, scenario,
    server::{
        brown_out, bucket, counter, counting_throttled, fixed, hourly, lowered, penalty, quick,
        sliding, stacked,
    },
};
use crate::dialect::Dialect::{
    Full, Ietf, Misreporting, NoRetryAfter, OnRefusal, RetryAfter, Silent,
};

/// A `scenario` has 16 workers, 1200 jobs and a fixed window with full headers, where it does not say otherwise.
pub fn all() -> Vec<Scenario> {
    vec![
        scenario("fixed window, full headers, 1 worker")
            .workers(1)
            .jobs(900)
            .goal(1.02, Share(0.001)),
        scenario("fixed window, full headers, 16 workers")
            .goal(1.02, Share(0.001))
            .shown(),
        scenario("fixed window, full headers, 256 workers")
            .workers(256)
            .jobs(2400)
            .goal(1.02, Share(0.001))
            .shown(),
        scenario("sliding log, full headers, 16 workers")
            .server(sliding, Full)
            .goal(1.02, Share(0.001)),
        scenario("sliding log, full headers, 256 workers")
            .server(sliding, Full)
            .workers(256)
            .jobs(2400)
            .goal(1.02, Share(0.001)),
        scenario("sliding counter, full headers, 16 workers")
            .server(counter, Full)
            .goal(1.05, Share(0.03)),
        scenario("fixed window, current IETF fields, 16 workers")
            .server(fixed, Ietf)
            .goal(1.02, Share(0.001)),
        scenario("sliding log, headers on 429 only, 32 workers")
            .server(sliding, OnRefusal)
            .workers(32)
            .goal(1.02, Count(34))
            .shown(),
        scenario("fixed window, headers on 429 only, 32 workers")
            .server(fixed, OnRefusal)
            .workers(32)
            .goal(1.02, Count(34)),
        scenario("token bucket 5/s, burst 30, whole-second hint, 16 workers")
            .server(bucket, RetryAfter)
            .goal(1.01, Share(0.03))
            .shown(),
        scenario("token bucket 40/s, burst 40, whole-second hint, 16 workers")
            .server(quick, RetryAfter)
            .jobs(4000)
            .goal(1.01, Share(0.03)),
        scenario("fixed window, no headers, 16 workers")
            .server(fixed, Silent)
            .goal(1.03, Share(0.04))
            .shown(),
        scenario("sliding log, no headers, 16 workers")
            .server(sliding, Silent)
            .goal(1.03, Share(0.04)),
        scenario("5,000 an hour, epoch only, 64 workers")
            .server(hourly, NoRetryAfter)
            .workers(64)
            .jobs(12_000)
            .goal(1.001, Share(0.001))
            .shown(),
        scenario("fixed window, clock 90 s ahead")
            .server(fixed, NoRetryAfter)
            .skew(90.0)
            .goal(1.02, Share(0.001))
            .shown(),
        scenario("fixed window, clock 90 s behind")
            .server(fixed, NoRetryAfter)
            .skew(-90.0)
            .goal(1.02, Share(0.001)),
        scenario("fixed window, clock 1 h behind")
            .server(fixed, NoRetryAfter)
            .skew(-3600.0)
            .goal(1.02, Share(0.001)),
        scenario("fixed window, clock 1 h ahead")
            .server(fixed, NoRetryAfter)
            .skew(3600.0)
            .goal(1.02, Share(0.001)),
        scenario("fixed window, clock 1 day ahead")
            .server(fixed, NoRetryAfter)
            .skew(86_400.0)
            .goal(1.02, Share(0.001)),
        scenario("fixed window, clock 1 day behind")
            .server(fixed, NoRetryAfter)
            .skew(-86_400.0)
            .goal(1.02, Share(0.001)),
        scenario("fixed window, full headers, 2 processes of 8")
            .processes(2, 8)
            .goal(1.02, Share(0.03)),
        scenario("fixed window, full headers, 8 processes of 4")
            .processes(8, 4)
            .goal(1.02, Share(0.03))
            .shared_goal(1.01, Share(0.002))
            .shown(),
        scenario("sliding log, full headers, 8 processes of 4")
            .server(sliding, Full)
            .processes(8, 4)
            .goal(1.02, Share(0.03)),
        // Time and rejections have no goal here: a process with one worker learns little.
        scenario("fixed window, full headers, 100 processes of 1").processes(100, 1),
        scenario("rejected requests count, no headers, 16 workers")
            .server(counting_throttled, Silent)
            .goal(1.05, Share(0.03))
            // Each rejected probe counts in all windows to come: with one that is rejected 50 s after the start, the
            // work ends 180 s later at the earliest. A client that does not know the window must probe, or wait where
            // the same probes would help with servers that do not count them.
            .accepted_miss(1.4, 44)
            .shown(),
        scenario("penalty box of 5 min, full headers, 16 workers")
            .server(penalty, Full)
            .goal(1.01, Count(0)),
        scenario("20 per 1 s and 100 per 120 s, full headers, 16 workers")
            .server(stacked, Full)
            .jobs(500)
            .goal(1.05, Share(0.03)),
        scenario("limit lowered from 300 to 100 mid-run, full headers")
            .server(lowered, Full)
            .goal(1.05, Share(0.03)),
        scenario("incorrect remaining, Retry-After always 1")
            .server(fixed, Misreporting)
            .goal(1.1, Share(0.2)),
        scenario("brown-out of 20 s, 503 without headers")
            .server(brown_out, Silent)
            .goal(1.1, Share(0.15)),
        scenario("fixed window, full headers, 5 % of callers cancel")
            .leaving(0.05)
            .goal(1.02, Share(0.001)),
        scenario("fixed window, full headers, arrivals at 0.8 of the quota")
            .poisson(0.8)
            .goal(1.02, Share(0.001)),
        scenario("fixed window, full headers, arrivals at 1.2 of the quota")
            .poisson(1.2)
            .goal(1.02, Share(0.001)),
        scenario("fixed window, full headers, log-normal round trips")
            .spread(1.0)
            .goal(1.02, Share(0.001)),
    ]
}
