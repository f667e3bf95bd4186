//! The binary: command line → configuration → telemetry → one command. No logic.

fn main() {}
