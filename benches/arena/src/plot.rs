//! Bars for each scenario and contestant, as SVG: time over the optimum on the left, rejected requests on the right.

use std::fmt::Write;

use crate::report::{Row, ScenarioResult};

/// Where the bars begin, and how long they are at most.
const TIME: f64 = 190.0;
const REFUSED: f64 = 540.0;
const MAX_BAR_WIDTH: f64 = 230.0;
const WIDTH: f64 = 860.0;
const LINE: f64 = 15.0;

const STYLE: &str = "
  svg { font: 11px system-ui, sans-serif; background: #fff; }
  .plain { fill: #444; }
  .title { fill: #000; font-weight: 600; font-size: 12px; }
  .ours text { fill: #000; font-weight: 600; }
  rect { fill: #9aa4b2; }
  .ours rect { fill: #0969da; }
  .failed { fill: #b35900; }
  line { stroke: #9aa4b2; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    .plain { fill: #adb5bf; }
    .title, .ours text { fill: #fff; }
    rect { fill: #6a7481; }
    .ours rect { fill: #4493f8; }
    .failed { fill: #e3964a; }
    line { stroke: #6a7481; }
  }
";

pub fn svg(shown: &[&ScenarioResult]) -> String {
    let mut page = String::new();
    let mut y = 20.0;
    text(
        &mut page,
        TIME,
        y,
        "title",
        "elapsed time ÷ minimum possible time",
    );
    text(&mut page, REFUSED, y, "title", "rejected requests ÷ jobs");
    y += LINE;
    text(&mut page, TIME, y, "plain", "bars from 1 to 2");
    text(&mut page, REFUSED, y, "plain", "bars from 0 to 100 %");
    for played in shown {
        y += 2.0 * LINE;
        text(&mut page, 10.0, y, "title", &played.scenario);
        let top = y + 4.0;
        for (place, row) in played.rows.iter().enumerate() {
            y += LINE;
            bars(&mut page, y, row, played.jobs, place == 0);
        }
        for x in [TIME, REFUSED] {
            write(
                &mut page,
                format_args!("<line x1='{x}' x2='{x}' y1='{top}' y2='{}'/>", y + 4.0),
            );
        }
    }
    let height = y + LINE;
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}'>\n\
         <style>{STYLE}</style>\n{page}</svg>\n"
    )
}

fn bars(page: &mut String, y: f64, row: &Row, jobs: usize, ours: bool) {
    let figures = &row.figures;
    write(
        page,
        format_args!("<g class='{}'>", if ours { "ours" } else { "peer" }),
    );
    text(page, 10.0, y, "plain", row.name);
    if figures.failed > 0 {
        let failed = format!("{} of {jobs} jobs failed", figures.failed);
        text(page, TIME + 6.0, y, "failed", &failed);
    } else if figures.unfinished {
        text(page, TIME + 6.0, y, "failed", "not finished in time");
    } else {
        bar(
            page,
            TIME,
            y,
            figures.ratio - 1.0,
            &format!("{:.3}", figures.ratio),
        );
    }
    let share = figures.refused as f64 / jobs as f64;
    bar(page, REFUSED, y, share, &format!("{:.1} %", share * 100.0));
    write(page, format_args!("</g>"));
}

/// A bar of this share of the longest, and its figure.
fn bar(page: &mut String, x: f64, y: f64, share: f64, figure: &str) {
    let length = MAX_BAR_WIDTH * share.clamp(0.0, 1.0);
    let top = y - 9.0;
    write(
        page,
        format_args!("<rect x='{x}' y='{top}' width='{length:.1}' height='11'/>"),
    );
    text(page, x + length + 6.0, y, "plain", figure);
}

fn text(page: &mut String, x: f64, y: f64, class: &str, words: &str) {
    write(
        page,
        format_args!("<text x='{x:.1}' y='{y}' class='{class}'>{words}</text>"),
    );
}

fn write(page: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(page, "{line}").expect("a string takes everything");
}
