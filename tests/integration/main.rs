//! Slipway from the outside, on the real parts: what a user, an operator and a producer get. Run by `make test`.

#![allow(clippy::print_stdout, reason = "what was measured is printed, for `--nocapture`")]

mod alone;
mod broken_host;
mod buildpacks;
mod campaign_record;
mod cancel;
mod check;
mod commands;
mod crash;
mod disk_full;
mod drain;
mod ends;
mod engine_restarts;
mod failures;
mod fetched_secrets;
mod git_sources;
mod host_state;
mod hostile;
mod job_hosts;
mod job_to_image;
mod limits;
mod long_run;
mod lost_work_dir;
mod no_room;
mod not_asked_for;
mod outages;
mod own_ca;
mod power_cut;
mod predecessor;
mod reports;
mod rig_itself;
mod secrets;
mod signals;
mod slow_lists;
mod small_disk;
mod stalled_disk;
#[allow(dead_code, reason = "the campaign takes the rest of it")]
mod support;
mod timeouts;
