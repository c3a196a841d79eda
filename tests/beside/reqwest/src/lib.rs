//! A program that has reqwest with its defaults, and tower-m2m with its own: see `tests/`.
