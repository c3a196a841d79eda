//! A reservation is settled once, however its request ends.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};
use tower::{ServiceExt, service_fn};
use tower_m2m::{
    BoxError, ClientCredentialsLayer, ErrorClass, M2mLayer, Misuse, RateLimitRetryLayer,
    client_credentials::AccessToken,
    rate_limit_retry::{Cost, CostUsed, RateLimitEvent},
};

use crate::{
    support::SECOND,
    world::{
        ESTIMATE, Stream, assert_charged, assert_reserved, builder, chunks, quota, request, send,
        service, stream,
    },
};

fn ok(body: Stream) -> Result<Response<Stream>, BoxError> {
    Ok(Response::new(body))
}

fn throttled() -> Response<Stream> {
    Response::builder()
        .status(StatusCode::TOO_MANY_REQUESTS)
        .header(RETRY_AFTER, "1")
        .body(chunks(b"", 1))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_estimate_is_reserved_in_flight_and_charged_with_the_response() {
    let layer = builder().build();
    let service = service(&layer, async |_| {
        sleep(SECOND).await;
        ok(chunks(b"", 1))
    });
    let mut calls = tokio::task::JoinSet::from_iter([send(&service), send(&service)]);
    tokio::task::yield_now().await;
    assert_reserved(&layer.handle(), 2 * ESTIMATE);

    while let Some(response) = calls.join_next().await {
        response.unwrap().unwrap();
    }

    assert_charged(&layer.handle(), 2 * ESTIMATE);
}

#[tokio::test(start_paused = true)]
async fn a_layer_below_may_put_the_cost_into_the_response() {
    for used in [3, 5_000] {
        let layer = builder().build();
        let service = service(&layer, move |_| {
            let mut response = Response::new(chunks(b"", 1));
            let used = Cost::new().with("tokens", used);
            response.extensions_mut().insert(used);
            async { Ok(response) }
        });

        send(&service).await.unwrap();

        assert_charged(&layer.handle(), used);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_keeps_the_reservation_until_it_is_dropped() {
    let layer = builder().build();
    let handles = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&handles);
    let service = service_fn(move |mut request: Request<()>| {
        let cost_used = CostUsed::take(&mut request).unwrap();
        taken.lock().unwrap().push(cost_used);
        async { ok(chunks(b"", 1)) }
    });
    let service = tower::Layer::layer(&layer, service);
    service.oneshot(request()).await.unwrap();
    let cost_used = handles.lock().unwrap().pop().unwrap();
    assert_eq!(cost_used.estimate().amount("tokens"), Some(ESTIMATE));
    let clone = cost_used.clone();
    clone.set(Cost::new().with("tokens", 1));
    cost_used.set(Cost::new().with("tokens", 70).with("points", 2));
    drop(cost_used);
    assert_reserved(&layer.handle(), ESTIMATE);

    drop(clone);

    assert_charged(&layer.handle(), 70);
    assert_eq!(quota(&layer.handle()).charged("points"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_reports_nothing_leaves_the_estimate_charged() {
    let layer = builder().build();
    let service = service(&layer, async |mut request| {
        drop(CostUsed::take(&mut request));
        ok(chunks(b"", 1))
    });

    send(&service).await.unwrap();

    assert_charged(&layer.handle(), ESTIMATE);
}

#[tokio::test(start_paused = true)]
async fn a_stream_settles_at_its_end() {
    let layer = builder().build();
    let (frames, body) = stream();
    let body = Arc::new(Mutex::new(Some(body)));
    let service = service(&layer, move |_| {
        let body = body.lock().unwrap().take().unwrap();
        let response = Response::builder().header("content-type", "text/event-stream");
        async { Ok(response.body(body)?) }
    });
    let mut response = send(&service).await.unwrap();
    assert_reserved(&layer.handle(), ESTIMATE);
    let last = "data: {\"usage\":{\"prompt_tokens\":400,\"completion_tokens\":77,\"total_tokens\":477}}\n\n";
    for event in ["data: {\"choices\":[{}],\"usage\":null}\n\n", last] {
        frames.send(Ok(Frame::data(event.into()))).unwrap();
        response.frame().await.unwrap().unwrap();
        assert_reserved(&layer.handle(), ESTIMATE);
    }

    drop(frames);
    assert!(response.frame().await.is_none());

    assert_charged(&layer.handle(), 477);
    drop(response);
    assert_charged(&layer.handle(), 477);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_charges_its_estimate_unless_its_usage_has_arrived() {
    for (event, expected) in [
        ("data: {\"usage\":null}\n\n", ESTIMATE),
        // Anthropic's first event, which does not contain the final usage of the output.
        (
            "data: {\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
            ESTIMATE,
        ),
        ("data: {\"usage\":{\"total_tokens\":31}}\n\n", 31),
    ] {
        for fails in [false, true] {
            let layer = builder().build();
            let service = service(&layer, move |_| {
                let (frames, body) = stream();
                frames.send(Ok(Frame::data(Bytes::from(event)))).unwrap();
                if fails {
                    frames.send(Err("reset".into())).unwrap();
                }
                let response = Response::builder().header("content-type", "text/event-stream");
                async { Ok(response.body(body)?) }
            });
            let mut response = send(&service).await.unwrap();
            response.frame().await.unwrap().unwrap();
            if fails {
                response.frame().await.unwrap().unwrap_err();
            }

            drop(response);

            assert_charged(&layer.handle(), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_charges_its_estimate() {
    let layer = builder().build();
    let service = service(&layer, async |_| pending().await);

    timeout(SECOND, send(&service)).await.unwrap_err();

    assert_charged(&layer.handle(), ESTIMATE);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_request_is_charged_nothing_and_its_retry_reserves_again() {
    let layer = builder().build();
    let calls = Arc::new(AtomicUsize::new(0));
    let service = service(&layer, move |request| {
        let first = calls.fetch_add(1, SeqCst) == 0;
        assert!(request.extensions().get::<CostUsed>().is_none());
        async move {
            if first {
                Ok(throttled())
            } else {
                ok(chunks(b"", 1))
            }
        }
    });
    let call = tokio::spawn(send(&service));
    sleep(SECOND / 2).await;
    assert_reserved(&layer.handle(), 0);

    call.await.unwrap().unwrap();

    assert_charged(&layer.handle(), ESTIMATE);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_request_settles_although_a_handle_is_alive() {
    let layer = builder().max_retries(0).build();
    let handles = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&handles);
    let service = service_fn(move |mut request: Request<()>| {
        taken.lock().unwrap().extend(CostUsed::take(&mut request));
        async { Ok::<_, BoxError>(throttled()) }
    });
    let service = tower::Layer::layer(&layer, service);

    service.oneshot(request()).await.unwrap();

    assert_charged(&layer.handle(), 0);
    for cost_used in handles.lock().unwrap().drain(..) {
        cost_used.set(Cost::new().with("tokens", 8));
    }
    assert_charged(&layer.handle(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_rejection_is_charged_nothing() {
    let layer = builder().is_permanent(|_| true).build();
    let service = service(&layer, async |_| Ok(throttled()));

    send(&service).await.unwrap();

    assert_charged(&layer.handle(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_sent_is_charged_nothing() {
    for (class, expected) in [
        (ErrorClass::NotSent, 0),
        (ErrorClass::MaybeProcessed, ESTIMATE),
    ] {
        let layer = builder()
            .max_retries(0)
            .classify_errors(move |_| class)
            .build();
        let service = service(&layer, async |_| Err("no connection".into()));

        send(&service).await.unwrap_err();

        assert_charged(&layer.handle(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_under_any_mix_of_fates_leave_nothing_reserved() {
    for seed in 0..20 {
        let layer = builder().max_retries(0).build();
        let expected = Arc::new(AtomicUsize::new(0));
        let charged = Arc::clone(&expected);
        let service = service(&layer, move |request: Request<()>| {
            let fate = *request.extensions().get::<u64>().unwrap();
            async move {
                sleep(Duration::from_millis(fate * 7 % 40)).await;
                match fate % 5 {
                    0 => Err("lost".into()),
                    1 => {
                        let response = Response::builder().status(StatusCode::BAD_REQUEST);
                        Ok(response.body(chunks(b"", 1))?)
                    }
                    2 => {
                        let mut response = Response::new(chunks(b"", 1));
                        response
                            .extensions_mut()
                            .insert(Cost::new().with("tokens", fate));
                        Ok(response)
                    }
                    _ => {
                        let body = format!("{{\"usage\":{{\"total_tokens\":{fate}}}}}");
                        let response =
                            Response::builder().header("content-type", "application/json");
                        Ok(response.body(chunks(body.as_bytes(), 5))?)
                    }
                }
            }
        });
        let mut random = fastrand::Rng::with_seed(seed);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let (fate, patience) = (random.u64(..100), random.u64(..60));
            let (service, charged) = (service.clone(), Arc::clone(&charged));
            calls.spawn(async move {
                let mut request = request();
                request.extensions_mut().insert(fate);
                let call = async {
                    let response = service.oneshot(request).await?;
                    let status = response.status();
                    drop(response.into_body().collect().await);
                    Ok::<_, BoxError>(status)
                };
                let outcome = timeout(Duration::from_millis(patience + 1), call).await;
                let tokens = match outcome {
                    // Cancelled while it waited: it was not sent, so that nothing is charged.
                    Err(_) => return None,
                    Ok(Ok(StatusCode::OK)) => fate,
                    Ok(_) => ESTIMATE,
                };
                charged.fetch_add(usize::try_from(tokens).unwrap(), SeqCst);
                Some(tokens)
            });
        }
        let mut cancelled = 0;
        while let Some(outcome) = calls.join_next().await {
            cancelled += u64::from(outcome.unwrap().is_none());
        }

        let quota = quota(&layer.handle());
        assert_eq!(
            (quota.reserved("tokens"), quota.in_flight()),
            (0, 0),
            "{seed}"
        );
        let known = expected.load(SeqCst) as u64;
        let unknown = quota.charged("tokens") - known;
        assert!(
            unknown <= cancelled * ESTIMATE,
            "{seed}: {unknown} of {cancelled}"
        );
        assert_eq!(unknown % ESTIMATE, 0, "{seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn handles_exist_only_where_something_asks_for_them() {
    let with_function = builder().build();
    let with_setting = RateLimitRetryLayer::builder().report_costs(true).build();
    for (layer, expected) in [
        (RateLimitRetryLayer::new(), false),
        (with_setting, true),
        (with_function, true),
    ] {
        let service = service_fn(move |request: Request<()>| {
            let found = request.extensions().get::<CostUsed>().is_some();
            assert_eq!(found, expected);
            async { ok(chunks(b"", 1)) }
        });
        let service = tower::Layer::layer(&layer, service);
        // More requests than a layer without costs needs to open its fast path.
        for _ in 0..1_100 {
            service.clone().oneshot(request()).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_estimate_the_reported_cost_is_charged() {
    let layer = RateLimitRetryLayer::builder().report_costs(true).build();
    let service = service(&layer, async |_| {
        let response = Response::builder().header("content-type", "application/json");
        Ok(response.body(chunks(b"{\"usage\":{\"total_tokens\":12}}", 9))?)
    });

    for _ in 0..3 {
        let response = send(&service).await.unwrap();
        response.into_body().collect().await.unwrap();
    }

    assert_charged(&layer.handle(), 36);
}

#[tokio::test(start_paused = true)]
async fn the_combined_layer_has_the_same_costs() {
    let limits = builder().build();
    let origin = "https://api.example.com".parse().unwrap();
    let credentials = ClientCredentialsLayer::builder(AccessToken::new("token"), origin).build();
    let layer = M2mLayer::new(limits.clone(), credentials);
    let service = service_fn(async |request: Request<()>| {
        assert!(request.extensions().get::<CostUsed>().is_some());
        let mut response = Response::new(chunks(b"", 1));
        response
            .extensions_mut()
            .insert(Cost::new().with("tokens", 5));
        Ok::<_, BoxError>(response)
    });

    let service = tower::Layer::layer(&layer, service);
    service.oneshot(request()).await.unwrap();

    assert_charged(&limits.handle(), 5);
}

#[test]
fn a_cost_function_that_is_set_twice_is_a_misuse() {
    let reported = Arc::new(Mutex::new(HashMap::new()));
    let sink = Arc::clone(&reported);
    let layer = builder().cost(|_| Cost::new()).on_event(move |event| {
        if let RateLimitEvent::Misused {
            misuse: Misuse::SetTwice { setting },
            ..
        } = event
        {
            *sink.lock().unwrap().entry(*setting).or_insert(0) += 1;
        }
    });

    drop(layer.build());

    assert_eq!(*reported.lock().unwrap(), HashMap::from([("cost", 1)]));
}
