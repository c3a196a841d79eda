//! A configuration: as JSON, or as lines of `name=value` like the variables of a process.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tower_m2m::client_credentials::{Config, ConfigError};
use tower_m2m_fuzz::SECRET;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Files are read when the configuration is used; a device would never end.
    let path = text.replace('\\', "");
    if ["/dev", "/proc", "/sys"]
        .iter()
        .any(|device| path.contains(device))
    {
        return;
    }
    // Names are shown, as far as they could be keys.
    let names = match serde_json::from_str(text) {
        Ok(value) => has_key_with_secret(&value),
        Err(_) => true,
    };
    match serde_json::from_str::<Config>(text) {
        Ok(config) => use_it(&config),
        Err(error) => assert!(names || !error.to_string().contains(SECRET), "{error}"),
    }
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (known, value) = line.split_once('=')?;
            known.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    match Config::from_vars("", value) {
        Ok(config) => use_it(&config),
        Err(error) => check(&error),
    }
});

fn use_it(config: &Config) {
    assert!(!format!("{config:?}").contains(SECRET));
    match config.layer() {
        Ok(layer) => assert!(!format!("{layer:?}").contains(SECRET)),
        Err(error) => check(&error),
    }
    if let Err(error) = config.endpoint() {
        check(&error);
    }
}

fn has_key_with_secret(value: &Value) -> bool {
    match value {
        Value::Object(members) => members
            .iter()
            .any(|(key, value)| key.contains(SECRET) || has_key_with_secret(value)),
        Value::Array(items) => items.iter().any(has_key_with_secret),
        _ => false,
    }
}

fn check(error: &ConfigError) {
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
}
