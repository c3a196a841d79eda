//! Other kinds of servers: replicas, concurrency limits, a neighbour on the same quota, costs, quotas by route, resets
//! that mean "full again", penalties, more processes, and shedding.

use super::{
    RefusedLimit::{self, Count, Share},
    Scenario, scenario, server,
};
use crate::{
    dialect::Dialect::{
        ConcurrencyLimit, ConcurrencyPolicy, Full, NoRetryAfter, OnRefusal, OpenAi, RetryAfter,
        Silent,
    },
    job,
};

pub fn all() -> Vec<Scenario> {
    [
        replicas(),
        concurrency(),
        neighbours(),
        costs(),
        tokens(),
        resources(),
        full_again(),
        penalties(),
        fleets(),
        shed(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The goal is met: no miss is accepted.
const MET: (f64, usize) = (0.0, 0);

/// A rejection comes from one replica, so the goal is the time, with a few rejections by exhausted replicas.
///
/// With a random balancer, the jobs do not fill the last window: a single request to an exhausted replica would
/// otherwise require another window of any client. Out of step, the jobs take more windows, and with a random balancer
/// one more reset: the balancer sends only a quarter of the requests to the replica that was reset.
fn replicas() -> Vec<Scenario> {
    let servers: [(_, server::Server, _, _, _); 4] = [
        (
            "in step, at random",
            server::replicas_in_step_at_random,
            1125,
            1.03,
            [(1.42, 60), (1.42, 115)],
        ),
        (
            "in step, by turns",
            server::replicas_in_step_by_turns,
            1200,
            1.03,
            [MET, MET],
        ),
        (
            "out of step, at random",
            server::replicas_out_of_step_at_random,
            3530,
            1.04,
            [(1.07, 200), (1.07, 500)],
        ),
        (
            "out of step, by turns",
            server::replicas_out_of_step_by_turns,
            3560,
            1.03,
            [(1.02, 160), (1.08, 370)],
        ),
    ];
    let played = servers.map(|(how, model, jobs, ratio, accepted)| {
        [(16, accepted[0]), (64, accepted[1])].map(|(workers, (most, refused))| {
            scenario(format!("4 replicas {how}, full headers, {workers} workers"))
                .server(model, Full)
                .jobs(jobs)
                .workers(workers)
                .goal(ratio, Share(0.04))
                .accepted_miss(most, refused)
        })
    });
    played.into_iter().flatten().collect()
}

/// The optimum keeps all slots busy, even while requests and responses are in transit. A client with at most the
/// announced 8 requests in flight needs 1.2 times as long: a round trip of 40 ms for each 200 ms of processing.
fn concurrency() -> Vec<Scenario> {
    let few = (1.08, Share(0.05));
    let announced = (1.22, Share(0.02));
    let dialects = [
        ("no headers", Silent, few),
        ("Retry-After 1", RetryAfter, few),
        ("IETF policy", ConcurrencyPolicy, announced),
        ("X-Concurrency-Limit", ConcurrencyLimit, announced),
    ];
    let played = dialects.map(|(fields, dialect, (ratio, refused))| {
        [(16, 25), (64, 75)].map(|(workers, accepted)| {
            scenario(format!(
                "8 at a time, 200 ms each, {fields}, {workers} workers"
            ))
            .server(server::concurrency, dialect)
            .workers(workers)
            .goal(ratio, refused)
            .accepted_miss(1.12, accepted)
        })
    });
    played.into_iter().flatten().collect()
}

/// A neighbour that does not send at the start of a window sends its rejected requests at the start of the next one.
/// Then the jobs do not fill the last window: a single request of the neighbour would otherwise require another window.
fn neighbours() -> Vec<Scenario> {
    let times: [(_, server::Server, _); 3] = [
        ("at each start", server::neighbour_at_start, 1200),
        ("at random", server::neighbour_at_random, 1150),
        ("all the time", server::neighbour_all_the_time, 1150),
    ];
    let dialects = [
        ("full headers", Full, 1.01, [MET; 3]),
        (
            "headers on 429 only",
            OnRefusal,
            1.03,
            [MET, (1.01, 60), (1.01, 60)],
        ),
        ("no headers", Silent, 1.15, [MET, (1.01, 85), (1.01, 85)]),
    ];
    let played = dialects.map(|(fields, dialect, ratio, accepted)| {
        let played = times.iter().zip(accepted);
        let played = played.map(move |((when, model, jobs), (most, refused))| {
            scenario(format!("neighbour takes half {when}, {fields}"))
                .server(*model, dialect)
                .jobs(*jobs)
                .goal(ratio, Share(0.04))
                .accepted_miss(most, refused)
        });
        played.collect::<Vec<_>>()
    });
    played.into_iter().flatten().collect()
}

/// Of routes with different costs, some requests are needed until the difference is no chance.
fn costs() -> Vec<Scenario> {
    let mixes: [(_, job::Mix, _); 2] = [
        ("of 1 to 5 by turns", job::costs_by_turns, [MET, MET]),
        (
            "of 1 to 5 at random",
            job::costs_at_random,
            [(1.1, 8), (1.06, 135)],
        ),
    ];
    let played = mixes.map(|(how, mix, accepted)| {
        let full = scenario(format!("costs {how}, full headers"))
            .mix(mix)
            .goal(1.005, Share(0.002))
            .accepted_miss(accepted[0].0, accepted[0].1);
        let silent = scenario(format!("costs {how}, no headers"))
            .server(server::fixed, Silent)
            .mix(mix)
            .goal(1.03, Share(0.04))
            .accepted_miss(accepted[1].0, accepted[1].1);
        [full, silent]
    });
    let by_route = scenario("costs of 1 and 20 by route, full headers")
        .mix(job::costs_by_route)
        .goal(1.005, Share(0.005));
    played.into_iter().flatten().chain([by_route]).collect()
}

/// The cost of a request is known at the end of its response. Until then, the server reserves more.
fn tokens() -> Vec<Scenario> {
    let played = |name, model| {
        scenario(name)
            .server(model, OpenAi)
            .mix(job::completions)
            .workers(32)
            .jobs(300)
            .goal(1.03, Share(0.02))
    };
    vec![
        played(
            "60,000 tokens a minute in a bucket, 32 workers",
            server::tokens_in_a_bucket,
        ),
        played(
            "60,000 tokens a minute in windows, 32 workers",
            server::tokens_in_windows,
        ),
    ]
}

fn resources() -> Vec<Scenario> {
    vec![
        scenario("three resources by route, named, full headers, 16 workers")
            .server(server::resources, Full)
            .mix(job::resources)
            .goal(1.02, Share(0.001)),
        scenario("three resources by route, named, full headers, 4 processes of 16")
            .server(server::resources, Full)
            .mix(job::resources)
            .processes(4, 16)
            .shared_goal(1.01, Count(2)),
        scenario("three resources by route, named, full headers, 64 workers")
            .server(server::resources, Full)
            .mix(job::resources)
            .workers(64)
            .goal(1.02, Share(0.001)),
        scenario("an unlimited route beside a limited one, full headers")
            .server(server::half_unlimited, Full)
            .mix(job::half_unlimited)
            .goal(1.02, Share(0.001)),
        scenario("an unlimited route beside a limited one, headers on 429 only")
            .server(server::half_unlimited, OnRefusal)
            .mix(job::half_unlimited)
            .goal(1.02, Count(18))
            .accepted_miss(1.04, 10),
    ]
}

/// After the burst, only what is refilled each second is available.
fn full_again() -> Vec<Scenario> {
    let played = |name, model, dialect| {
        scenario(name)
            .server(model, dialect)
            .goal(1.02, Share(0.01))
    };
    vec![
        played(
            "3,600 an hour, reset when full again, no Retry-After",
            server::full_again_hourly,
            NoRetryAfter,
        )
        .jobs(4800),
        played(
            "3,600 an hour, reset when full again, full headers",
            server::full_again_hourly,
            Full,
        )
        .jobs(4800),
        played(
            "5/s and burst 300, reset when full again, no Retry-After",
            server::full_again,
            NoRetryAfter,
        ),
        played(
            "5/s and burst 300, reset when full again, full headers",
            server::full_again,
            Full,
        ),
    ]
}

/// The goal allows one penalty, from which the limit is learned.
fn penalties() -> Vec<Scenario> {
    let played = |name, dialect| {
        scenario(name)
            .server(server::penalty, dialect)
            .goal(2.8, Count(18))
    };
    vec![
        played(
            "penalty box of 5 min, headers on 429 only, 16 workers",
            OnRefusal,
        )
        .accepted_miss(2.9, 18),
        played(
            "penalty box of 5 min, Retry-After only, 16 workers",
            RetryAfter,
        )
        .accepted_miss(2.9, 18),
    ]
}

fn fleets() -> Vec<Scenario> {
    vec![
        scenario("fixed window, headers on 429 only, 4 processes of 64")
            .server(server::fixed, OnRefusal)
            .processes(4, 64)
            .jobs(2400)
            .goal(1.02, Count(258))
            .shared_goal(1.01, Count(20))
            .accepted_miss(1.01, 320),
        // Three jobs per worker are too few for a fair distribution.
        scenario("fixed window, full headers, 100 processes of 4")
            .processes(100, 4)
            .shared_goal(1.02, Share(0.03))
            .fair_to(0.0),
    ]
}

fn shed() -> Vec<Scenario> {
    // No client can avoid these rejections.
    let unavoidable: RefusedLimit = Share(0.08);
    vec![
        scenario("5 % shed with 503 and Retry-After 1, full headers")
            .server(server::shed, Full)
            .goal(1.02, unavoidable)
            .accepted_miss(1.03, 60),
    ]
}
