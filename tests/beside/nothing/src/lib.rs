//! A program that has tower-m2m with its defaults, and no other crate that brings a crypto provider: see `tests/`.
