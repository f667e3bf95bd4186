//! Slipway: a build worker daemon. This file is the map; the modules stand in the order in which a job's data flows.
//!
//! job in ([`queue`]) → [`source`] → [`context`] → [`image`] → [`registry`] → report out ([`report`]).
//!
//! [`worker`] drives a job along that way; [`stage`] is what each of its stages is handed; [`peer`] knows which of those that they talk to answer. [`protocol`] holds the words that all of them
//! speak and does no I/O; [`secrets`] makes sure that what is secret cannot be printed; [`housekeeping`] keeps the host tidy behind them.

pub mod cli;
pub mod config;
pub mod exit;
pub mod memory;
pub mod telemetry;

pub mod peer;
pub mod protocol;
pub mod secrets;
pub mod stage;

pub mod worker;

// One a paragraph: so they keep the order of the way.
pub mod queue;

pub mod source;

pub mod context;

pub mod image;

pub mod registry;

pub mod report;

pub mod housekeeping;
