//! A disk of a host's own, of any size, that stalls on request: ext4 on a loop device, frozen as a cloud disk is whose writes hang. Reads of
//! what is cached go on.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;

/// Mounts, freezes and thaws as it is told. When nobody can tell it anything any more, however this process ended, it thaws and unmounts:
/// what waits for a frozen disk cannot be killed.
const GUARD: &str = r#"
mkfs.ext4 -q -E "root_owner=$3" "$1" && mount -o loop "$1" "$2" || exit 1
echo done
while read -r word; do
    case $word in
        freeze) fsfreeze --freeze "$2" && echo done || echo failed ;;
        thaw) fsfreeze --unfreeze "$2" && echo done || echo failed ;;
    esac
done
fsfreeze --unfreeze "$2" 2>/dev/null
umount "$2" 2>/dev/null || umount --lazy "$2"
"#;

pub struct StallingDisk {
    guard: Mutex<Guard>,
    _image: TempDir,
}

struct Guard {
    process: Child,
    /// `None` once it is to end.
    tell: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl StallingDisk {
    /// Mounts an empty one with so many bytes. Only what is written to it takes room.
    pub fn at(folder: &Path, bytes: u64) -> Self {
        let image = tempfile::Builder::new().prefix("slipway-disk-").tempdir().expect("a temporary directory");
        let file = image.path().join("image");
        std::fs::File::create(&file).and_then(|f| f.set_len(bytes)).expect("an image file");
        let mut command = Command::new(if rustix::process::geteuid().is_root() { "sh" } else { "sudo" });
        if !rustix::process::geteuid().is_root() {
            command.args(["-n", "sh"]);
        }
        let owner = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mut process = command
            .args(["-c", GUARD, "sh"])
            .args([&file, folder])
            .arg(owner)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a shell");
        let answers = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let mut guard = Guard { tell: process.stdin.take(), answers, process };
        guard.wait("mount a disk on a loop device");
        Self { guard: Mutex::new(guard), _image: image }
    }

    /// From here on whoever writes to it waits.
    pub fn freeze(&self) {
        self.tell("freeze");
    }

    pub fn thaw(&self) {
        self.tell("thaw");
    }

    fn tell(&self, word: &str) {
        let mut guard = self.guard.lock().expect("nobody panicked with it");
        writeln!(guard.tell.as_mut().expect("it lives"), "{word}").expect("tell the disk's guard");
        guard.wait(word);
    }
}

impl Guard {
    fn wait(&mut self, what: &str) {
        let answer = self.answers.next().map(|line| line.expect("a line"));
        assert_eq!(answer.as_deref(), Some("done"), "{what}");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tell = None;
        if let Err(error) = self.process.wait() {
            eprintln!("the guard of a disk cannot be waited for: {error}");
        }
    }
}
