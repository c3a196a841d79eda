//! A program that has kube with its defaults, and tower-m2m with its own: see `tests/`.
