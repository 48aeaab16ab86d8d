//! The catalogue of metrics, per-worker counters, and their exposition.
