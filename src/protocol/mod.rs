//! Bytes to meaning; knows RESP, nothing else.
