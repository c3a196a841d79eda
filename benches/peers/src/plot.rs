//! Two plots in one SVG: the cost of a request compared with the others, and how it grows with the threads.

use std::fmt::{Arguments, Write};

use crate::{
    contestants::{AUTHORIZATION, CloneMode, Under},
    report::{Block, Row, is_ours},
};

const LEFT: f64 = 330.0;
const MAX_BAR_WIDTH: f64 = 420.0;
const WIDTH: f64 = 860.0;
const LINE: f64 = 16.0;
const HEIGHT: f64 = 260.0;

pub const STYLE: &str = "
  svg { font: 11px system-ui, sans-serif; background: #fff; }
  text { fill: #444; }
  .title { fill: #000; font-weight: 600; font-size: 12px; }
  .ours text { fill: #000; font-weight: 600; }
  rect, circle { fill: #9aa4b2; }
  .ours rect, .ours circle { fill: #0969da; }
  line, polyline { stroke: #9aa4b2; fill: none; }
  polyline { stroke-width: 1.5; }
  .ours polyline { stroke: #0969da; stroke-width: 2.5; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #adb5bf; }
    .title, .ours text { fill: #fff; }
    rect, circle { fill: #6a7481; }
    .ours rect, .ours circle { fill: #4493f8; }
    line, polyline { stroke: #6a7481; }
    .ours polyline { stroke: #4493f8; }
  }
";

pub fn svg(blocks: &[Block]) -> String {
    let free = blocks
        .iter()
        .find(|block| block.under == Under::Free && block.habit == CloneMode::Reused);
    let mut page = String::new();
    let mut y = 20.0;
    if let Some(block) = free {
        y = bars(&mut page, y, block);
        y = lines(&mut page, y + 2.0 * LINE, block);
    }
    let height = y + LINE;
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}'>\n\
         <style>{STYLE}</style>\n{page}</svg>\n"
    )
}

/// What each costs on one thread, the cheapest first.
fn bars(page: &mut String, mut y: f64, block: &Block) -> f64 {
    text(
        page,
        [10.0, y],
        "title",
        "ns per request above the bare service, one thread",
    );
    let mut rows: Vec<_> = block
        .rows
        .iter()
        .filter(|row| !row.name.starts_with("bare"))
        .collect();
    rows.sort_by(|a, b| a.figures[0].median.total_cmp(&b.figures[0].median));
    let most = rows.last().map_or(1.0, |row| row.figures[0].median);
    for row in rows {
        y += LINE;
        let ns = row.figures[0].median;
        let length = MAX_BAR_WIDTH * (ns / most).clamp(0.0, 1.0);
        write(page, format_args!("<g class='{}'>", class(row)));
        text(page, [10.0, y], "", row.name);
        let top = y - 9.0;
        write(
            page,
            format_args!("<rect x='{LEFT}' y='{top}' width='{length:.1}' height='11'/>"),
        );
        text(page, [LEFT + length + 6.0, y], "", &format!("{ns:.0}"));
        write(page, format_args!("</g>"));
    }
    y + LINE
}

/// How the cost of a fixed header, of locks and of ours grows with the threads.
fn lines(page: &mut String, y: f64, block: &Block) -> f64 {
    let title = "ns × concurrent threads: flat without shared state";
    text(page, [10.0, y], "title", title);
    let shown = |row: &&Row| {
        let alike = row.name == AUTHORIZATION || row.name.starts_with("by hand");
        alike || (is_ours(row.name) && row.reference == AUTHORIZATION)
    };
    let rows: Vec<_> = block.rows.iter().filter(shown).collect();
    let figures = rows.iter().flat_map(|row| &row.figures);
    let most = figures.map(|figure| figure.median).fold(1.0, f64::max);
    let (top, bottom) = (y + LINE, y + LINE + HEIGHT);
    let step = MAX_BAR_WIDTH / (block.threads.len().max(2) - 1) as f64;
    let at = |place: usize, ns: f64| [60.0 + place as f64 * step, bottom - HEIGHT * ns / most];
    for (place, threads) in block.threads.iter().enumerate() {
        let [x, _] = at(place, 0.0);
        write(
            page,
            format_args!("<line x1='{x:.1}' x2='{x:.1}' y1='{top}' y2='{bottom}'/>"),
        );
        let unit = if *threads == 1 { "thread" } else { "threads" };
        text(
            page,
            [x - 20.0, bottom + LINE],
            "",
            &format!("{threads} {unit}"),
        );
    }
    let mut labels: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row.figures.last()?.median, *row)))
        .collect();
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut above = bottom + LINE;
    for (last, row) in labels {
        write(page, format_args!("<g class='{}'>", class(row)));
        let points = row.figures.iter().enumerate().map(|(place, figure)| {
            let [x, y] = at(place, figure.median.max(0.0));
            format!("{x:.1},{y:.1}")
        });
        let points = points.collect::<Vec<_>>().join(" ");
        write(page, format_args!("<polyline points='{points}'/>"));
        let [x, y] = at(row.figures.len() - 1, last);
        // Labels do not overlap.
        above = y.min(above - LINE);
        text(
            page,
            [x + 8.0, above + 4.0],
            "",
            &format!("{} {last:.0}", row.name),
        );
        write(page, format_args!("</g>"));
    }
    bottom + LINE
}

fn class(row: &Row) -> &'static str {
    if is_ours(row.name) { "ours" } else { "peer" }
}

fn text(page: &mut String, [x, y]: [f64; 2], class: &str, words: &str) {
    write(
        page,
        format_args!("<text x='{x:.1}' y='{y:.1}' class='{class}'>{words}</text>"),
    );
}

fn write(page: &mut String, line: Arguments<'_>) {
    writeln!(page, "{line}").expect("a string takes everything");
}
