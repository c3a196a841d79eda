//! A Redis that fails, in every way: no token request fails for it, and each process makes one at most.

use tower_m2m::client_credentials::RedisTokenStore;

use crate::{
    server::Server,
    world::{World, all_tokens, keys},
};

const UNREACHABLE: &str = "the store cannot be reached, or the connection broke";

/// Each process gets a token, reports the store once, and uses it again after `repair`.
async fn fails_and_recovers(mut world: World, events: &str, repair: impl FnOnce(&mut Server)) {
    let fleet = world.fleet(4);

    let tokens = all_tokens(&fleet).await;
    assert!(tokens.iter().all(|token| token.is_ok()));
    assert_eq!(world.token_requests(), 4);
    fleet[0].next_token().await;
    assert_eq!(world.token_requests(), 5);
    for (index, process) in fleet.iter().enumerate() {
        let expected = [events, "fetched", "fetched"];
        assert_eq!(
            process.take_events(),
            expected[..if index == 0 { 3 } else { 2 }]
        );
    }

    repair(&mut world.redis);
    let shared = fleet[0].next_token().await;
    assert_eq!(fleet[1].next_token().await, shared);
    assert_eq!(world.token_requests(), 6);
    assert_eq!(fleet[0].take_events(), ["recovered", "fetched"]);
    // One that only reads does not see that the store can be written to again.
    assert_eq!(fleet[1].take_events().pop().as_deref(), Some("adopted"));
}

#[tokio::test]
async fn redis_is_down_at_startup() {
    let world = World::with(Server::absent());
    fails_and_recovers(world, UNREACHABLE, Server::restart).await;
}

#[tokio::test]
async fn redis_does_not_respond() {
    let world = World::new();
    world.redis.stop();
    let events = "the store did not respond within 250ms";
    fails_and_recovers(world, events, |redis| redis.resume()).await;
}

#[tokio::test]
async fn redis_has_another_password() {
    let world = World::with(Server::start_with(&["--requirepass", "other"]));
    let events = "the store rejected the user and password";
    fails_and_recovers(world, events, |redis| {
        redis.kill();
        redis.arguments.clear();
        redis.restart();
    })
    .await;
}

#[tokio::test]
async fn redis_is_out_of_memory() {
    let world = World::with(Server::start_with(&[
        "--maxmemory",
        "1",
        "--maxmemory-policy",
        "noeviction",
    ]));
    fails_and_recovers(world, "the store is out of memory", |redis| {
        redis.command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    })
    .await;
}

#[tokio::test]
async fn redis_is_read_only() {
    let world = World::with(Server::start_with(&[
        "--replicaof",
        "127.0.0.1",
        "1",
        "--replica-serve-stale-data",
        "yes",
    ]));
    fails_and_recovers(
        world,
        "the store is a replica, and cannot be written to",
        |redis| {
            redis.command(&[b"REPLICAOF", b"NO", b"ONE"]);
        },
    )
    .await;
}

#[tokio::test]
async fn redis_is_killed_and_restarts_empty() {
    let mut world = World::new();
    let fleet = world.fleet(4);
    all_tokens(&fleet).await;
    assert_eq!(world.token_requests(), 1);
    fleet.iter().for_each(|process| drop(process.take_events()));

    world.redis.kill();
    // No process requests a token before its own is stale.
    all_tokens(&fleet).await;
    assert_eq!(world.token_requests(), 1);
    for process in &fleet {
        process.next_token().await;
        assert_eq!(process.take_events(), [UNREACHABLE, "fetched"]);
    }
    assert_eq!(world.token_requests(), 5);
    world.redis.restart();

    let shared = fleet[0].next_token().await;
    assert_eq!(fleet[1].next_token().await, shared);
    assert_eq!(world.token_requests(), 6);
}

#[tokio::test]
async fn an_unnoticed_restart_costs_nothing() {
    let mut world = World::new();
    let process = world.process();
    process.token().await;
    process.take_events();

    // The connection is dead, and the scripts are gone.
    world.redis.kill();
    world.redis.restart();
    process.next_token().await;

    assert_eq!(process.take_events(), ["fetched"]);
}

#[tokio::test]
async fn foreign_values_under_our_keys_are_reported_and_overwritten() {
    let garbage: [(&str, &[&[u8]]); 4] = [
        (
            "that is not a token in this format",
            &[b"SET", b"KEY", b"garbage"],
        ),
        (
            "that is not a token in this format",
            &[b"SET", b"KEY", b"m2m9, another version's format"],
        ),
        (
            "of another type under a key of this crate",
            &[b"RPUSH", b"KEY", b"a list"],
        ),
        (
            "a token under a key of this crate that was modified",
            &[b"SETRANGE", b"KEY", b"60", b"changed"],
        ),
    ];
    for (events, command) in garbage {
        let world = World::new();
        world.process().token().await;
        let key = world.redis.key(":token");
        if command[0] != b"SETRANGE" {
            world.redis.command(&[b"DEL", key.as_bytes()]);
        }
        let command: Vec<_> = command
            .iter()
            .map(|part| {
                if *part == b"KEY" {
                    key.as_bytes()
                } else {
                    part
                }
            })
            .collect();
        world.redis.command(&command);

        let (process, other) = (world.process(), world.process());
        let token = process.token().await;

        let said = process.take_events();
        assert!(
            said.len() == 2 && said[0].contains(events) && said[1] == "fetched",
            "{said:?}"
        );
        assert_eq!(other.token().await, token);
        assert_eq!(other.take_events(), ["adopted"]);
    }
}

#[tokio::test]
async fn foreign_leases_and_cooldowns_block_nobody() {
    for command in [
        &[&b"SET"[..], b"KEY", b"garbage"],
        &[b"RPUSH", b"KEY", b"a list"],
    ] {
        let world = World::new();
        let process = world.process();
        process.token().await;
        let token = world.redis.key(":token");
        for end in [":lease", ":cooldown"] {
            let key = token.replace(":token", end);
            let command: Vec<_> = command
                .iter()
                .map(|part| {
                    if *part == b"KEY" {
                        key.as_bytes()
                    } else {
                        part
                    }
                })
                .collect();
            world.redis.command(&command);
        }

        let shared = process.handle.refresh_now().await.unwrap();

        assert_eq!(world.process().token().await, shared.expose().unwrap());
    }
}

#[tokio::test]
async fn missing_permissions_are_reported() {
    let world = World::new();
    world.redis.command(&[
        b"ACL",
        b"SETUSER",
        b"weak",
        b"on",
        b">password",
        b"~*",
        b"+get",
    ]);
    let url = world.redis.url_as("weak", "password");
    let process = world.process_with(RedisTokenStore::new(url, keys()).unwrap());

    process.token().await;

    let events = process.take_events();
    assert!(
        events[0].contains("does not allow its user this command"),
        "{events:?}"
    );
    assert_eq!(events[1], "fetched");
}
