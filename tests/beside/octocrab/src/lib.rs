//! A program that has octocrab with its defaults, and tower-m2m with its own: see `tests/`.
