//! The report's way out, against a dashboard that speaks HTTP over TCP with the answers that were measured on the existing one.

mod dashboard;
mod delivery;
mod ends;
mod faults;
mod host;
mod restart;
