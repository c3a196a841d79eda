//! The crate against servers written by others. `bash tests/interop/run.sh` installs and starts them.
#![cfg(all(feature = "dpop", feature = "https"))]

mod apis;
mod bound;
mod limits;
mod mcp;
mod methods;
mod servers;
mod table;

use servers::Servers;

#[tokio::test]
#[ignore = "needs the servers that tests/interop/run.sh starts"]
async fn each_server_issues_a_token_for_each_supported_method() {
    methods::table(&Servers::from_env()).await.check();
}

#[tokio::test]
#[ignore = "needs the servers that tests/interop/run.sh starts"]
async fn each_api_is_used_past_token_expiry() {
    apis::table(&Servers::from_env()).await.check();
}

#[tokio::test]
#[ignore = "needs the servers that tests/interop/run.sh starts"]
async fn each_limiter_eventually_admits_all_requests() {
    limits::table(&Servers::from_env()).await.check();
}

#[tokio::test]
#[ignore = "needs the servers that tests/interop/run.sh starts"]
async fn each_bound_token_is_accepted_with_its_proof() {
    bound::table(&Servers::from_env()).await.check();
}

#[tokio::test]
#[ignore = "needs the programs that tests/interop/run.sh installs"]
async fn each_mcp_scenario_passes() {
    mcp::table(&Servers::from_env()).await.check();
}
