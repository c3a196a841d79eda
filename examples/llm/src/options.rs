//! The command line.

use std::{fs, path::PathBuf};

use tower_m2m::BoxError;

/// What the user has asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    /// File of prompts. `None`: those of this package.
    pub(crate) file: Option<PathBuf>,
    /// Base URL of the API, such as `https://api.openai.com/v1`. `None`: the double.
    pub(crate) url: Option<String>,
    pub(crate) model: String,
    pub(crate) max_tokens: u64,
    pub(crate) workers: usize,
    /// File for the answers. `None`: standard output.
    pub(crate) output: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            file: None,
            url: None,
            model: "double".into(),
            max_tokens: 1000,
            workers: 16,
            output: None,
        }
    }
}

impl Options {
    /// # Errors
    ///
    /// An option is unknown, has no value, or has one that is not a positive number.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, BoxError> {
        let mut options = Self::default();
        while let Some(name) = arguments.next() {
            if !name.starts_with('-') && options.file.is_none() {
                options.file = Some(name.into());
                continue;
            }
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{name} needs a value"))
            };
            match name.as_str() {
                "--url" => options.url = Some(value()?),
                "--model" => options.model = value()?,
                "--output" => options.output = Some(value()?.into()),
                "--max-tokens" => options.max_tokens = positive(&name, &value()?)?,
                "--workers" => options.workers = usize::try_from(positive(&name, &value()?)?)?,
                _ => {
                    let known = "FILE, --url, --model, --max-tokens, --workers and --output";
                    return Err(format!("unknown option {name}; known: {known}").into());
                }
            }
        }
        if options.url.is_some() && options.model == Self::default().model {
            return Err("--url needs --model, the name of a model of that API".into());
        }
        Ok(options)
    }

    /// Reads the prompts. Blank lines are ignored.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has no prompts.
    pub(crate) fn prompts(&self) -> Result<Vec<String>, BoxError> {
        let text = match &self.file {
            Some(path) => {
                fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?
            }
            None => include_str!("../prompts.txt").to_owned(),
        };
        let lines = text.lines().map(str::trim);
        let prompts: Vec<_> = lines
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        match (&self.file, prompts.is_empty()) {
            (Some(path), true) => Err(format!("{} has no prompts", path.display()).into()),
            _ => Ok(prompts),
        }
    }
}

fn positive(name: &str, value: &str) -> Result<u64, BoxError> {
    let number = value.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{name} needs a positive number, not {value:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, BoxError> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_in_any_order() {
        let line = "--workers 4 questions.txt --url https://api.example/v1 --model small";

        let options = parse(line).unwrap();

        assert_eq!(options.file, Some("questions.txt".into()));
        assert_eq!((options.workers, options.max_tokens), (4, 1000));
        assert_eq!(options.url.as_deref(), Some("https://api.example/v1"));
    }

    #[test]
    fn errors_name_the_option() {
        for (line, named) in [
            ("--workers", "--workers needs a value"),
            ("--workers 0", "--workers needs a positive number"),
            ("--max-tokens -1", "--max-tokens needs a positive number"),
            ("--colour", "--colour"),
            ("--url https://api.example/v1", "--model"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
