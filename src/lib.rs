//! Slipway: a build worker daemon. This file is the map; the modules stand in the order in which a job's data flows.
//!
//! job in ([`queue`]) → [`source`] → [`context`] → [`image`] → [`registry`] → report out ([`report`]).
//!
//! [`worker`] drives a job along that way; [`protocol`] holds the words that all of them speak and does no I/O;
//! [`secrets`] makes sure that what is secret cannot be printed.

pub mod cli;
pub mod config;
pub mod exit;
pub mod telemetry;

pub mod protocol;
pub mod secrets;

pub mod worker;

pub mod context;
pub mod image;
pub mod queue;
pub mod registry;
pub mod report;
pub mod source;

pub mod housekeeping;
pub mod stage;
