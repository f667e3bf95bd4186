//! The registry stage and housekeeping against a real Engine, a real registry with a password, and ECR's API by moto.
//! `make test` starts them and says where they are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod ecr;
mod faults;
mod housekeeping;
mod push;
mod rig;
mod settings;
mod tokens;
