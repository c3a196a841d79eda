//! What becomes of a service that is ready when its request has to wait.

/// Another instance of `service`, for later. Its own readiness is given back: a permit that is held while waiting could be
/// the one that another request needs.
pub(crate) fn give_back<S: Clone>(service: &mut S) -> S {
    let fresh = service.clone();
    drop(std::mem::replace(service, fresh));
    service.clone()
}
