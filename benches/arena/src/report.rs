//! What comes out: tables on the terminal, and JSON.

use std::{fs, process::ExitCode};

use serde::Serialize;

use crate::{run::Figures, scenario::Scenario};

#[derive(Serialize)]
pub struct Row {
    name: &'static str,
    #[serde(flatten)]
    figures: Figures,
}

impl Row {
    pub fn new(name: &'static str, figures: Figures) -> Self {
        Self { name, figures }
    }
}

#[derive(Serialize)]
struct Played {
    scenario: &'static str,
    jobs: usize,
    rows: Vec<Row>,
    missed: Vec<String>,
}

#[derive(Default)]
pub struct Report {
    played: Vec<Played>,
}

impl Report {
    pub fn add(&mut self, scenario: &Scenario, rows: Vec<Row>) {
        let most = scenario.goal.refused.most(scenario.jobs);
        println!(
            "\n{} ({} jobs; goal ≤ {:.3}, ≤ {most} refused)",
            scenario.name, scenario.jobs, scenario.goal.ratio
        );
        println!(
            "  {:<34} {:>7} {:>8} {:>7} {:>6} {:>8} {:>8} {:>6} {:>6}",
            "", "÷ opt", "refused", "failed", "early", "p50 s", "p99 s", "peak", "Jain"
        );
        for Row { name, figures: f } in &rows {
            let stuck = if f.deadlock { " DEADLOCK" } else { "" };
            println!(
                "  {name:<34} {:>7.3} {:>8} {:>7} {:>6} {:>8.1} {:>8.1} {:>6} {:>6.3}{stuck}",
                f.ratio, f.refused, f.failed, f.early, f.p50, f.p99, f.peak, f.jain
            );
        }
        let missed = rows
            .first()
            .map_or_else(Vec::new, |row| missed(scenario, &row.figures));
        for miss in &missed {
            println!("  missed: {miss}");
        }
        self.played.push(Played {
            scenario: scenario.name,
            jobs: scenario.jobs,
            rows,
            missed,
        });
    }

    pub fn finish(self, json: Option<&str>) -> ExitCode {
        let written = json.map_or(Ok(()), |file| {
            let text = serde_json::to_string_pretty(&self.played).expect("plain figures");
            fs::write(file, text + "\n")
        });
        if let Err(error) = written {
            eprintln!("arena: cannot write: {error}");
            return ExitCode::from(2);
        }
        let missed = self
            .played
            .iter()
            .filter(|played| !played.missed.is_empty())
            .count();
        println!(
            "\n{} scenarios, goals missed in {missed}",
            self.played.len()
        );
        ExitCode::from(u8::from(missed > 0))
    }
}

fn missed(scenario: &Scenario, figures: &Figures) -> Vec<String> {
    let goal = &scenario.goal;
    let most = goal.refused.most(scenario.jobs);
    let mut missed = Vec::new();
    if figures.ratio > goal.ratio {
        missed.push(format!(
            "time {:.3} × the optimum instead of {:.3}",
            figures.ratio, goal.ratio
        ));
    }
    if figures.refused > most {
        missed.push(format!("{} refused instead of {most}", figures.refused));
    }
    if figures.jain < goal.jain {
        missed.push(format!(
            "Jain's index {:.3} instead of {:.2}",
            figures.jain, goal.jain
        ));
    }
    if figures.failed + figures.early > 0 || figures.deadlock {
        missed.push("failed, early and deadlocked must be 0".into());
    }
    missed
}
