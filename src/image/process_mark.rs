//! Which process made a thing in the Engine. A worker whose WORK_DIR is lost starts with another id; what it left is then known by
//! the process that made it, which is dead.
//!
//! Only what is proved counts as dead: the same machine and an earlier boot, or the same machine, boot and process namespace and no
//! such process. Another worker on the same Engine (a second WORK_DIR, a container, another host) is alive or cannot be judged.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use aws_lc_rs::digest;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// `<machine>.<boot>.<namespace>.<pid>.<start>`: the first three as short hashes, the last two as numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProcessMark {
    machine: String,
    boot: String,
    namespace: String,
    pid: u32,
    /// In clock ticks since the boot: a number that is given again goes to a process that began later.
    start: u64,
}

/// Whether the process that made a thing still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    Dead,
    /// From here nobody can tell: it counts as alive.
    Unknown,
}

/// What the system says of a process number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nobody,
    Since(u64),
    /// There is one that this user may not look at.
    Hidden,
}

impl fmt::Display for ProcessMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, boot, namespace, pid, start } = self;
        write!(f, "{machine}.{boot}.{namespace}.{pid}.{start}")
    }
}

impl ProcessMark {
    /// This process's own; `None` where the system does not say enough.
    pub fn own() -> Option<&'static Self> {
        static OWN: OnceLock<Option<ProcessMark>> = OnceLock::new();
        OWN.get_or_init(|| ProcessMark::of(std::process::id())).as_ref()
    }

    /// Of a process in the same namespace.
    pub fn of(pid: u32) -> Option<Self> {
        let machine = fs::read_to_string("/etc/machine-id").ok().filter(|id| !id.trim().is_empty())?;
        // Machines made from one image may have one id, and then have names of their own.
        let machine = format!("{machine}{}", rustix::system::uname().nodename().to_string_lossy());
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        let Seen::Since(start) = look(pid) else { return None };
        let namespace = short_hash(&namespace.to_string_lossy());
        Some(Self { machine: short_hash(&machine), boot: short_hash(&boot), namespace, pid, start })
    }

    /// `None`: nothing that Slipway writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (machine, boot, namespace) = (next()?.to_owned(), next()?.to_owned(), next()?.to_owned());
        let (pid, start) = (next()?.parse().ok()?, next()?.parse().ok()?);
        parts.next().is_none().then_some(Self { machine, boot, namespace, pid, start })
    }

    /// Whether it still runs, seen from this process.
    pub fn life(&self) -> Life {
        Self::own().map_or(Life::Unknown, |own| self.judged_by(own, look))
    }

    fn judged_by(&self, own: &Self, look: impl Fn(u32) -> Seen) -> Life {
        if self.machine != own.machine {
            return Life::Unknown;
        }
        if self.boot != own.boot {
            return Life::Dead;
        }
        if self.namespace != own.namespace {
            return Life::Unknown;
        }
        match look(self.pid) {
            Seen::Nobody => Life::Dead,
            Seen::Since(start) if start == self.start => Life::Alive,
            Seen::Since(_) => Life::Dead,
            Seen::Hidden => Life::Unknown,
        }
    }
}

fn look(pid: u32) -> Seen {
    let start = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| start_of(&stat));
    if let Some(start) = start {
        return Seen::Since(start);
    }
    // A hardened service does not see other users' processes in /proc; a signal's permission is asked all the same.
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match pid.map(test_kill_process) {
        Some(Err(Errno::SRCH)) => Seen::Nobody,
        _ => Seen::Hidden,
    }
}

/// The 22nd field. The second is the program's name, in which anything may stand.
fn start_of(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn short_hash(text: &str) -> String {
    hex::encode(&digest::digest(&digest::SHA256, text.trim().as_bytes()).as_ref()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str) -> ProcessMark {
        ProcessMark::parse(text).unwrap()
    }

    #[test]
    fn only_a_process_that_is_proved_gone_is_dead() {
        let own = mark("m.b.n.1.10");
        let life = |text: &str, seen: Seen| mark(text).judged_by(&own, |_| seen);
        assert_eq!(life("m.b.n.7.5", Seen::Since(5)), Life::Alive);
        assert_eq!(life("m.b.n.7.5", Seen::Nobody), Life::Dead);
        assert_eq!(life("m.b.n.7.5", Seen::Since(6)), Life::Dead, "its number went to another one");
        assert_eq!(life("m.earlier.x.7.5", Seen::Since(5)), Life::Dead, "nothing survives a boot");
        assert_eq!(life("m.b.n.7.5", Seen::Hidden), Life::Unknown);
        assert_eq!(life("m.b.container.7.5", Seen::Nobody), Life::Unknown);
        assert_eq!(life("other.earlier.x.7.5", Seen::Nobody), Life::Unknown);
    }

    #[test]
    fn a_mark_is_read_back_and_anything_else_is_none() {
        let own = ProcessMark::of(std::process::id()).unwrap();
        assert_eq!(ProcessMark::parse(&own.to_string()), Some(own));
        for text in ["", "a.b.c.1", "a.b.c.1.2.3", "a.b.c.x.2", "a..c.1.2", "a.b.c.-1.2"] {
            assert_eq!(ProcessMark::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_process_lives_until_it_has_ended() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let mark = ProcessMark::of(child.id()).unwrap();
        assert_eq!(mark.life(), Life::Alive);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(mark.life(), Life::Dead);
    }
}
