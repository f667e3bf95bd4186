//! Somebody else's file on a disk, which takes the room there.

use std::fs::File;
use std::path::{Path, PathBuf};

/// Removed when dropped.
pub struct Filled(PathBuf);

impl Filled {
    /// So large that `leaves` bytes stay free on the disk that `folder` is on.
    pub fn disk_of(folder: &Path, leaves: u64) -> Self {
        let path = folder.join("somebody-elses");
        let file = File::create(&path).expect("make a file");
        let bytes = free(folder).checked_sub(leaves).expect("more is free now");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("the disk has the room");
        Self(path)
    }
}

/// Bytes that are free where `folder` is.
pub fn free(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder).expect("a disk");
    disk.f_bavail * disk.f_frsize
}

impl Drop for Filled {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            eprintln!("{} cannot be removed: {error}", self.0.display());
        }
    }
}
