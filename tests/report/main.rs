//! The report's way out, against a dashboard that speaks HTTP over TCP with the answers that were measured on the existing one.

// A test that cannot set its stage up has failed; saying so is all that is to be done.
#![allow(clippy::unwrap_used)]

mod dashboard;
mod delivery;
mod disk;
mod ends;
mod faults;
mod host;
mod power_cut;
mod refused;
mod restart;
mod stalled;
#[path = "../integration/support/stalling_disk.rs"]
mod stalling_disk;
mod synced;
