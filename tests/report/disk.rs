//! A disk whose power can be cut: a file system of its own in an image file. What was not synced is not in the image.
//! Where the kernel offers no loop devices (in some containers) it is a folder, and a cut shows what was written, synced or not.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const SIZE: u64 = 16 << 20;

/// The kernel ends the mount with the process: it stands in no table, only the open folder holds it.
pub struct Disk {
    root: File,
    files: TempDir,
}

fn can_mount() -> bool {
    Path::new("/dev/loop-control").exists()
}

impl Disk {
    pub fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        if !can_mount() {
            return Self::plain(files);
        }
        let image = files.path().join("image");
        File::create(&image).unwrap().set_len(SIZE).unwrap();
        let owner = format!("root_owner={}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        run(Command::new("mkfs.ext4").args(["-q", "-E", &owner]).arg(&image));
        Self::mounted(files)
    }

    /// What is left on it when the power is cut now.
    pub fn after_a_power_cut(&self) -> Self {
        let files = tempfile::tempdir().unwrap();
        if !can_mount() {
            run(Command::new("cp").arg("-a").arg(self.root().join(".")).arg(files.path()));
            return Self::plain(files);
        }
        std::fs::copy(self.files.path().join("image"), files.path().join("image")).unwrap();
        Self::mounted(files)
    }

    pub fn root(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.root.as_raw_fd()).into()
    }

    fn plain(files: TempDir) -> Self {
        Self { root: File::open(files.path()).unwrap(), files }
    }

    fn mounted(files: TempDir) -> Self {
        let (image, folder) = (files.path().join("image"), files.path().join("mounted"));
        std::fs::create_dir(&folder).unwrap();
        // It writes nothing by itself as long as a test runs.
        run(as_root("mount").args(["-o", "loop,commit=3000"]).args([&image, &folder]));
        let root = File::open(&folder);
        run(as_root("umount").arg("--lazy").arg(&folder));
        Self { root: root.unwrap(), files }
    }
}

/// As `scripts/parts` does: through sudo where this process is not root itself.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn run(command: &mut Command) {
    let done = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
