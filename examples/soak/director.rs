//! Which faults are injected, and when.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fastrand::Rng;
use http::StatusCode;
use tower_m2m::{
    client_credentials::{self, SecretSource, TokenError},
    test_util::Issuer,
};

use crate::{server::Server, trouble::Trouble};

/// Both servers, and how often something was done to the issuer that costs token requests.
pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) issuer_server: Server,
    pub(crate) api_server: Server,
    pub(crate) secret: Secret,
    pub(crate) issuer_outages: AtomicU64,
    pub(crate) rotations: AtomicU64,
}

/// The client's secret, which is rotated.
#[derive(Clone)]
pub(crate) struct Secret(Arc<Mutex<String>>);

impl Secret {
    pub(crate) fn new(secret: &str) -> Self {
        Self(Arc::new(Mutex::new(secret.to_owned())))
    }

    fn set(&self, secret: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = secret;
    }
}

impl SecretSource for Secret {
    async fn read(&self) -> Result<client_credentials::Secret, TokenError> {
        let secret = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(secret.as_str().into())
    }
}

pub(crate) const CLIENT: &str = "soak";

/// What one of the API's requests meets: one in thirty meets something.
pub(crate) fn api_trouble() -> Option<Trouble> {
    Some(match fastrand::u32(0..100_000) {
        0..1_000 => Trouble::Delay(Duration::from_millis(fastrand::u64(5..400))),
        1_000..1_400 => Trouble::CutRequest,
        1_400..1_800 => Trouble::CutAnswer,
        1_800..2_200 => Trouble::CutResponse,
        2_200..2_600 => Trouble::Status(StatusCode::BAD_GATEWAY, None),
        2_600..2_900 => Trouble::Status(StatusCode::SERVICE_UNAVAILABLE, None),
        2_900..3_100 => Trouble::Status(StatusCode::INTERNAL_SERVER_ERROR, None),
        // Each of these concerns all callers.
        3_100..3_110 => Trouble::Hang,
        3_110..3_114 => Trouble::Status(StatusCode::UNAUTHORIZED, None),
        3_114..3_118 => Trouble::Status(StatusCode::TOO_MANY_REQUESTS, Some(1)),
        3_118..3_120 => Trouble::Status(StatusCode::TOO_MANY_REQUESTS, None),
        3_120..3_122 => Trouble::Status(StatusCode::SERVICE_UNAVAILABLE, Some(1)),
        _ => return None,
    })
}

/// What a token request meets: one in five meets something.
pub(crate) fn issuer_trouble() -> Option<Trouble> {
    Some(match fastrand::u8(0..50) {
        0 | 1 => Trouble::Delay(Duration::from_millis(fastrand::u64(5..800))),
        2 => Trouble::CutRequest,
        3 => Trouble::CutAnswer,
        4 => Trouble::CutResponse,
        5 => Trouble::Hang,
        6 => Trouble::Status(StatusCode::INTERNAL_SERVER_ERROR, None),
        7 => Trouble::Status(StatusCode::TOO_MANY_REQUESTS, Some(1)),
        8 => Trouble::Status(StatusCode::SERVICE_UNAVAILABLE, Some(2)),
        9 => Trouble::Body("<html>"),
        _ => return None,
    })
}

/// Makes things go wrong that are not about one request, until all is to be calm.
pub(crate) async fn direct(world: Arc<World>, mut random: Rng) {
    for tick in 1_u64.. {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if world.api_server.faults.calm.load(Relaxed) {
            return;
        }
        let time = Duration::from_millis(random.u64(50..400));
        if tick % 70 == 0 {
            world.api_server.fail_for(time);
        }
        if tick % 90 == 0 {
            world.issuer_outages.fetch_add(1, Relaxed);
            world.issuer_server.fail_for(time);
        }
        if tick % 130 == 0 {
            world.issuer.revoke_all();
        }
        if tick % 170 == 0 {
            let secret = format!("secret-{tick}");
            world.rotations.fetch_add(1, Relaxed);
            world.issuer.set_secret(CLIENT, &secret);
            // The issuer knows it a little before the client does.
            tokio::time::sleep(time).await;
            world.secret.set(secret);
        }
    }
}
