//! Flags and file become one validated `Config`; all errors at once.
