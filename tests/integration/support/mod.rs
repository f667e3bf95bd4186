//! What the tests stand on: the real parts, a recording dashboard, a fault proxy, the worker's process, and the leftover check.

mod black_hole;
mod dashboard;
mod ecr;
mod engine;
mod eventually;
mod filled;
mod git;
mod held;
mod job;
mod leaks;
mod leftovers;
mod numbers;
mod own_engine;
mod parts;
mod proxy;
mod redis;
mod registry;
mod rig;
mod sinks;
mod sleeper;
mod stalling_disk;
mod unique;
mod worker;

#[allow(unused_imports, reason = "not every program needs it")]
pub use black_hole::BlackHole;
pub use dashboard::{Body, Dashboard, Post, Trouble};
pub use ecr::lifecycle_policy;
pub use engine::Engine;
pub use eventually::eventually;
#[allow(unused_imports, reason = "not every program needs all of it")]
pub use filled::{Filled, free};
pub use git::Repository;
pub use held::{Held, Stage};
pub use job::Job;
pub use leaks::{Leaks, Needles};
pub use leftovers::processes_of;
#[allow(unused_imports, reason = "the campaign's")]
pub use leftovers::{left_in_engine, left_on};
#[allow(unused_imports, reason = "the integration tests'")]
pub use own_engine::OwnEngine;
pub use parts::{Login, parts};
pub use proxy::{Fault, Proxy};
pub use redis::RedisServer;
pub use registry::Registry;
pub use rig::Rig;
#[allow(unused_imports, reason = "the campaign's")]
pub use sinks::files_below;
pub use sinks::sinks;
#[allow(unused_imports, reason = "the integration tests'")]
pub use sleeper::Sleeper;
#[allow(unused_imports, reason = "of the type, nobody but a host speaks")]
pub use stalling_disk::StallingDisk;
pub use unique::{noise, unique};
pub use worker::{Host, Worker, WorkerOptions};
