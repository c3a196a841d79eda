//! What comes out: tables on the terminal, and JSON.

use std::{fs, io};

use serde_json::{Value, json};

use crate::{
    contestants::{BARE, COMBINED, CloneMode, Contestant, LIMITS, REQWEST_RETRY, Under},
    goals::Goals,
    options::Options,
    plot,
    turns::Figure,
};

/// One inner service and one habit of cloning.
pub struct Block {
    pub under: Under,
    pub habit: CloneMode,
    pub threads: Vec<usize>,
    pub rows: Vec<Row>,
}

pub struct Row {
    pub name: &'static str,
    pub reference: &'static str,
    pub allocations: f64,
    /// For each number of threads.
    pub figures: Vec<Figure>,
}

impl Row {
    pub fn new(contestant: &Contestant, allocations: f64) -> Self {
        Self {
            name: contestant.name,
            reference: contestant.reference,
            allocations,
            figures: Vec::new(),
        }
    }
}

impl Block {
    pub fn title(&self) -> String {
        let under = self.under.title();
        let habit = match self.habit {
            CloneMode::Reused => "one clone per thread",
            CloneMode::Cloned => "one clone per request",
        };
        format!("{under}; {habit}")
    }

    pub fn ratio(&self, ours: &str, against: &str, place: usize) -> Option<f64> {
        let median = |name| {
            let row = self.rows.iter().find(|row| row.name == name)?;
            Some(row.figures[place].median)
        };
        Some(median(ours)? / median(against)?)
    }

    pub fn print(&self) {
        println!("\nOver {}\n", self.title());
        print!("{:44}", "");
        for threads in &self.threads {
            print!("{:>17}", format!("{threads} thread{}", plural(*threads)));
        }
        println!("{:>13}", "allocations");
        for row in &self.rows {
            print!("{:44}", row.name);
            for (place, figure) in row.figures.iter().enumerate() {
                let ratio = self.ratio(row.name, row.reference, place);
                let ratio = ratio.filter(|_| row.name != row.reference);
                let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2} ×"));
                print!("{:>7.0} ns {ratio:>7}", figure.median);
            }
            println!("{:>13.1}", row.allocations);
        }
        println!();
        for ours in [LIMITS, COMBINED] {
            let places = 0..self.threads.len();
            let ratios: Option<Vec<_>> = places
                .map(|place| self.ratio(ours, REQWEST_RETRY, place))
                .collect();
            let Some(ratios) = ratios else { continue };
            print!("{:44}", format!("{ours} ÷ {REQWEST_RETRY}"));
            for ratio in ratios {
                print!("{:>17}", format!("{ratio:.2} ×"));
            }
            println!();
        }
        for threads in self.disturbed() {
            println!(
                "\n  {threads} threads: other programs ran on the machine. These figures are not reliable."
            );
        }
        let goals = self.goals();
        if !goals.is_empty() {
            println!("\n  {:74} goals", "");
        }
        for goal in goals {
            print!("  {:74}", format!("{} ÷ {}", goal.ours, goal.against));
            for (ratio, most) in &goal.reached {
                let mark = if ratio <= most { ' ' } else { '!' };
                print!(" {ratio:>6.2}{mark}(≤ {most})");
            }
            println!();
        }
    }

    /// The bare service shares nothing, so that on more threads it costs what it costs on one.
    fn disturbed(&self) -> Vec<usize> {
        let bare = self.rows.iter().find(|row| row.name == BARE);
        let figures = bare.map_or(&[][..], |bare| &bare.figures);
        let medians = figures.iter().map(|figure| figure.median);
        let least = medians.clone().fold(f64::MAX, f64::min);
        let columns = self.threads.iter().zip(medians);
        columns
            .filter(|(_, median)| *median > 1.25 * least)
            .map(|(threads, _)| *threads)
            .collect()
    }

    /// The goals that this block measures.
    fn goals(&self) -> Vec<Reached> {
        let wanted = Goals::over(self.under);
        let goals = wanted.ratios.iter();
        let goals = goals.filter(|goal| goal.habit == self.habit);
        let mut reached: Vec<_> = goals
            .filter_map(|goal| {
                let ratio = |(place, &threads)| {
                    let ratio = self.ratio(goal.ours, goal.against, place)?;
                    Some((ratio, goal.max(threads)))
                };
                Some(Reached {
                    ours: goal.ours,
                    against: goal.against,
                    reached: self
                        .threads
                        .iter()
                        .enumerate()
                        .map(ratio)
                        .collect::<Option<_>>()?,
                })
            })
            .collect();
        let place = |threads| self.threads.iter().position(|t| *t == threads);
        if let (CloneMode::Reused, Some(one), Some(two)) = (self.habit, place(1), place(2)) {
            let ours = self.rows.iter().filter(|row| is_ours(row.name));
            reached.extend(ours.map(|row| Reached {
                ours: row.name,
                against: "itself on one thread, when on two",
                reached: vec![(
                    row.figures[two].median / row.figures[one].median,
                    wanted.scaling,
                )],
            }));
        }
        reached
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let figures = row
                .figures
                .iter()
                .map(|figure| json!({ "median": figure.median, "quartiles": figure.quartiles }));
            json!({
                "name": row.name,
                "reference": row.reference,
                "allocations": row.allocations,
                "nanoseconds": figures.collect::<Vec<_>>(),
            })
        });
        let goals = self.goals().into_iter().map(|goal| {
            json!({ "ours": goal.ours, "against": goal.against, "reached_and_most": goal.reached })
        });
        json!({
            "over": format!("{:?}", self.under),
            "habit": format!("{:?}", self.habit),
            "threads": self.threads,
            "rows": rows.collect::<Vec<_>>(),
            "goals": goals.collect::<Vec<_>>(),
        })
    }
}

