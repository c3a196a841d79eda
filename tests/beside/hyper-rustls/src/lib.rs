//! A program that has hyper-rustls with its defaults, and tower-m2m with its own: see `tests/`.
