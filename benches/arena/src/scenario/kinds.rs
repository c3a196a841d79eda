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
fn replicas() -> Vec<Scenario> {
    let played = |name, model, workers| {
        scenario(name)
            .server(model, Full)
            .workers(workers)
            .goal(1.03, Share(0.04))
    };
    vec![
        played(
            "4 replicas in step, at random, full headers, 16 workers",
            server::replicas_in_step_at_random,
            16,
        ),
        played(
            "4 replicas in step, at random, full headers, 64 workers",
            server::replicas_in_step_at_random,
            64,
        ),
        played(
            "4 replicas in step, by turns, full headers, 16 workers",
            server::replicas_in_step_by_turns,
            16,
        ),
        played(
            "4 replicas in step, by turns, full headers, 64 workers",
            server::replicas_in_step_by_turns,
            64,
        ),
        played(
            "4 replicas out of step, at random, full headers, 16 workers",
            server::replicas_out_of_step_at_random,
            16,
        ),
        played(
            "4 replicas out of step, at random, full headers, 64 workers",
            server::replicas_out_of_step_at_random,
            64,
        ),
        played(
            "4 replicas out of step, by turns, full headers, 16 workers",
            server::replicas_out_of_step_by_turns,
            16,
        ),
        played(
            "4 replicas out of step, by turns, full headers, 64 workers",
            server::replicas_out_of_step_by_turns,
            64,
        ),
    ]
}

fn concurrency() -> Vec<Scenario> {
    let played = |name, dialect, workers, refused| {
        scenario(name)
            .server(server::concurrency, dialect)
            .workers(workers)
            .jobs(2000)
            .goal(1.08, refused)
    };
    let few = Share(0.05);
    // Known after the first answer.
    let announced = Share(0.01);
    vec![
        played(
            "8 at a time, 200 ms each, no headers, 16 workers",
            Silent,
            16,
            few,
        ),
        played(
            "8 at a time, 200 ms each, no headers, 64 workers",
            Silent,
            64,
            few,
        ),
        played(
            "8 at a time, 200 ms each, Retry-After 1, 16 workers",
            RetryAfter,
            16,
            few,
        ),
        played(
            "8 at a time, 200 ms each, Retry-After 1, 64 workers",
            RetryAfter,
            64,
            few,
        ),
        played(
            "8 at a time, 200 ms each, IETF policy, 16 workers",
            ConcurrencyPolicy,
            16,
            announced,
        ),
        played(
            "8 at a time, 200 ms each, IETF policy, 64 workers",
            ConcurrencyPolicy,
            64,
            announced,
        ),
        played(
            "8 at a time, 200 ms each, X-Concurrency-Limit, 16 workers",
            ConcurrencyLimit,
            16,
            announced,
        ),
        played(
            "8 at a time, 200 ms each, X-Concurrency-Limit, 64 workers",
            ConcurrencyLimit,
            64,
            announced,
        ),
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
        ),
        silent("costs of 1 to 5 by turns, no headers", job::costs_by_turns),
        silent(
            "costs of 1 to 5 at random, no headers",
            job::costs_at_random,
        ),
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
            .goal(1.02, Count(18)),
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
        ),
        played(
            "penalty box of 5 min, Retry-After only, 16 workers",
            RetryAfter,
        ),
    ]
}

fn fleets() -> Vec<Scenario> {
    vec![
        scenario("fixed window, headers on 429 only, 4 processes of 64")
            .server(server::fixed, OnRefusal)
            .processes(4, 64)
            .goal(1.02, Count(258))
            .shared_goal(1.01, Count(20)),
        scenario("fixed window, full headers, 100 processes of 4")
            .processes(100, 4)
            .shared_goal(1.05, Share(0.03)),
    ]
}

fn shed() -> Vec<Scenario> {
    // A shed request is refused, whatever a client does.
    let unavoidable: RefusedLimit = Share(0.08);
    vec![
        scenario("5 % shed with 503 and Retry-After 1, full headers")
            .server(server::shed, Full)
            .goal(1.02, unavoidable),
    ]
}
