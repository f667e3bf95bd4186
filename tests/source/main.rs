//! The git stage against git's own smart HTTP server.
#![allow(clippy::unwrap_used, reason = "fixtures outside of test functions")]

mod access;
mod attributes;
mod broken_servers;
mod commits;
mod hostile;
mod job;
mod lan;
mod local;
mod mirrors;
mod private_hosts;
mod refs;
mod repo;
mod server;
