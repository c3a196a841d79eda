//! What the command line says.

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Requests,
    Loopback,
    Refresh,
    Memory,
    Instructions,
    Announced,
}

pub struct Options {
    pub mode: Mode,
    pub quick: bool,
    pub room: bool,
    pub only: Vec<String>,
    /// The one whose requests are sent while callgrind counts.
    pub count: Option<String>,
    /// The name of the service under it.
    pub under: String,
    pub json: Option<String>,
    pub plot: Option<String>,
}

impl Options {
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            mode: Mode::Requests,
            quick: false,
            room: false,
            only: Vec::new(),
            count: None,
            under: "free".to_owned(),
            json: None,
            plot: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--loopback" => options.mode = Mode::Loopback,
                "--refresh" => options.mode = Mode::Refresh,
                "--memory" => options.mode = Mode::Memory,
                "--instructions" => options.mode = Mode::Instructions,
                "--announced" => options.mode = Mode::Announced,
                "--count" => options.count = Some(value()?),
                "--under" => options.under = value()?,
                "--room" => options.room = true,
                "--quick" => options.quick = true,
                "--only" => options.only.push(value()?),
                "--json" => options.json = Some(value()?),
                "--plot" => options.plot = Some(value()?),
                _ => return Err(format!("unknown option {word}; see the top of src/main.rs")),
            }
        }
        Ok(options)
    }
}
