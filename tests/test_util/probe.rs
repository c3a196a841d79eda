//! The service that watches how it is called.

use std::task::Poll;

use tower::{Service, ServiceExt as _};
use tower_m2m::test_util::Probe;

#[tokio::test]
async fn a_probe_counts_ready_and_in_flight_calls() {
    let probe = Probe::new(|request: u32| async move { Ok(request + 1) }).permits(1);
    let mut first = probe.clone();
    let mut second = probe.clone();

    first.ready().await.unwrap();
    assert_eq!(
        (probe.ready_held(), is_ready(&mut second).await),
        (1, false),
        "one permit"
    );
    let answer = first.call(1);
    assert_eq!((probe.ready_held(), probe.in_flight()), (0, 1));
    assert_eq!(answer.await.unwrap(), 2);
    assert_eq!((probe.in_flight(), probe.calls()), (0, 1));

    probe.block();
    assert!(!is_ready(&mut second).await);
    let waiting = tokio::spawn(probe.clone().oneshot(5));
    tokio::task::yield_now().await;
    probe.unblock();
    assert_eq!(waiting.await.unwrap().unwrap(), 6);
    assert!(is_ready(&mut second).await);
    drop(second);
    assert_eq!(probe.ready_held(), 0);
}

/// Polls once, without waiting.
async fn is_ready(probe: &mut Probe<u32, u32>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Service::poll_ready(probe, cx).is_ready())).await
}

#[tokio::test]
#[should_panic(expected = "before `poll_ready` returned ready")]
async fn a_probe_panics_when_a_clone_is_called_unready() {
    let mut probe = Probe::new(|(): ()| async { Ok(()) });
    probe.ready().await.unwrap();

    drop(probe.clone().call(()));
}
