//! Bodies stream, both ways.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tower_m2m::BoxError;

use crate::support::{Upstream, client, gateway_to, issuer, request};

#[tokio::test]
async fn bodies_are_streamed() {
    let issuer = issuer().await;
    // Sends each piece back as it comes.
    let upstream = Upstream::start(|request| async { Response::new(request.into_body()) }).await;
    let gateway = gateway_to(&upstream, &issuer).await;
    let (pieces, body) = pieces();
    let call = request(&gateway, "POST", "/").body(body).unwrap();

    pieces.send("one".into()).unwrap();
    let response = client().request(call).await.unwrap();
    let mut answer = response.into_body();
    for piece in ["one", "two", "three"] {
        if piece != "one" {
            pieces.send(piece.into()).unwrap();
        }
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(pieces);

    assert!(answer.frame().await.is_none());
}

#[tokio::test]
async fn a_body_larger_than_the_replay_buffer_arrives_complete() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|request| async { Response::new(request.into_body()) }).await;
    let gateway = gateway_to(&upstream, &issuer).await;
    let (pieces, body) = pieces();
    let call = request(&gateway, "PUT", "/").body(body).unwrap();
    let sending = tokio::spawn(async move {
        for number in 0..64_u8 {
            pieces.send(vec![number; 16 * 1024].into()).unwrap();
        }
    });

    let response = client().request(call).await.unwrap();
    let received = response.into_body().collect().await.unwrap().to_bytes();
    sending.await.unwrap();

    let expected: Vec<u8> = (0..64_u8).flat_map(|n| vec![n; 16 * 1024]).collect();
    assert!(received == expected);
}

#[tokio::test]
async fn an_aborted_response_is_aborted_for_the_caller() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|_| async {
        let (pieces, body) = failing();
        pieces.send(Ok(Frame::data("half".into()))).unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = pieces.send(Err("broken".into()));
        });
        Response::new(body)
    })
    .await;
    let gateway = gateway_to(&upstream, &issuer).await;
    let call = request(&gateway, "GET", "/").body(Body::empty()).unwrap();

    let response = client().request(call).await.unwrap();

    assert!(response.into_body().collect().await.is_err());
}

fn pieces() -> (mpsc::UnboundedSender<Bytes>, Body) {
    let (sender, mut pieces) = mpsc::unbounded_channel::<Bytes>();
    let (frames, body) = failing();
    tokio::spawn(async move {
        while let Some(piece) = pieces.recv().await {
            let _ = frames.send(Ok(Frame::data(piece)));
        }
    });
    (sender, body)
}

type Piece = Result<Frame<Bytes>, BoxError>;

fn failing() -> (mpsc::UnboundedSender<Piece>, Body) {
    let (sender, pieces) = mpsc::unbounded_channel();
    (sender, Body::new(Pieces(pieces)))
}

/// A body whose pieces come from a channel.
struct Pieces(mpsc::UnboundedReceiver<Piece>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.0.poll_recv(cx)
    }
}
