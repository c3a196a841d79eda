//! The servers of the scenarios, by the numbers that a run gives.

use super::Numbers;
use crate::model::{
    BrownOut, Bucket, FixedWindow, Lowered, Model, PenaltyBox, SlidingCounter, SlidingLog, Stacked,
};

pub fn fixed(n: &Numbers) -> Box<dyn Model> {
    Box::new(n.fixed())
}

pub fn sliding(n: &Numbers) -> Box<dyn Model> {
    Box::new(SlidingLog::new(n.limit as usize, n.window))
}

pub fn counter(n: &Numbers) -> Box<dyn Model> {
    Box::new(SlidingCounter::new(n.limit, n.window))
}

pub fn bucket(n: &Numbers) -> Box<dyn Model> {
    Box::new(Bucket::new(n.rate(), n.limit as f64 / 10.0))
}

pub fn quick(n: &Numbers) -> Box<dyn Model> {
    Box::new(Bucket::new(8.0 * n.rate(), 8.0 * n.rate()))
}

pub fn hourly(n: &Numbers) -> Box<dyn Model> {
    Box::new(FixedWindow::new(5000, 3600.0, 3600.0 * n.phase))
}

pub fn counting_throttled(n: &Numbers) -> Box<dyn Model> {
    Box::new(SlidingLog::new(n.limit as usize, n.window).counting_refused())
}

pub fn penalty(n: &Numbers) -> Box<dyn Model> {
    Box::new(PenaltyBox::new(n.fixed(), 5.0 * n.window))
}

pub fn stacked(n: &Numbers) -> Box<dyn Model> {
    Box::new(Stacked(vec![
        Box::new(FixedWindow::new(20, 1.0, n.phase)),
        Box::new(FixedWindow::new(100, 120.0, 120.0 * n.phase)),
    ]))
}

pub fn lowered(n: &Numbers) -> Box<dyn Model> {
    Box::new(Lowered::new(n.fixed(), 1.5 * n.window, n.limit / 3))
}

pub fn brown_out(n: &Numbers) -> Box<dyn Model> {
    Box::new(BrownOut {
        inner: Box::new(n.fixed()),
        from: n.window * n.phase + 0.4,
        until: n.window * n.phase + 20.4,
    })
}
