//! The image stage against a real Docker Engine.

mod builds;
mod cancelling;
mod context;
mod failures;
mod leaks;
mod registry;
mod support;
mod tenants;
