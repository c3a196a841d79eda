//! The stream of an answer: server-sent events, each with a JSON object.

use std::{mem, time::Duration};

use tower_m2m::BoxError;

/// A complete answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// Tokens of prompt and answer. `None` if the API does not report them.
    pub(crate) tokens: Option<u64>,
    /// Time from the head of the response to its end.
    pub(crate) streamed_for: Duration,
}

/// Reads the stream of one answer, in chunks of any size.
#[derive(Debug, Default)]
pub(crate) struct AnswerReader {
    /// The line that has not ended yet.
    line: Vec<u8>,
    text: String,
    tokens: Option<u64>,
    is_complete: bool,
}

impl AnswerReader {
    /// # Errors
    ///
    /// An event is longer than 1 MiB, is not JSON, or reports an error of the API.
    pub(crate) fn read(&mut self, mut data: &[u8]) -> Result<(), BoxError> {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&data[..end]);
            data = &data[end + 1..];
            let line = mem::take(&mut self.line);
            self.read_line(&line)?;
        }
        self.line.extend_from_slice(data);
        if self.line.len() > MAX_LINE {
            return Err("an event of the answer is longer than 1 MiB".into());
        }
        Ok(())
    }

    /// Other lines than those of data (comments, names of events) are ignored.
    fn read_line(&mut self, line: &[u8]) -> Result<(), BoxError> {
        let Some(data) = line.strip_prefix(b"data:") else {
            return Ok(());
        };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.is_complete = true;
            return Ok(());
        }
        let event: serde_json::Value = serde_json::from_slice(data)
            .map_err(|error| format!("an event of the answer is not JSON: {error}"))?;
        if let Some(message) = event["error"]["message"].as_str() {
            return Err(format!("the answer ends with an error: {message}").into());
        }
        self.text += event["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default();
        self.tokens = event["usage"]["total_tokens"].as_u64().or(self.tokens);
        Ok(())
    }

    /// # Errors
    ///
    /// The stream has ended before the answer was complete.
    pub(crate) fn finish(self, streamed_for: Duration) -> Result<Answer, BoxError> {
        if !self.is_complete {
            return Err("the stream has ended before the answer was complete".into());
        }
        Ok(Answer {
            text: self.text,
            tokens: self.tokens,
            streamed_for,
        })
    }
}

/// Maximum length of a line.
const MAX_LINE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        ": a comment\n",
        "event: message\r\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hello, \"}}],\"usage\":null}\n\n",
        "data:{\"choices\":[{\"delta\":{\"content\":\"wörld\"}}]}\r\n\r\n",
        "data: {\"choices\":[],\"usage\":{\"total_tokens\":12}}\n\n",
        "data: [DONE]\n\n",
    );

    #[test]
    fn chunks_may_end_anywhere() {
        for size in 1..STREAM.len() {
            let mut reader = AnswerReader::default();
            for chunk in STREAM.as_bytes().chunks(size) {
                reader.read(chunk).unwrap();
            }

            let answer = reader.finish(Duration::ZERO).unwrap();

            assert_eq!((&*answer.text, answer.tokens), ("Hello, wörld", Some(12)));
        }
    }

    #[test]
    fn incomplete_and_malformed_answers_are_errors() {
        let mut reader = AnswerReader::default();
        reader
            .read(&STREAM.as_bytes()[..STREAM.len() - 16])
            .unwrap();
        assert!(reader.finish(Duration::ZERO).is_err());

        for (data, named) in [
            (
                "data: {\"error\":{\"message\":\"overloaded\"}}\n",
                "overloaded",
            ),
            ("data: nonsense\n", "not JSON"),
        ] {
            let error = AnswerReader::default().read(data.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
        let endless = vec![b'x'; MAX_LINE + 1];
        assert!(AnswerReader::default().read(&endless).is_err());
    }
}
