//! Colours and a progress bar, where the output is a terminal.

use std::io::{IsTerminal, Write};

/// Escape sequences; empty without colours.
#[derive(Debug, PartialEq)]
pub struct Palette {
    pub plain: &'static str,
    pub dim: &'static str,
    pub good: &'static str,
    pub bad: &'static str,
    pub sent: &'static str,
    pub waiting: &'static str,
    pub quota: &'static str,
    pub token: &'static str,
    pub reset: &'static str,
}

impl Palette {
    pub const NONE: Self = Self {
        plain: "",
        dim: "",
        good: "",
        bad: "",
        sent: "",
        waiting: "",
        quota: "",
        token: "",
        reset: "",
    };

    pub const ANSI: Self = Self {
        plain: "",
        dim: "\x1b[2m",
        good: "\x1b[32m",
        bad: "\x1b[31m",
        sent: "\x1b[34m",
        waiting: "\x1b[33m",
        quota: "\x1b[32m",
        token: "\x1b[35m",
        reset: "\x1b[0m",
    };

    pub fn of_stdout() -> Self {
        let no_color = std::env::var("NO_COLOR").unwrap_or_default();
        let term = std::env::var("TERM").unwrap_or_default();
        Self::choose(std::io::stdout().is_terminal(), &no_color, &term)
    }

    /// No colours with a `NO_COLOR` that is not empty (<https://no-color.org>), nor outside a terminal.
    fn choose(terminal: bool, no_color: &str, term: &str) -> Self {
        match terminal && no_color.is_empty() && term != "dumb" {
            true => Self::ANSI,
            false => Self::NONE,
        }
    }
}

/// A bar on stderr. Shows nothing unless stderr is a terminal.
pub struct Progress {
    total: u32,
    enabled: bool,
    shown: Option<u32>,
}

impl Progress {
    pub fn new(total: u32, wanted: bool) -> Self {
        Self {
            total,
            enabled: wanted && std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    pub fn show(&mut self, done: u32) {
        if self.enabled && self.shown != Some(done) {
            self.shown = Some(done);
            eprint!("\r{}", bar(done, self.total));
            // A bar that is late is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    }

    /// Removes the bar.
    pub fn clear(&mut self) {
        if self.enabled && self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

fn bar(done: u32, total: u32) -> String {
    let full = (done * BAR_WIDTH / total.max(1)).min(BAR_WIDTH) as usize;
    let rest = BAR_WIDTH as usize - full;
    format!(
        "{}{} {done}/{total} requests",
        "█".repeat(full),
        "░".repeat(rest)
    )
}

const BAR_WIDTH: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_need_a_terminal_and_no_no_color() {
        assert_eq!(Palette::choose(true, "", "xterm"), Palette::ANSI);
        for (terminal, no_color, term) in [
            (false, "", "xterm"),
            (true, "1", "xterm"),
            (true, "", "dumb"),
        ] {
            assert_eq!(Palette::choose(terminal, no_color, term), Palette::NONE);
        }
    }

    #[test]
    fn a_bar_keeps_its_width() {
        for done in [0, 1, 299, 600, 601] {
            let bar = bar(done, 600);
            let cells = bar.chars().filter(|cell| "█░".contains(*cell)).count();
            assert_eq!(cells as u32, BAR_WIDTH, "{bar}");
        }
        assert!(bar(300, 600).starts_with(&format!("{}░", "█".repeat(20))));
    }
}
