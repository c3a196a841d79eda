//! Servers of other kinds: replicas, what runs at a time, a quota that others use as well, costs, quotas by route,
//! resets that mean "full again", penalties, and more processes.

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

/// Each refusal is one replica's: the goal is the time, with a few refusals from those that have none left.
///
/// At random, the last window is not needed to the full: with the one request more that a balancer sends to a replica
/// without room, nobody could do without another window. Out of step, the work takes more windows: the balancer sends no
/// more than a quarter to the replica that has room again, which the optimum does not have to wait for.
fn replicas() -> Vec<Scenario> {
    let played = |name, model, jobs, workers| {
        scenario(name)
            .server(model, Full)
            .jobs(jobs)
            .workers(workers)
            .goal(1.03, Share(0.04))
    };
    let in_step_at_random =
        |name, workers| played(name, server::replicas_in_step_at_random, 1125, workers);
    let in_step_by_turns =
        |name, workers| played(name, server::replicas_in_step_by_turns, 1200, workers);
    // The balancer sends what is left to those that have none left: one reset more is needed.
    let out_of_step_at_random = |name, workers| {
        let model = server::replicas_out_of_step_at_random;
        played(name, model, 3530, workers).goal(1.04, Share(0.04))
    };
    let out_of_step_by_turns =
        |name, workers| played(name, server::replicas_out_of_step_by_turns, 3560, workers);
    vec![
        in_step_at_random(
            "4 replicas in step, at random, full headers, 16 workers",
            16,
        )
        .accepted_miss(1.42, 10),
        in_step_at_random(
            "4 replicas in step, at random, full headers, 64 workers",
            64,
        )
        .accepted_miss(1.42, 10),
        in_step_by_turns("4 replicas in step, by turns, full headers, 16 workers", 16)
            .accepted_miss(1.42, 5),
        in_step_by_turns("4 replicas in step, by turns, full headers, 64 workers", 64)
            .accepted_miss(1.42, 5),
        out_of_step_at_random(
            "4 replicas out of step, at random, full headers, 16 workers",
            16,
        )
        .accepted_miss(1.07, 140),
        out_of_step_at_random(
            "4 replicas out of step, at random, full headers, 64 workers",
            64,
        )
        .accepted_miss(1.07, 330),
        out_of_step_by_turns(
            "4 replicas out of step, by turns, full headers, 16 workers",
            16,
        ),
        out_of_step_by_turns(
            "4 replicas out of step, by turns, full headers, 64 workers",
            64,
        )
        .accepted_miss(1.08, 290),
    ]
}

/// The optimum keeps all slots at work, also while answers and requests travel. A client that never has more under way
/// than the 8 that are announced needs 1.2 times as long: a round trip of 40 ms for each 200 ms of work.
fn concurrency() -> Vec<Scenario> {
    let played = |name, dialect, workers, (ratio, refused)| {
        scenario(name)
            .server(server::concurrency, dialect)
            .workers(workers)
            .goal(ratio, refused)
    };
    let few = (1.08, Share(0.05));
    let announced = (1.22, Share(0.02));
    vec![
        played(
            "8 at a time, 200 ms each, no headers, 16 workers",
            Silent,
            16,
            few,
        )
        .accepted_miss(2.9, 70),
        played(
            "8 at a time, 200 ms each, no headers, 64 workers",
            Silent,
            64,
            few,
        )
        .accepted_miss(2.9, 120),
        played(
            "8 at a time, 200 ms each, Retry-After 1, 16 workers",
            RetryAfter,
            16,
            few,
        )
        .accepted_miss(2.9, 70),
        played(
            "8 at a time, 200 ms each, Retry-After 1, 64 workers",
            RetryAfter,
            64,
            few,
        )
        .accepted_miss(2.9, 120),
        played(
            "8 at a time, 200 ms each, IETF policy, 16 workers",
            ConcurrencyPolicy,
            16,
            announced,
        )
        .accepted_miss(2.9, 70),
        played(
            "8 at a time, 200 ms each, IETF policy, 64 workers",
            ConcurrencyPolicy,
            64,
            announced,
        )
        .accepted_miss(2.9, 120),
        played(
            "8 at a time, 200 ms each, X-Concurrency-Limit, 16 workers",
            ConcurrencyLimit,
            16,
            announced,
        )
        .accepted_miss(2.9, 70),
        played(
            "8 at a time, 200 ms each, X-Concurrency-Limit, 64 workers",
            ConcurrencyLimit,
            64,
            announced,
        )
        .accepted_miss(2.9, 120),
    ]
}

