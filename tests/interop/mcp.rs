//! The conformance tests of MCP for clients: an MCP server names its authorization server (RFC 9728).

use tokio::process::Command;

use crate::{
    servers::Servers,
    table::{Finished, Table},
};

const CHECKS: &str = "checks passed";

pub(crate) async fn table(servers: &Servers) -> Finished {
    let mut table = Table::new("MCP scenario", &[CHECKS]);
    for scenario in [
        "auth/client-credentials-basic",
        "auth/client-credentials-jwt",
        "auth/cross-app-access-complete-flow",
    ] {
        table.cell(scenario, CHECKS, passes(servers.clone(), scenario));
    }
    table.finish().await
}

/// Runs `examples/mcp` in a scenario, and returns how many of its checks have passed.
async fn passes(servers: Servers, scenario: &str) -> String {
    let [node, conformance, client] =
        ["node", "conformance", "client"].map(|name| servers.get("mcp", name));
    let run = Command::new(node)
        .args([&*conformance, "client", "--command", &*client])
        .args(["--scenario", scenario])
        .output();
    let output = run.await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("OVERALL: PASSED"), "{text}");
    // For example: "Passed: 8/8, 0 failed, 0 warnings".
    let passed = text.lines().find_map(|line| line.strip_prefix("Passed: "));
    let (passed, _) = passed.and_then(|line| line.split_once(',')).unwrap();
    let (count, of) = passed.split_once('/').unwrap();
    assert!(count == of && count != "0", "{text}");
    passed.to_owned()
}
