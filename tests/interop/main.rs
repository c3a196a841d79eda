//! The crate against servers written by others. `bash tests/interop/run.sh` installs and starts them.
#![cfg(all(feature = "jwt", feature = "https"))]

mod apis;
mod limits;
mod methods;
mod servers;
mod table;

use servers::Servers;

#[tokio::test]
#[ignore = "needs the servers that tests/interop/run.sh starts"]
async fn each_server_grants_a_token_for_each_method_that_it_offers() {
    methods::table(&Servers::from_env()).await.check();
}

#[tokio::test]
#[ignore = "needs the servers that tests/interop/run.sh starts"]
async fn each_api_is_used_until_the_token_ends_and_beyond() {
    apis::table(&Servers::from_env()).await.check();
}

#[tokio::test]
#[ignore = "needs the servers that tests/interop/run.sh starts"]
async fn each_limiter_lets_all_requests_pass_in_the_end() {
    limits::table(&Servers::from_env()).await.check();
}