fn neighbours() -> Vec<Scenario> {
    let full = |name, model| scenario(name).server(model, Full).goal(1.01, Share(0.04));
    let on_refusal = |name, model| {
        scenario(name)
            .server(model, OnRefusal)
            .goal(1.03, Share(0.04))
    };
    let silent = |name, model| scenario(name).server(model, Silent).goal(1.15, Share(0.04));
    vec![
        full(
            "neighbour takes half at each start, full headers",
            server::neighbour_at_start,
        ),
        full(
            "neighbour takes half at random, full headers",
            server::neighbour_at_random,
        ),
        full(
            "neighbour takes half all the time, full headers",
            server::neighbour_all_the_time,
        ),
        on_refusal(
            "neighbour takes half at each start, headers on 429 only",
            server::neighbour_at_start,
        ),
        on_refusal(
            "neighbour takes half at random, headers on 429 only",
            server::neighbour_at_random,
        ),
        on_refusal(
            "neighbour takes half all the time, headers on 429 only",
            server::neighbour_all_the_time,
        ),
        silent(
            "neighbour takes half at each start, no headers",
            server::neighbour_at_start,
        ),
        silent(
            "neighbour takes half at random, no headers",
            server::neighbour_at_random,
        ),
        silent(
            "neighbour takes half all the time, no headers",
            server::neighbour_all_the_time,
        ),
    ]
}

fn costs() -> Vec<Scenario> {
    let full = |name, mix| scenario(name).mix(mix).goal(1.005, Share(0.002));
    let silent = |name, mix| {
        scenario(name)
            .server(server::fixed, Silent)
            .mix(mix)
            .goal(1.03, Share(0.04))
    };
    vec![
        full(
            "costs of 1 to 5 by turns, full headers",
            job::costs_by_turns,
        ),
        full(
            "costs of 1 to 5 at random, full headers",
            job::costs_at_random,
        )
        .accepted_miss(1.1, 8),
        silent("costs of 1 to 5 by turns, no headers", job::costs_by_turns),
        silent(
            "costs of 1 to 5 at random, no headers",
            job::costs_at_random,
        )
        .accepted_miss(1.06, 135),
    ]
}

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
        )
        .accepted_miss(1.01, 1250)
        .accepted_failures(4),
        played(
            "60,000 tokens a minute in windows, 32 workers",
            server::tokens_in_windows,
        )
        .accepted_miss(1.51, 115),
    ]
}

fn resources() -> Vec<Scenario> {
    vec![
        scenario("three resources by route, named, full headers, 16 workers")
            .server(server::resources, Full)
            .mix(job::resources)
            .goal(1.02, Share(0.001))
            .accepted_miss(1.01, 16),
        scenario("three resources by route, named, full headers, 64 workers")
            .server(server::resources, Full)
            .mix(job::resources)
            .workers(64)
            .goal(1.02, Share(0.001))
            .accepted_miss(1.01, 46),
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

/// After the burst, what comes back each second is all there is.
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
        .jobs(4800)
        .accepted_miss(3.02, 1),
        played(
            "3,600 an hour, reset when full again, full headers",
            server::full_again_hourly,
            Full,
        )
        .jobs(4800)
        .accepted_miss(3.02, 1),
        played(
            "5/s and burst 300, reset when full again, no Retry-After",
            server::full_again,
            NoRetryAfter,
        )
        .accepted_miss(1.03, 1),
        played(
            "5/s and burst 300, reset when full again, full headers",
            server::full_again,
            Full,
        )
        .accepted_miss(1.03, 1),
    ]
}

/// One penalty, from which the limit is learned, and no other.
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
        .accepted_miss(6.16, 18),
        played(
            "penalty box of 5 min, Retry-After only, 16 workers",
            RetryAfter,
        )
        .accepted_miss(6.16, 18),
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
            .accepted_miss(1.17, 510)
            .shared_accepted_miss(1.17, 510),
        // Three jobs for each worker are too few to be fair.
        scenario("fixed window, full headers, 100 processes of 4")
            .processes(100, 4)
            .shared_goal(1.02, Share(0.03))
            .fair_to(0.0)
            .shared_accepted_miss(1.02, 440),
    ]
}

fn shed() -> Vec<Scenario> {
    // A shed request is refused, whatever a client does.
    let unavoidable: RefusedLimit = Share(0.08);
    vec![
        scenario("5 % shed with 503 and Retry-After 1, full headers")
            .server(server::shed, Full)
            .goal(1.02, unavoidable)
            .accepted_miss(1.07, 60),
    ]
}
