//! A rotation while 1,000 requests are in flight, in each order.

use std::fs;

use tokio::time::sleep;

use crate::{support::SECOND, world::World};

#[tokio::test(start_paused = true)]
async fn with_overlapping_secrets_no_wrong_secret_is_sent() {
    let world = World::new("both");

    let failures = world
        .under_load(async |world, at| {
            at(10).await;
            world.issuer.accept(&["old", "new"]);
            at(20).await;
            world.file.replace("new\n");
            at(30).await;
            world.issuer.accept(&["new"]);
        })
        .await;

    assert_eq!(failures, 0);
    assert_eq!(world.issuer.rejected(), 0);
    assert_eq!(world.issuer.requests(), ["old", "new", "new", "new"]);
    assert!(world.fallback_uses().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_late_secret_file_is_retried_as_soon_as_it_is_updated() {
    let world = World::new("server-first");

    let failures = world
        .under_load(async |world, at| {
            at(10).await;
            world.issuer.accept(&["new"]);
            while world.issuer.rejected() == 0 {
                sleep(SECOND / 10).await;
            }
            world.file.replace("new\n");
        })
        .await;

    assert_eq!(failures, 0);
    assert_eq!(world.issuer.rejected(), 1);
    assert_eq!(world.issuer.requests()[..3], ["old", "old", "new"]);
    // The rejected attempt was made with the secret that had been accepted.
    assert!(world.fallback_uses().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_temporarily_missing_file_falls_back_to_the_last_secret() {
    let world = World::new("missing");

    let failures = world
        .under_load(async |world, at| {
            at(40).await;
            fs::remove_file(world.file.path()).unwrap();
            at(60).await;
            world.file.write("\n");
            at(110).await;
            world.issuer.accept(&["old", "new"]);
            world.file.replace("new\n");
        })
        .await;

    assert_eq!(failures, 0);
    assert_eq!(world.issuer.rejected(), 0);
    assert_eq!(world.issuer.requests(), ["old", "old", "old", "new"]);
    let kept = world.fallback_uses();
    assert_eq!(kept.len(), 2);
    assert!(kept[0].contains("could not be read"), "{}", kept[0]);
    assert!(kept[1].contains("is empty"), "{}", kept[1]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lags_behind_is_sent_the_fallback_secret() {
    let world = World::new("file-first");

    let failures = world
        .under_load(async |world, at| {
            at(10).await;
            world.file.replace("new\n");
            at(110).await;
            world.issuer.accept(&["new"]);
        })
        .await;

    assert_eq!(failures, 0);
    assert_eq!(
        world.issuer.requests(),
        ["old", "new", "old", "new", "old", "new"]
    );
    let kept = world.fallback_uses();
    assert_eq!(kept.len(), 2);
    assert!(kept[0].contains("invalid_client"), "{}", kept[0]);
    assert!(!kept[0].contains("old"), "{}", kept[0]);
}
