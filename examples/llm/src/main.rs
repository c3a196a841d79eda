//! cargo run -p llm                                   # 60 prompts, to a model in this process
//! cargo run -p llm -- prompts.txt --url https://api.openai.com/v1 --model gpt-5-mini --output answers.jsonl
//!
//! Sends each line of a file to a language model, and writes the answers as they arrive, one JSON object per line. Keeps
//! the model's limits on requests and tokens per minute without being told what they are.
//!
//! | option | |
//! |---|---|
//! | `FILE` | prompts, one per line; default: those in `prompts.txt` |
//! | `--url URL` | an API that is compatible with OpenAI's; the key is in `OPENAI_API_KEY`. Default: a model in this process |
//! | `--model NAME` | default: `double` |
//! | `--max-tokens N` | maximum length of an answer; default: 1000 |
//! | `--workers N` | requests at the same time; default: 16 |
//! | `--output FILE` | where the answers go; default: standard output |
//!
//! Progress and the table go to standard error.

#![expect(
    clippy::disallowed_methods,
    reason = "a program measures how long it takes"
)]

mod answer;
mod client;
mod double;
mod options;
mod report;

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write, stdout},
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};
use tower_m2m::BoxError;

use crate::{answer::Answer, client::Client, options::Options, report::Report};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("llm: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all prompts were answered.
async fn run() -> Result<bool, BoxError> {
    let options = Options::parse(std::env::args().skip(1))?;
    let prompts = options.prompts()?;
    let output: Box<dyn Write + Send> = match &options.output {
        Some(path) => {
            let file =
                File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(stdout()),
    };
    // The server in this process is closed when it is dropped.
    let (url, key, _double) = match &options.url {
        Some(url) => {
            let key = std::env::var("OPENAI_API_KEY");
            let key = key.map_err(|_| "set OPENAI_API_KEY to the key of the API")?;
            (url.clone(), key, None)
        }
        None => {
            let (url, server) = double::start(double::Limits::DEFAULT).await?;
            (url, double::KEY.to_owned(), Some(server))
        }
    };
    let report = Arc::new(Report::new(prompts.len()));
    let client = Client::new(&url, &key, &options, &report)?;
    ask_all(&client, &prompts, options.workers, &report, output).await?;
    let summary = report.summary(options.workers);
    eprint!("{summary}");
    Ok(summary.failed == 0)
}

/// Sends all prompts, and writes each answer as soon as it is complete.
///
/// # Errors
///
/// An answer could not be written: then nothing more is sent. A prompt that fails is reported, and the others go on.
async fn ask_all(
    client: &Client,
    prompts: &[String],
    workers: usize,
    report: &Arc<Report>,
    output: Box<dyn Write + Send>,
) -> Result<(), BoxError> {
    let (next, output) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(output)));
    let prompts: Arc<[String]> = prompts.into();
    let mut tasks = JoinSet::new();
    for _ in 0..workers.min(prompts.len()) {
        let (client, prompts, next) = (client.clone(), Arc::clone(&prompts), Arc::clone(&next));
        let (report, output) = (Arc::clone(report), Arc::clone(&output));
        tasks.spawn(async move {
            loop {
                let index = next.fetch_add(1, Relaxed);
                let Some(prompt) = prompts.get(index) else {
                    return Ok::<_, BoxError>(());
                };
                match client.ask(prompt).await {
                    Ok(answer) => {
                        write(&output, index, prompt, &answer)?;
                        report.answered(&answer);
                    }
                    Err(error) => report.failed(index, &chain(&*error)),
                }
            }
        });
    }
    while !tasks.is_empty() {
        tokio::select! {
            Some(task) = tasks.join_next() => {
                task??;
            }
            () = sleep(PROGRESS_INTERVAL) => report.show(),
        }
    }
    report.clear();
    Ok(output
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .flush()?)
}

/// Writes an answer as a line.
fn write(
    output: &Mutex<Box<dyn Write + Send>>,
    index: usize,
    prompt: &str,
    answer: &Answer,
) -> Result<(), BoxError> {
    let line = serde_json::json!({
        "line": index + 1,
        "prompt": prompt,
        "answer": answer.text,
        "tokens": answer.tokens,
    });
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(output, "{line}")
        .map_err(|error| format!("the answers cannot be written: {error}"))?;
    Ok(())
}

/// Returns the message of an error, and those of its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
