//! The alert rules, and what the guide says about each. `observe.py` checks the rules themselves.

const RULES: &str = include_str!("../../alerts.yml");
const TESTS: &str = include_str!("../../alerts.test.yml");
const RUNBOOK: &str = include_str!("../../../../src/docs/runbook.md");
const KINDS: &str = include_str!("../../../../src/client_credentials/error/kind.rs");

#[test]
fn alerts_and_runbook_sections_match() {
    let alerts: Vec<_> = RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let headings: Vec<_> = RUNBOOK
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .collect();
    let links: Vec<_> = RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook: runbook.md#"))
        .collect();

    assert!(alerts.len() >= 10);
    assert_eq!(alerts, headings);
    let anchors: Vec<_> = alerts.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(anchors, links);
}

#[test]
fn the_tests_of_alert_rules_name_existing_error_kinds() {
    let names = TESTS.split("error=\"").skip(1);
    let names: Vec<_> = names.filter_map(|rest| rest.split('"').next()).collect();

    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        assert!(KINDS.contains(&format!("=> \"{name}\"")), "{name}");
    }
}
