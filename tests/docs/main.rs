//! The documents say what is there: README.md, CONTRIBUTING.md, CHANGELOG.md, SECURITY.md and docs/.
//!
//! Needs no root and no service. Of the commands in `sh` blocks
//!
//! - each block is read by `bash -n`;
//! - `make` runs as `make --dry-run`; `scripts/setup` and `scripts/parts` run with `--help`;
//! - `slipway` is parsed by the program's own command line, and the binary runs for `--help` of each command, `completions` and
//!   `worker --print-config` (with the `.env` of the README's quick start);
//! - `redis-cli` is parsed (command, keys, channel), and runs in a database of its own where `scripts/parts` has started a Redis;
//! - `cargo`, `docker`, `systemctl`, `journalctl`, `install` and `iptables` are parsed only: test programs, filters, units, fields, files
//!   and rules have to exist. A program that is not known here fails the test.
//!
//! `UPDATE_DOCS=1 cargo test --test docs` writes the generated tables anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its documents fails")]

mod commands;
mod generated;
mod links;
mod markdown;
mod names;
mod programs;
mod repository;
mod shell;
