//! cargo run -p api -- target/doc/tower_m2m.json
//!
//! Prints each public item on a line, from what rustdoc has written as JSON.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("say where rustdoc's JSON is")?;
    let api = public_api::Builder::from_rustdoc_json(path)
        .omit_auto_derived_impls(true)
        .omit_auto_trait_impls(true)
        .omit_blanket_impls(true)
        .build()?;
    print!("{api}");
    Ok(())
}
