//! Disk watermarks, caches, and what a crash left behind.

pub mod build_cache;
pub mod disk;
mod leftover;
pub mod sweep;
