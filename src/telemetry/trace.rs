//! Emits events as `tracing` events, under fixed targets. Texts and fields are part of the interface:
//! `docs::telemetry`.
//!
//! Levels: `warn` for problems that need attention, `info` for changes of state, `debug` for frequent events. Errors
//! are printed with their causes. No event contains a secret, a path or a query.

use crate::{
    client_credentials::TokenEvent, error::causes, rate_limit_retry::RateLimitEvent,
    replay::ReplayEvent,
};

/// Emits a token event, with target `tower_m2m::token`.
pub(crate) fn token(event: &TokenEvent<'_>) {
    const TARGET: &str = "tower_m2m::token";
    match *event {
        TokenEvent::FetchStarted { credential, reason } => {
            tracing::debug!(target: TARGET, credential, reason = reason.as_str(), "token fetch started");
        }
        TokenEvent::FetchRetrying {
            credential,
            attempt,
            wait,
            error,
        } => {
            let (kind, cause) = (error.kind().as_str(), causes(error));
            tracing::info!(target: TARGET, credential, attempt, ?wait, %error, kind, cause, "retrying token request");
        }
        TokenEvent::Fetched {
            credential,
            reason,
            elapsed,
            expires_in,
        } => {
            let expires_in = expires_in.map(|life| life.as_secs());
            tracing::info!(target: TARGET, credential, reason = reason.as_str(), ?elapsed, expires_in, "token fetched");
        }
        TokenEvent::LoadedFromStore {
            credential,
            reason,
            elapsed,
            expires_in,
        } => {
            let expires_in = expires_in.map(|life| life.as_secs());
            tracing::info!(target: TARGET, credential, reason = reason.as_str(), ?elapsed, expires_in, "token loaded from store");
        }
        TokenEvent::RefreshSuppressed { credential } => {
            tracing::info!(target: TARGET, credential, "token refresh suppressed: shared cooldown");
        }
        TokenEvent::StoreFailed { credential, error } => {
            let cause = causes(error);
            tracing::warn!(target: TARGET, credential, %error, cause, "token store failed");
        }
        TokenEvent::StoreRecovered { credential } => {
            tracing::info!(target: TARGET, credential, "token store recovered");
        }
        TokenEvent::FetchFailed {
            credential,
            reason,
            elapsed,
            error,
        } => {
            let error_description = error.error_description();
            let (kind, cause) = (error.kind().as_str(), causes(error));
            tracing::warn!(target: TARGET, credential, reason = reason.as_str(), ?elapsed, %error, kind, cause, error_description, "token fetch failed");
        }
        TokenEvent::FetchSuperseded { credential, reason } => {
            tracing::info!(target: TARGET, credential, reason = reason.as_str(), "superseded token fetch ignored");
        }
        TokenEvent::BoundToken { credential } => {
            tracing::warn!(target: TARGET, credential, "token is bound to a key or certificate");
        }
        TokenEvent::CertificateChanged { credential } => {
            tracing::info!(target: TARGET, credential, "token dropped: its certificate was replaced");
        }
        TokenEvent::CertificateMismatch { credential } => {
            tracing::warn!(target: TARGET, credential, "token is bound to another certificate than the API's client presents");
        }
        TokenEvent::FallbackSecretUsed { credential, error } => {
            let (kind, cause, error_description) = (
                error.kind().as_str(),
                causes(error),
                error.error_description(),
            );
            tracing::warn!(target: TARGET, credential, %error, kind, cause, error_description, "fallback secret used");
        }
        TokenEvent::MetadataRejected { credential, error } => {
            let (kind, cause, error_description) = (
                error.kind().as_str(),
                causes(error),
                error.error_description(),
            );
            tracing::warn!(target: TARGET, credential, %error, kind, cause, error_description, "refreshed metadata rejected");
        }
        TokenEvent::NonConformingResponse {
            credential,
            non_conformance,
        } => {
            tracing::debug!(target: TARGET, credential, non_conformance = non_conformance.as_str(), "non-conforming token response");
        }
        TokenEvent::Misused { credential, misuse } => {
            tracing::warn!(target: TARGET, credential, misuse = misuse.as_str(), "layer misconfigured");
        }
        TokenEvent::ValueTrimmed {
            credential,
            setting,
        } => {
            tracing::warn!(target: TARGET, credential, setting, "surrounding line breaks or byte order marks removed");
        }
        TokenEvent::NonstandardSetting {
            credential,
            setting,
            rule,
        } => {
            tracing::warn!(target: TARGET, credential, setting, rule, "setting violates an RFC");
        }
        TokenEvent::CertificateSkipped {
            credential,
            setting,
            problem,
        } => {
            tracing::warn!(target: TARGET, credential, setting, problem, "trusted certificate skipped");
        }
        TokenEvent::RevocationFailed { credential, error } => {
            let (kind, cause, error_description) = (
                error.kind().as_str(),
                causes(error),
                error.error_description(),
            );
            tracing::warn!(target: TARGET, credential, %error, kind, cause, error_description, "token revocation failed");
        }
        TokenEvent::Revoked { credential } => {
            tracing::info!(target: TARGET, credential, "token revoked");
        }
        TokenEvent::Rejected {
            credential,
            origin,
            action,
        } => {
            tracing::info!(target: TARGET, credential, %origin, ?action, "token rejected by API");
        }
    }
}

