//! A program that has tonic with its defaults, and tower-m2m with its own: see `tests/`.
