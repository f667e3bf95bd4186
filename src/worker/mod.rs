//! The daemon: supervisor, the life of a job, the order of the stages.

mod alone;
mod attempt;
mod building;
mod check;
mod control;
mod dead_letter;
mod disk_watch;
mod ending;
mod health;
mod job_tasks;
mod journals;
mod lifecycle;
#[cfg(test)]
mod model;
mod once;
pub mod pipeline;
mod retry;
mod returning;
mod shared;
mod signals;
mod silence;
mod single_build;
mod slots;
mod stage_limits;
mod stage_times;
mod startup;
mod step;
mod supervisor;
mod systemd;
mod tries;
mod watchdog;
mod way;

pub use check::{Finding, check};
pub use once::build_once;
pub use single_build::{BuildFrom, SingleBuild};
pub use startup::run;