/// Emits a rate-limit event, with target `tower_m2m::rate_limit`.
pub(crate) fn rate_limit(event: &RateLimitEvent<'_>) {
    const TARGET: &str = "tower_m2m::rate_limit";
    match *event {
        RateLimitEvent::Throttled {
            partition,
            status,
            held_for,
        } => {
            tracing::info!(target: TARGET, partition = partition.as_str(), status = status.as_u16(), ?held_for, "throttled");
        }
        RateLimitEvent::Queued { partition } => {
            tracing::debug!(target: TARGET, partition = partition.as_str(), "queued");
        }
        RateLimitEvent::Dequeued { partition, waited } => {
            tracing::debug!(target: TARGET, partition = partition.as_str(), ?waited, "admitted after wait");
        }
        RateLimitEvent::LimitEstimated {
            partition,
            limit,
            window,
            rate,
        } => {
            tracing::info!(target: TARGET, partition = partition.as_str(), limit, ?window, rate, "limit estimated");
        }
        RateLimitEvent::Retrying {
            partition,
            attempt,
            wait,
            status,
            error,
        } => {
            let status = status.map(|status| status.as_u16());
            let cause = error.and_then(|error| causes(error));
            let error = error.map(ToString::to_string);
            // Debug, because a busy partition retries often.
            tracing::debug!(target: TARGET, partition = partition.as_str(), attempt, ?wait, status, error, cause, "retrying");
        }
        RateLimitEvent::GaveUp {
            partition,
            attempt,
            reason,
            status,
            error,
        } => {
            let status = status.map(|status| status.as_u16());
            let cause = error.and_then(|error| causes(error));
            let error = error.map(ToString::to_string);
            tracing::info!(target: TARGET, partition = partition.as_str(), attempt, reason = reason.as_str(), status, error, cause, "gave up");
        }
        RateLimitEvent::Rejected {
            partition,
            held_for,
        } => {
            tracing::info!(target: TARGET, partition = partition.as_str(), ?held_for, "rejected: hold too long, queue full or cost too high");
        }
        RateLimitEvent::RemoteHold {
            partition,
            held_for,
        } => {
            tracing::info!(target: TARGET, partition = partition.as_str(), ?held_for, "throttled by another process");
        }
        RateLimitEvent::StoreFailed { partition, error } => {
            let cause = causes(error);
            tracing::warn!(target: TARGET, partition = partition.as_str(), %error, cause, "quota store failed");
        }
        RateLimitEvent::Misused { misuse } => {
            tracing::warn!(target: TARGET, misuse = misuse.as_str(), "rate limit layer misconfigured");
        }
        RateLimitEvent::StoreRecovered { partition } => {
            tracing::info!(target: TARGET, partition = partition.as_str(), "quota store recovered");
        }
    }
}

/// Emits an event of a request body, with target `tower_m2m::replay`.
pub(crate) fn replay(event: &ReplayEvent) {
    const TARGET: &str = "tower_m2m::replay";
    match *event {
        ReplayEvent::OverBudget { budget } => {
            tracing::warn!(target: TARGET, budget, "body not buffered: replay budget exhausted");
        }
    }
}
