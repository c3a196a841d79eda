//! Whole runs, to the double.

use super::*;
use crate::double::Limits;

/// Bytes that a test can read while a writer has them.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Asks a double with these limits. Returns the answers' lines.
async fn answers(
    prompts: &[&str],
    limits: Limits,
    key: &str,
    report: &Arc<Report>,
) -> Vec<serde_json::Value> {
    let (url, _server) = double::start(limits).await.unwrap();
    let options = Options {
        max_tokens: 100,
        ..Options::default()
    };
    let client = Client::new(&url, key, &options, report).unwrap();
    let prompts: Vec<_> = prompts.iter().map(|prompt| (*prompt).to_owned()).collect();
    let output = Shared::default();
    ask_all(&client, &prompts, 4, report, Box::new(output.clone()))
        .await
        .unwrap();
    let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn every_prompt_is_answered_within_the_limits() {
    let report = Arc::new(Report::new(8));
    // Room for three answers at the start; the others wait for the refill, of 100 tokens a second.
    let limits = Limits {
        requests: 1000,
        tokens: 6000,
    };
    let prompts = ["a", "b", "c", "d", "e", "f", "g", "h"];

    let lines = answers(&prompts, limits, double::KEY, &report).await;

    let mut numbers: Vec<_> = lines
        .iter()
        .map(|line| line["line"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(
        lines.iter().all(|line| line["tokens"].as_u64() > Some(20)),
        "{lines:?}"
    );
    let summary = report.summary(4);
    assert_eq!(
        (summary.answered, summary.failed, summary.rejected),
        (8, 0, 0)
    );
    assert!(
        summary
            .to_string()
            .contains("tokens per minute            6000"),
        "{summary}"
    );
}

#[tokio::test]
async fn a_rejected_key_is_reported_for_each_prompt() {
    let report = Arc::new(Report::new(2));

    let lines = answers(&["a", "b"], Limits::DEFAULT, "another-key", &report).await;

    assert!(lines.is_empty());
    let summary = report.summary(4);
    assert_eq!((summary.answered, summary.failed), (0, 2));
}
