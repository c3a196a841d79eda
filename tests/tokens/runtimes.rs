//! Fetches on a runtime that stands still, or ends.

use http::StatusCode;
use tokio::time::timeout;
use tower::Layer;

use crate::{
    callers::send_owned,
    support::{HOUR, SECOND, Source, api, layer},
};

#[test]
fn a_fetch_stranded_on_an_idle_runtime_is_superseded() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    let paused = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    // The first runtime starts a fetch and is not driven any more, but not dropped either.
    let idle = paused();
    let mut first = None;
    idle.block_on(async {
        first = Some(tokio::spawn(send_owned(service.clone())));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    });

    let status = paused().block_on(send_owned(service.clone()));

    assert_eq!(status, StatusCode::OK);
    assert_eq!(source.fetches(), 2);
    drop(first);
}

#[test]
fn a_runtime_that_ends_during_a_fetch_does_not_strand_the_next() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    let ended = runtime();
    ended.block_on(async {
        drop(timeout(SECOND / 2, send_owned(service.clone())).await);
    });
    drop(ended);

    assert_eq!(runtime().block_on(send_owned(service)), StatusCode::OK);
    assert_eq!(source.fetches(), 2);
}
