//! What the README promises, and the tests that it names for it.

const README: &str = include_str!("../../README.md");

/// Where those tests are.
const TESTS: [&str; 16] = [
    include_str!("blame.rs"),
    include_str!("configuration.rs"),
    include_str!("connections.rs"),
    include_str!("credentials.rs"),
    include_str!("fields.rs"),
    include_str!("limits.rs"),
    include_str!("operations.rs"),
    include_str!("program.rs"),
    include_str!("reload.rs"),
    include_str!("shutdown.rs"),
    include_str!("smuggling.rs"),
    include_str!("streaming.rs"),
    include_str!("../../src/strip.rs"),
    include_str!("../../src/template.rs"),
    include_str!("../../../../tests/clients/hyper_server.rs"),
    include_str!("../../../../tests/compose/tests/clients/axum_server.rs"),
];

#[test]
fn every_test_that_the_readme_names_exists() {
    let (_, table) = README.split_once("| it promises | test |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let names: Vec<&str> = rows
        .flat_map(|row| {
            let tests = row.rsplit('|').nth(1).unwrap();
            tests.split('`').skip(1).step_by(2)
        })
        .collect();

    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        let definition = format!("fn {name}(");
        let there = TESTS.iter().any(|file| file.contains(&definition));
        assert!(there, "{name}");
    }
}
