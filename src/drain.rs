//! What comes between two attempts: the rest of the first response is read, so that its connection can be used again.

use std::{pin::pin, time::Duration};

use bytes::Buf;
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

/// Reads and drops the body, up to 64 KiB and half a second; a connection that needs more is not worth saving.
pub(crate) async fn drain<RB: Body>(response: Response<RB>) {
    let body = response.into_body();
    if body.is_end_stream() || Handle::try_current().is_err() {
        return;
    }
    let reading = async {
        let mut body = pin!(body);
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Buf::remaining);
            if read > MOST_BYTES {
                break;
            }
        }
    };
    drop(timeout(LONGEST, reading).await);
}

/// Drains the response, if there is one, and waits.
pub(crate) async fn pause<RB: Body>(response: Option<Response<RB>>, wait: Duration) {
    if let Some(response) = response {
        drain(response).await;
    }
    if !wait.is_zero() {
        sleep(wait).await;
    }
}

const MOST_BYTES: usize = 64 * 1024;
const LONGEST: Duration = Duration::from_millis(500);
