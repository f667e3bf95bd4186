//! The daemon: supervisor, the life of a job, the order of the stages.

mod attempt;
mod dead_letter;
mod journals;
mod lifecycle;
mod once;
pub mod pipeline;
mod retry;
mod signals;
mod silence;
mod single_build;
mod startup;
mod supervisor;
mod way;

pub use once::build_once;
pub use single_build::{BuildFrom, SingleBuild};
pub use startup::run;
