//! Runs the steps, heals all faults, and checks that all invariants hold.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use http::Request;
use tokio::{runtime, task::yield_now, time::sleep};
use tower::{Service as _, ServiceExt};
use tower_m2m::{
    Attempts, BoxError,
    client_credentials::TokenError,
    rate_limit_retry::{DeadlineExceeded, PartitionKey, RateLimited},
};

use crate::{
    invariants,
    log::{Known, Outcome, What, to_text},
    servers::{CallId, World},
    stack::{API, Payload, Service, Stack},
    steps::{Caller, History, Step},
};

/// What went wrong, if anything.
pub(crate) fn run(history: History) -> Result<(), String> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(history.setup);
        let left = live(&world, &history.steps).await;
        let entries = world.log().entries();
        left.and_then(|()| invariants::check(world.setup(), &entries))
            .map_err(|what| format!("{what}\n{}", to_text(&entries)))
    })
}

async fn live(world: &World, steps: &[Step]) -> Result<(), String> {
    let stack = Stack::new(world);
    let mut calls = 0;
    for step in steps {
        take(world, &stack, step, &mut calls).await;
        yield_now().await;
        observe(world, &stack);
    }

    world.heal();
    take(world, &stack, &Step::Ready(true), &mut calls).await;
    take(world, &stack, &Step::PublishSecret, &mut calls).await;
    world.write(What::Healed);
    let tasks = || runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..MAX_WAIT.as_secs() / 60 {
        if tasks() == 0 {
            break;
        }
        sleep(MINUTE).await;
        observe(world, &stack);
    }
    assert_idle(&stack, tasks())?;
    // The longest back-off, hold and cooldown are over.
    sleep(80 * MINUTE).await;
    world.write(What::Healed);
    take(world, &stack, &Step::Call(ONE), &mut calls).await;
    sleep(10 * MINUTE).await;
    observe(world, &stack);
    assert_idle(&stack, tasks())
}

async fn take(world: &World, stack: &Stack, step: &Step, calls: &mut usize) {
    match *step {
        Step::Call(caller) => {
            for _ in 0..caller.count {
                *calls += 1;
                call(world, stack.service.clone(), *calls, caller);
            }
        }
        Step::Pass(time) => sleep(time).await,
        Step::TokenEnds(before) => {
            let left = stack.tokens.status().expires_in();
            sleep_with_polling(left.unwrap_or_default(), before).await;
        }
        Step::HoldEnds(before) => {
            let quotas = stack.quotas.status();
            let held = quotas.iter().filter_map(|quota| quota.held_for()).max();
            sleep_with_polling(held.unwrap_or_default(), before).await;
        }
        Step::Api(mood, next) => world.state().api.add(mood, next),
        Step::Issuer(mood, next) => world.state().issuer.add(mood, next),
        Step::RevokeAll => world.state().book.revoke_all(),
        Step::Rotate => world.state().secret += 1,
        Step::PublishSecret => {
            let events = {
                let mut state = world.state();
                let secret = state.secret;
                std::mem::replace(&mut state.published_secret, secret) != secret
            };
            if events {
                world.write(What::SecretPublished);
            }
        }
        Step::Jump(seconds) => {
            let mut state = world.state();
            state.offset += seconds;
            state.stepped = true;
            drop(state);
            world.write(What::Jumped(seconds));
        }
        Step::Ready(false) => stack.probe.block(),
        Step::Ready(true) => stack.probe.unblock(),
        Step::Invalidate => {
            world.write(What::Invalidated);
            stack.tokens.invalidate();
        }
        Step::RefreshNow => {
            world.write(What::RefreshNow);
            let tokens = stack.tokens.clone();
            tokio::spawn(async move { drop(tokens.refresh_now().await) });
        }
        Step::Forget => {
            world.write(What::Forgotten);
            stack.quotas.forget(&PartitionKey::from(API));
        }
    }
}

async fn sleep_with_polling(time: Duration, millis: u64) {
    sleep(time.saturating_sub(Duration::from_millis(millis))).await;
}

fn call(world: &World, service: Service, call: usize, caller: Caller) {
    let mut request = Request::get(format!("{API}/"));
    if caller.post {
        request = Request::post(format!("{API}/"));
    }
    let request = request.extension(CallId(call));
    let request = request.body(Payload { once: caller.once }).unwrap();
    let (world, begun) = (world.clone(), AtomicBool::new(false));
    tokio::spawn(async move {
        let response = async {
            let mut service = service;
            // The deadline is that of the call, which begins when the service is ready.
            service.ready().await?;
            begun.store(true, Relaxed);
            world.write(What::Began {
                call,
                post: caller.post,
            });
            service.call(request).await
        };
        let leaves = async {
            match caller.leaves_after {
                Some(after) => sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = response => {
                let outcome = match outcome {
                    Ok(response) => Outcome::Response(response.status(), Attempts::of(&response)),
                    Err(error) => of_error(&error),
                };
                world.write(What::Ended { call, outcome });
            }
            () = leaves => {
                if begun.load(Relaxed) {
                    world.write(What::Left { call });
                }
            }
        }
    });
}

fn of_error(error: &BoxError) -> Outcome {
    if error.is::<TokenError>() {
        Outcome::NoToken
    } else if error.is::<RateLimited>() {
        Outcome::HoldTooLong
    } else if let Some(error) = error.downcast_ref::<DeadlineExceeded>() {
        Outcome::Deadline {
            possibly_processed: error.possibly_processed(),
        }
    } else {
        Outcome::Client
    }
}

fn observe(world: &World, stack: &Stack) {
    let status = stack.tokens.status();
    world.write(What::Known(Known {
        version: status.generation(),
        left: status.expires_in(),
        ready_held: stack.probe.ready_held(),
    }));
}

/// Nothing is pending when everyone has left.
fn assert_idle(stack: &Stack, tasks: usize) -> Result<(), String> {
    let quotas = stack.quotas.status();
    let in_flight: u32 = quotas.iter().map(|quota| quota.in_flight()).sum();
    let waiting: usize = quotas.iter().map(|quota| quota.waiting()).sum();
    let left = [
        ("tasks", tasks),
        ("requests counted as in flight", in_flight as usize),
        ("requests in a queue", waiting),
        ("requests at the API", stack.probe.in_flight()),
        ("services made ready", stack.probe.ready_held()),
        (
            "fetches",
            usize::from(stack.tokens.status().is_refreshing()),
        ),
    ];
    match left.iter().find(|(_, count)| *count > 0) {
        Some((what, count)) => Err(format!("nothing_is_left_behind: {count} {what}")),
        None => Ok(()),
    }
}

const ONE: Caller = Caller {
    count: 1,
    post: false,
    once: false,
    leaves_after: None,
};
const MINUTE: Duration = Duration::from_secs(60);
/// Wait after which a request counts as stuck.
const MAX_WAIT: Duration = Duration::from_secs(5 * 3600);