struct Reached {
    ours: &'static str,
    against: &'static str,
    /// The ratio, and what it may be at most.
    reached: Vec<(f64, f64)>,
}

pub fn is_ours(name: &str) -> bool {
    use crate::contestants::{COMBINED, LIMITS, STACKED, TOKEN, TOKEN_REPLAY};
    [TOKEN, TOKEN_REPLAY, LIMITS, STACKED, COMBINED].contains(&name)
}

/// The goals that were missed over the free service, and files if they are wanted.
pub fn finish(blocks: &[Block], options: &Options) -> io::Result<()> {
    println!("\nGoals missed (over services that are free to clone):");
    let free = |block: &&Block| block.under != Under::HyperUtil;
    let mut missed = 0;
    for block in blocks.iter().filter(free) {
        let mut lines = Vec::new();
        for goal in block.goals() {
            for (place, (ratio, most)) in goal.reached.iter().enumerate() {
                if ratio > most {
                    let threads = block.threads.get(place).unwrap_or(&2);
                    lines.push(format!(
                        "{threads} thread{}: {} ÷ {}: {ratio:.2}, goal {most}",
                        plural(*threads),
                        goal.ours,
                        goal.against
                    ));
                }
            }
        }
        for (name, most) in Goals::over(block.under).allocations {
            let row = block.rows.iter().find(|row| row.name == *name);
            if let Some(row) = row.filter(|row| row.allocations > *most) {
                lines.push(format!(
                    "{name}: {} allocations, goal {most}",
                    row.allocations
                ));
            }
        }
        missed += lines.len();
        if !lines.is_empty() {
            println!("  Over {}:", block.title());
        }
        for line in lines {
            println!("    {line}");
        }
    }
    if missed == 0 {
        println!("  none");
    }
    if let Some(file) = &options.json {
        let blocks: Vec<_> = blocks.iter().map(Block::json).collect();
        let text = serde_json::to_string_pretty(&blocks).expect("plain figures");
        fs::write(file, text + "\n")?;
    }
    if let Some(file) = &options.plot {
        fs::write(file, plot::svg(blocks))?;
    }
    Ok(())
}

fn plural(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}
