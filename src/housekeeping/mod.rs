//! Disk watermarks, caches, and what a crash left behind.

pub mod build_cache;
pub mod buildpacks_cache;
pub mod disk;
mod housekeeper;
mod leftover;
mod live;
mod make_room;
mod room;
pub mod sweep;

pub use housekeeper::Housekeeper;
pub use live::{Live, LiveGuard};
