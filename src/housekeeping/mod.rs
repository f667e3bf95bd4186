//! Disk watermarks, caches, and what a crash left behind.
