//! What the command line says.

use std::str::FromStr;

pub struct Options {
    pub seeds: u64,
    pub limit: u64,
    pub window: f64,
    pub rtt: Option<f64>,
    pub workers: Option<usize>,
    pub processes: Option<usize>,
    pub store_latency: f64,
    pub store_loss: f64,
    pub only: String,
    pub ours: bool,
    pub json: Option<String>,
    pub plot: Option<String>,
}

impl Options {
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seeds: 5,
            limit: 300,
            window: 60.0,
            rtt: None,
            workers: None,
            processes: None,
            store_latency: 0.002,
            store_loss: 0.001,
            only: String::new(),
            ours: false,
            json: None,
            plot: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--seeds" => options.seeds = number(&word, &value()?)?,
                "--limit" => options.limit = number(&word, &value()?)?,
                "--window" => options.window = number(&word, &value()?)?,
                "--rtt" => options.rtt = Some(number(&word, &value()?)?),
                "--workers" => options.workers = Some(number(&word, &value()?)?),
                "--processes" => options.processes = Some(number(&word, &value()?)?),
                "--store-latency" => options.store_latency = number(&word, &value()?)?,
                "--store-loss" => options.store_loss = share(&word, &value()?)?,
                "--only" => options.only = value()?,
                "--ours" => options.ours = true,
                "--json" => options.json = Some(value()?),
                "--plot" => options.plot = Some(value()?),
                _ => return Err(format!("unknown option {word}; see the top of src/main.rs")),
            }
        }
        Ok(options)
    }
}

fn share(word: &str, value: &str) -> Result<f64, String> {
    let share = value
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or(format!("{word} needs a number from 0 to 1"))
}

fn number<T: FromStr + Default + PartialOrd>(word: &str, value: &str) -> Result<T, String> {
    let number = value.parse().ok().filter(|number| *number > T::default());
    number.ok_or(format!("{word} needs a number above 0"))
}
