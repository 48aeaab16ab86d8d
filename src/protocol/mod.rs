//! Bytes to meaning; knows RESP, nothing else.

pub mod info;
