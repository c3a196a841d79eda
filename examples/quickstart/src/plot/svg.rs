//! The plot as an SVG file with three panels over one time axis.

use std::fmt::{Arguments, Write};

use super::{Plot, Steps};

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 476.0;
/// Where the time axis begins and ends.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 800.0;
/// Top and bottom of each panel.
const REQUESTS: (f64, f64) = (44.0, 184.0);
const QUOTA: (f64, f64) = (232.0, 312.0);
const TOKENS: (f64, f64) = (360.0, 420.0);

/// Colours by what they mean: blue is sent, orange waits, green is quota, purple a token, red a rejection.
const STYLE: &str = "
  .run { font: 14px system-ui, -apple-system, 'Segoe UI', sans-serif; }
  .run text { fill: #24292f; }
  .run .title { font-weight: 600; }
  .run .end { text-anchor: end; }
  .run .middle { text-anchor: middle; }
  .run .ground { fill: #fff; }
  .run .axis { stroke: #57606a; fill: none; }
  .run .grid { stroke: #d0d7de; }
  .run .hold { fill: #d1652a; fill-opacity: 0.16; }
  .run .sent { fill: #3b6fb6; }
  .run .waiting { fill: #d1652a; fill-opacity: 0.55; }
  .run .quota { fill: #3c9a5f; fill-opacity: 0.25; stroke: #2c7a48; stroke-width: 1.5; }
  .run .token { fill: #8250df; fill-opacity: 0.75; }
  .run .unused { fill: #8250df; fill-opacity: 0.18; }
  .run .fetch { stroke: #8250df; stroke-width: 2; stroke-dasharray: 3 2; }
  .run .revoked { stroke: #c4302b; stroke-width: 2.5; }
  .run text.red { fill: #c4302b; }
  .run text.on { fill: #fff; font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .run text { fill: #e6edf3; }
    .run .ground { fill: #0d1117; }
    .run .axis { stroke: #9198a1; }
    .run .grid { stroke: #30363d; }
    .run .hold { fill-opacity: 0.28; }
    .run .sent { fill: #58a0f0; }
    .run .waiting { fill: #e3853f; }
    .run .quota { fill-opacity: 0.35; stroke: #56c17e; }
    .run .unused { fill-opacity: 0.35; }
    .run .revoked { stroke: #ff7b72; }
    .run text.red { fill: #ff7b72; }
  }
";

impl Plot {
    pub fn svg(&self) -> String {
        let mut page = Page(String::new());
        page.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"run\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" style=\"max-width: 100%; height: auto\">\n\
             <title>A run of quickstart: {} workers, {} requests per window, {} tokens</title>\n\
             <style>{STYLE}</style>\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>",
            self.workers,
            self.quota,
            self.tokens.len(),
        ));
        self.requests(&mut page);
        self.quota(&mut page);
        self.holds(&mut page);
        self.tokens_panel(&mut page);
        self.time_axis(&mut page);
        page.add(format_args!("</svg>"));
        page.0
    }

    /// The periods in which the layer holds all requests.
    fn holds(&self, page: &mut Page) {
        for &(from, to) in &self.holds {
            let (x, width) = (self.x(from), self.x(to) - self.x(from));
            let (y, height) = (QUOTA.0, QUOTA.1 - QUOTA.0);
            page.add(format_args!(
                "<rect class=\"hold\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\"/>"
            ));
            if width > 60.0 {
                let label = format!("held {:.1} s", to - from);
                page.text(x + width / 2.0, y + height / 2.0 + 5.0, "middle", &label);
            }
        }
    }

    fn requests(&self, page: &mut Page) {
        let panel = Panel::new(REQUESTS, self.workers);
        panel.axis(page, "requests", &[self.workers / 2, self.workers]);
        let both = self.in_flight.plus(&self.waiting);
        self.area(page, &panel, "waiting", &both);
        self.area(page, &panel, "sent", &self.in_flight);
        let y = REQUESTS.0 - 10.0;
        page.legend(LEFT + 84.0, y, "sent", "in flight");
        page.legend(LEFT + 176.0, y, "waiting", "waiting in a layer");
    }

    fn quota(&self, page: &mut Page) {
        let panel = Panel::new(QUOTA, self.quota);
        panel.axis(
            page,
            "requests left in the window, as the API announces",
            &[self.quota / 2, self.quota],
        );
        self.area(page, &panel, "quota", &self.remaining);
    }

    fn tokens_panel(&self, page: &mut Page) {
        let (top, bottom) = TOKENS;
        let y = top - 10.0;
        page.text(LEFT, y, "title", "tokens");
        page.legend(LEFT + 84.0, y, "token", "in use");
        page.legend(LEFT + 176.0, y, "unused", "valid, but replaced");
        page.add(format_args!(
            "<path class=\"fetch\" d=\"M{} {}h18\"/>",
            LEFT + 352.0,
            y - 5.0
        ));
        page.text(LEFT + 376.0, y, "", "being fetched");
        // Two rows, because a token is fetched while the one before is valid.
        let height = (bottom - top) / 2.0 - 4.0;
        for (number, token) in self.tokens.iter().enumerate() {
            let y = if number % 2 == 0 {
                top
            } else {
                top + height + 8.0
            };
            let middle = y + height / 2.0;
            let end = token.revoked.unwrap_or(token.expires).min(self.end);
            let (from, to, used) = (self.x(token.fetched), self.x(end), self.x(token.used_until));
            page.add(format_args!(
                "<path class=\"fetch\" d=\"M{:.1} {middle:.1}H{from:.1}\"/>\n\
                 <rect class=\"unused\" x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{height}\"/>\n\
                 <rect class=\"token\" x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{height}\"/>",
                self.x(token.requested),
                (to - from).max(0.0),
                (used.min(to) - from).max(0.0),
            ));
            if used - from > 24.0 {
                let label = format!("{}", number + 1);
                page.text((from + used) / 2.0, middle + 5.0, "on middle", &label);
            }
            if let Some(at) = token.revoked {
                let x = self.x(at);
                let (left, right) = (x - 5.0, x + 5.0);
                let (up, down) = (middle - 7.0, middle + 7.0);
                page.add(format_args!(
                    "<path class=\"revoked\" d=\"M{left:.1} {up}L{right:.1} {down}M{left:.1} {down}L{right:.1} {up}\"/>"
                ));
                page.text(x + 10.0, middle + 5.0, "red", "revoked");
            }
        }
    }

    fn time_axis(&self, page: &mut Page) {
        let y = TOKENS.1 + 8.0;
        page.add(format_args!(
            "<path class=\"axis\" d=\"M{LEFT} {y}H{RIGHT}\"/>"
        ));
        for second in 0..=self.end as u32 {
            let x = self.x(f64::from(second));
            page.add(format_args!("<path class=\"axis\" d=\"M{x:.1} {y}v5\"/>"));
            page.text(x, y + 20.0, "middle", &second.to_string());
        }
        let middle = (LEFT + RIGHT) / 2.0;
        page.text(
            middle,
            y + 38.0,
            "middle",
            "seconds since the start of the run",
        );
    }

    fn area(&self, page: &mut Page, panel: &Panel, class: &str, steps: &Steps) {
        let mut path = format!("M{:.1} {:.1}", self.x(0.0), panel.y(0.0));
        // Of several changes within a quarter of a point, only the last would be visible.
        for (index, &(at, value)) in steps.0.iter().enumerate() {
            let next = steps.0.get(index + 1);
            if next.is_none_or(|next| self.x(next.0) - self.x(at) >= 0.25) {
                let (x, y) = (self.x(at), panel.y(f64::from(value)));
                // Writing to a string cannot fail.
                let _ = write!(path, "H{x:.1}V{y:.1}");
            }
        }
        let (x, zero) = (self.x(self.end), panel.y(0.0));
        page.add(format_args!(
            "<path class=\"{class}\" d=\"{path}H{x:.1}V{zero:.1}z\"/>"
        ));
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + at / self.end.max(0.001) * (RIGHT - LEFT)
    }
}

/// A vertical scale from zero.
struct Panel {
    top: f64,
    bottom: f64,
    highest: f64,
}

impl Panel {
    fn new((top, bottom): (f64, f64), highest: u32) -> Self {
        Self {
            top,
            bottom,
            highest: f64::from(highest.max(1)),
        }
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - value / self.highest * (self.bottom - self.top)
    }

    fn axis(&self, page: &mut Page, title: &str, marks: &[u32]) {
        page.text(LEFT, self.top - 10.0, "title", title);
        for &mark in [0].iter().chain(marks) {
            let y = self.y(f64::from(mark));
            page.add(format_args!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>"
            ));
            page.text(LEFT - 8.0, y + 5.0, "end", &mark.to_string());
        }
    }
}

/// The text of the picture.
struct Page(String);

impl Page {
    fn add(&mut self, element: Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>"
        ));
    }

    fn legend(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let top = y - 11.0;
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{top}\" width=\"18\" height=\"12\"/>"
        ));
        self.text(x + 24.0, y, "", text);
    }
}

impl Steps {
    /// Returns the sum of both, at the times of either.
    fn plus(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let (mut a, mut b) = (0, 0);
        let mut sum = Self::default();
        loop {
            let at = match (left.peek(), right.peek()) {
                (Some(l), Some(r)) => l.0.min(r.0),
                (Some(next), None) | (None, Some(next)) => next.0,
                (None, None) => return sum,
            };
            if let Some(&(_, value)) = left.next_if(|next| next.0 == at) {
                a = value;
            }
            if let Some(&(_, value)) = right.next_if(|next| next.0 == at) {
                b = value;
            }
            sum.push(at, a + b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::run, *};

    #[test]
    fn the_picture_has_names_and_units_on_its_axes() {
        let svg = run().svg();
        for text in [
            "seconds since the start of the run",
            "requests left in the window",
            "in flight",
            "revoked",
            "prefers-color-scheme: dark",
        ] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert_eq!(svg.matches("class=\"hold\"").count(), 2);
        assert!(svg.contains(">held 0.9 s<"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn the_last_of_many_changes_at_a_time_is_drawn() {
        let mut plot = run();
        // 2 s are 724 points: the first three changes are at the same point.
        plot.remaining = Steps(vec![(0.5, 1), (0.5001, 0), (0.5002, 1), (1.0, 0)]);
        let svg = plot.svg();
        assert!(svg.contains("H257.1V232.0H438.0V312.0"), "{svg}");
    }

    #[test]
    fn a_sum_changes_when_either_part_does() {
        let a = Steps(vec![(0.0, 1), (2.0, 0)]);
        let b = Steps(vec![(1.0, 5), (2.0, 3)]);
        assert_eq!(a.plus(&b).0, [(0.0, 1), (1.0, 6), (2.0, 3)]);
    }
}
