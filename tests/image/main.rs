//! The image stage against a real Docker Engine.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by a panic

mod builds;
mod cancelling;
mod context;
mod failures;
mod hostile_frontend;
mod leaks;
mod proxy;
mod registry;
mod support;
mod tenants;
