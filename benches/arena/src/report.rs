//! What comes out: tables on the terminal, JSON, and the plot.

use std::{fs, io, process::ExitCode};

use serde::Serialize;

use crate::{
    options::Options,
    plot,
    run::Figures,
    scenario::{Goal, Scenario},
};

#[derive(Serialize)]
pub struct Row {
    pub name: &'static str,
    #[serde(skip)]
    pub shares: bool,
    #[serde(flatten)]
    pub figures: Figures,
}

#[derive(Serialize)]
pub struct ScenarioResult {
    pub scenario: String,
    pub jobs: usize,
    pub rows: Vec<Row>,
    missed: Vec<String>,
    known: bool,
    #[serde(skip)]
    pub shown: bool,
}

#[derive(Default)]
pub struct Report {
    results: Vec<ScenarioResult>,
}

impl Report {
    pub fn add(&mut self, scenario: &Scenario, rows: Vec<Row>) {
        let words = |goal: Goal| {
            let most = goal.refused.max(scenario.jobs);
            format!("≤ {:.3}, ≤ {most} rejected", goal.ratio)
        };
        let mut goal = scenario.goal.map_or("none".into(), words);
        if let Some(shared) = scenario.shared_goal {
            goal += &format!("; with a store {}", words(shared));
        }
        println!("\n{} ({} jobs; goal {goal})", scenario.name, scenario.jobs);
        println!(
            "  {:<34} {:>7} {:>8} {:>7} {:>6} {:>8} {:>8} {:>6} {:>6}",
            "", "÷ opt", "rejected", "failed", "early", "p50 s", "p99 s", "peak", "Jain"
        );
        for Row {
            name, figures: f, ..
        } in &rows
        {
            let end = if f.unfinished { " UNFINISHED" } else { "" };
            println!(
                "  {name:<34} {:>7.3} {:>8} {:>7} {:>6} {:>8.1} {:>8.1} {:>6} {:>6.3}{end}",
                f.ratio, f.refused, f.failed, f.early, f.p50, f.p99, f.peak, f.jain
            );
        }
        let ours = rows
            .first()
            .expect("tower-m2m takes part in every scenario");
        let shared = rows.iter().find(|row| row.shares);
        let played = [(scenario.goal, Some(ours)), (scenario.shared_goal, shared)];
        let (mut all, mut known) = (Vec::new(), true);
        for (goal, row) in played {
            let Some(Row { name, figures, .. }) = row else {
                continue;
            };
            let missed = missed(goal, scenario.jobs, figures);
            let is_known = self::known(goal, figures);
            for miss in missed {
                known &= is_known;
                println!(
                    "  missed{}: {name}: {miss}",
                    if is_known { " (known)" } else { "" }
                );
                all.push(format!("{name}: {miss}"));
            }
        }
        self.results.push(ScenarioResult {
            scenario: scenario.name.clone(),
            jobs: scenario.jobs,
            rows,
            missed: all,
            known,
            shown: scenario.shown,
        });
    }

    pub fn finish(self, options: &Options) -> ExitCode {
        if let Err(error) = self.write(options) {
            eprintln!("arena: cannot write: {error}");
            return ExitCode::from(2);
        }
        let missed = |known| {
            let of = |played: &&ScenarioResult| !played.missed.is_empty() && played.known == known;
            self.results.iter().filter(of).count()
        };
        println!(
            "\n{} scenarios, goals missed in {}, known misses in {}",
            self.results.len(),
            missed(false),
            missed(true)
        );
        ExitCode::from(u8::from(missed(false) > 0))
    }

    fn write(&self, options: &Options) -> io::Result<()> {
        if let Some(file) = &options.json {
            let text = serde_json::to_string_pretty(&self.results).expect("plain figures");
            fs::write(file, text + "\n")?;
        }
        if let Some(file) = &options.plot {
            let shown: Vec<_> = self.results.iter().filter(|played| played.shown).collect();
            fs::write(file, plot::svg(&shown))?;
        }
        Ok(())
    }
}

fn missed(goal: Option<Goal>, jobs: usize, figures: &Figures) -> Vec<String> {
    let mut missed = Vec::new();
    if let Some(goal) = goal {
        let most = goal.refused.max(jobs);
        if figures.ratio > goal.ratio {
            missed.push(format!(
                "time {:.3} × the optimum, goal {:.3}",
                figures.ratio, goal.ratio
            ));
        }
        if figures.refused > most {
            missed.push(format!("{} rejected, goal {most}", figures.refused));
        }
        if figures.jain < goal.jain {
            missed.push(format!(
                "Jain's index {:.3}, goal {:.2}",
                figures.jain, goal.jain
            ));
        }
    }
    if has_failures(figures) {
        missed.push("failed, early and unfinished must be 0".into());
    }
    missed
}

fn has_failures(figures: &Figures) -> bool {
    figures.failed + figures.early > 0 || figures.unfinished
}

/// Whether the goal is missed by no more than is known.
fn known(goal: Option<Goal>, figures: &Figures) -> bool {
    let accepted = goal.and_then(|goal| goal.accepted_miss);
    accepted.is_some_and(|accepted| {
        figures.ratio <= accepted.ratio
            && figures.refused <= accepted.refused
            && !has_failures(figures)
    })
}
