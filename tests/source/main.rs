//! The git stage against git's own smart HTTP server.

mod access;
mod broken_servers;
mod commits;
mod hostile;
mod job;
mod local;
mod mirrors;
mod repo;
mod server;
