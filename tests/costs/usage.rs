//! What `ReadUsageLayer` reads in the bodies of known servers.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tower::ServiceBuilder;
use tower_m2m::rate_limit_retry::{Cost, ReadUsageLayer};

use crate::world::{
    ESTIMATE, assert_charged, builder, chunks, inner, quota, request, send, service, stream,
};

const JSON: &str = "application/json; charset=utf-8";
const EVENTS: &str = "text/event-stream";

/// Sends one request whose response has this body. Returns what was charged of each of these units.
async fn charged(
    layer: ReadUsageLayer,
    (status, content_type): (u16, &str),
    body: &str,
    length: usize,
    units: &[&str],
) -> Vec<u64> {
    let limits = builder().max_retries(0).build();
    let (content_type, data) = (content_type.to_owned(), body.as_bytes().to_vec());
    let inner = inner(move |_| {
        let response = Response::builder()
            .status(status)
            .header("content-type", &content_type)
            .body(chunks(&data, length));
        async { Ok(response?) }
    });
    let service = ServiceBuilder::new()
        .layer(limits.clone())
        .layer(layer)
        .service(inner);
    let response = tower::ServiceExt::oneshot(service, request())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
    let received = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(received, body, "the body is unchanged");
    let quota = quota(&limits.handle());
    assert_eq!(quota.reserved("tokens"), 0);
    units.iter().map(|unit| quota.charged(unit)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_usage_of_known_servers_is_charged() {
    let units = ["tokens", "input-tokens", "output-tokens", "points"];
    for (server, content_type, body, expected) in [
        (
            "OpenAI, Azure, Mistral, Groq",
            JSON,
            r#"{"id":"c","choices":[{"message":{"content":"usage: {\"total_tokens\": 9}"}}],
                "usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,
                "completion_tokens_details":{"reasoning_tokens":4}},"service_tier":"default"}"#,
            [29, 19, 10, 0],
        ),
        (
            "OpenAI, streamed",
            EVENTS,
            "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\r\n\r\n\
             data: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}\r\n\r\n\
             data: [DONE]\r\n\r\n",
            [29, 19, 10, 0],
        ),
        (
            "OpenAI's responses, streamed",
            EVENTS,
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
             event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":\
             {\"usage\":{\"input_tokens\":37,\"output_tokens\":11,\"total_tokens\":48}}}\n\n",
            [48, 37, 11, 0],
        ),
        (
            "Anthropic",
            JSON,
            r#"{"content":[{"text":"Hi","type":"text"}],"usage":{"cache_creation_input_tokens":100,
                "cache_read_input_tokens":5000,"input_tokens":2095,"output_tokens":503}}"#,
            [2698, 2195, 503, 0],
        ),
        (
            "Anthropic, streamed",
            EVENTS,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n\
             event: ping\ndata: {\"type\": \"ping\"}\n\n\
             event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n\
             event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            [40, 25, 15, 0],
        ),
        (
            "JSON lines",
            "application/x-ndjson",
            "{\"broken\":\"\n{\"done\":false}\n{\"usage\":{\"total_tokens\":6}}",
            [6, 0, 0, 0],
        ),
        (
            "Shopify GraphQL",
            JSON,
            r#"{"data":{"usage":{"total_tokens":7}},"extensions":{"cost":{"requestedQueryCost":101,"actualQueryCost":46,
                "throttleStatus":{"maximumAvailable":1000.0,"currentlyAvailable":954,"restoreRate":50.0}}}}"#,
            // The estimate of tokens is charged, because the response contains none.
            [ESTIMATE, 0, 0, 46],
        ),
        (
            "Shopify GraphQL, throttled",
            JSON,
            r#"{"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":
                {"requestedQueryCost":101,"actualQueryCost":null,
                "throttleStatus":{"maximumAvailable":1000.0,"currentlyAvailable":54,"restoreRate":50.0}}}}"#,
            [ESTIMATE, 0, 0, 0],
        ),
        ("no usage", JSON, r#"{"data":null}"#, [ESTIMATE, 0, 0, 0]),
        (
            "no JSON",
            "text/plain",
            r#"{"usage":{"total_tokens":1}}"#,
            [ESTIMATE, 0, 0, 0],
        ),
    ] {
        for length in [1, 2, 3, 7, 64, 10_000] {
            let layer = ReadUsageLayer::new();
            let found = charged(layer, (200, content_type), body, length, &units).await;
            assert_eq!(found, expected, "{server}, in pieces of {length}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn own_members_are_charged() {
    let layer = ReadUsageLayer::new()
        .pointer("/meta/credits/0", "credits")
        .pointer("/meta/tokens", "tokens");
    let body = r#"{"meta":{"credits":[2.5,9],"tokens":81}}"#;

    let found = charged(layer, (200, JSON), body, 4, &["credits", "tokens"]).await;

    assert_eq!(found, [3, 81]);
}

#[tokio::test(start_paused = true)]
async fn the_usage_in_an_error_is_not_read() {
    let body = r#"{"usage":{"total_tokens":1}}"#;

    let found = charged(ReadUsageLayer::new(), (400, JSON), body, 9, &["tokens"]).await;

    assert_eq!(found, [ESTIMATE]);
}

#[tokio::test(start_paused = true)]
async fn a_large_and_hostile_body_passes_through() {
    let body = format!(
        "{{\"a\":\"{}\",\"b\":{},\"usage\":{{\"total_tokens\":18446744073709551616,\"prompt_tokens\":-4,\"completion_tokens\":NaN}}}}",
        "x".repeat(10 << 20),
        "[".repeat(100_000) + &"]".repeat(100_000),
    );

    let found = charged(
        ReadUsageLayer::new(),
        (200, JSON),
        &body,
        16 << 10,
        &["tokens"],
    )
    .await;

    assert_eq!(found, [ESTIMATE]);
}

#[tokio::test(start_paused = true)]
async fn trailers_and_unread_bodies_pass_through() {
    let layer = builder().build();
    let service = service(&layer, async |_| {
        let (frames, body) = stream();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse()?);
        let data = Bytes::from_static(b"{\"usage\":{\"total_tokens\":4}}");
        frames.send(Ok(Frame::data(data)))?;
        frames.send(Ok(Frame::trailers(trailers)))?;
        let response = Response::builder().header("content-type", JSON);
        Ok(response.body(body)?)
    });
    let body = send(&service).await.unwrap().into_body();

    let received = body.collect().await.unwrap();

    let trailers = received.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_charged(&layer.handle(), 4);
    drop(send(&service).await.unwrap());
    assert_charged(&layer.handle(), 4 + ESTIMATE);
    let _ = Cost::new();
}
