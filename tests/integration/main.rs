//! Slipway from the outside, on the real parts: what a user, an operator and a producer get. Run by `make test`.

mod cancel;
mod crash;
mod drain;
mod failures;
mod git_sources;
mod hostile;
mod job_to_image;
mod long_run;
mod no_room;
mod outages;
mod predecessor;
mod rig_itself;
mod secrets;
mod support;
