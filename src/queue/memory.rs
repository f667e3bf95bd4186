//! What this host remembers over a restart, of itself and of Redis: the ends that it delivered, and which Redis it spoke to.
//!
//! A Redis that comes back from an old snapshot brings back finished jobs; it must not have them built again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::attempt::Claim;
use super::shared::Epoch;

const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Ends remembered at most; beyond, the file is begun anew with those that the process knows.
const KEPT: usize = 20_000;
/// Stands for what is not known.
const UNKNOWN: &str = "-";

#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    at: u64,
    seq: u64,
    payload: u32,
    /// The server that it was acknowledged to.
    run_id: String,
    /// The value of that server's epoch key: a Redis that came back empty has another one. `-`: not known.
    epoch: String,
}

/// Which Redis a claim was given by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) run_id: Option<&'a str>,
    /// `None`: it has none yet.
    pub(super) epoch: Option<&'a str>,
    /// The server started without data. `None`: not known.
    pub(super) loaded_nothing: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Memory {
    dir: PathBuf,
    /// What an earlier process of this host spoke to last.
    pub(super) earlier: Option<Epoch>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ends: HashMap<String, End>,
    unsaved: Vec<String>,
    epoch: Option<String>,
    lines: usize,
}

impl Memory {
    /// Reads what an earlier process left; blocks.
    pub(super) fn load(dir: &Path) -> io::Result<Self> {
        let mut state = State::default();
        match File::open(dir.join("delivered")) {
            Ok(file) => {
                // A torn last line is no line.
                for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                    if let Some((id, end)) = std::str::from_utf8(&line).ok().and_then(parse)
                        && is_recent(end.at)
                    {
                        state.ends.insert(id, end);
                    }
                }
                state.lines = KEPT;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let earlier = match fs::read_to_string(dir.join("epoch")) {
            Ok(text) => text
                .trim_end()
                .split_once(' ')
                .map(|(value, run)| Epoch { value: value.into(), run_id: Some(run.into()).filter(|r: &String| r != "-") }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok(Self { dir: dir.to_owned(), earlier, state: Mutex::new(state) })
    }
    pub(super) fn empty(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), earlier: None, state: Mutex::default() }
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// An end was delivered, and acknowledged to the server `run_id`.
    pub(super) fn delivered(&self, claim: &Claim, to: Option<&Epoch>) {
        let Some(id) = &claim.deployment else { return };
        let end = End {
            at: now(),
            seq: claim.seq,
            payload: crc32fast::hash(&claim.payload),
            run_id: to.and_then(|to| to.run_id.clone()).unwrap_or_else(|| UNKNOWN.to_owned()),
            epoch: to.map(|to| to.value.clone()).filter(|v| !v.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned()),
        };
        let mut state = self.state();
        if state.unsaved.len() < KEPT {
            state.unsaved.push(line(id.as_str(), &end));
        }
        if state.ends.len() >= KEPT {
            state.ends.retain(|_, e| is_recent(e.at) && e.at > end.at.saturating_sub(3_600_000));
            if state.ends.len() >= KEPT {
                state.ends.clear();
            }
        }
        state.ends.insert(id.as_str().to_owned(), end);
    }
    /// Whether anything is remembered of the deployment.
    pub(super) fn has(&self, claim: &Claim) -> bool {
        claim.deployment.as_ref().is_some_and(|id| self.state().ends.contains_key(id.as_str()))
    }
    /// Whether this claim is a job whose end was delivered before, and that Redis only has because it came back from an older
    /// snapshot: the very same attempt's order, or the same bytes without a record after a restart of Redis. A job that was pushed
    /// again on purpose has a new order, and its Redis is the same, or came back empty and so brought nothing back.
    pub(super) fn knows(&self, claim: &Claim, from: Source<'_>) -> bool {
        let Some(id) = &claim.deployment else { return false };
        let state = self.state();
        let Some(end) = state.ends.get(id.as_str()).filter(|e| is_recent(e.at)) else { return false };
        let restarted = from.run_id.is_some_and(|r| end.run_id != UNKNOWN && end.run_id != r);
        let is_another = end.epoch != UNKNOWN && from.epoch != Some(end.epoch.as_str());
        // A server that has loaded something may have a snapshot from before its epoch was set.
        let came_back_empty = is_another && from.loaded_nothing != Some(false);
        end.seq == claim.seq
            || (claim.attempt == 1 && restarted && !came_back_empty && end.payload == crc32fast::hash(&claim.payload))
    }
    /// What the snapshot of this run brought back is removed. The same element once more is one that was pushed again.
    pub(super) fn removed(&self, claim: &Claim, run_id: Option<&str>) {
        let (Some(id), Some(run_id)) = (&claim.deployment, run_id) else { return };
        let mut state = self.state();
        let Some(end) = state.ends.get_mut(id.as_str()) else { return };
        end.run_id = run_id.to_owned();
        let line = line(id.as_str(), end);
        if state.unsaved.len() < KEPT {
            state.unsaved.push(line);
        }
    }
    pub(super) fn keep_epoch(&self, epoch: &Epoch) {
        self.state().epoch = Some(format!("{} {}\n", epoch.value, epoch.run_id.as_deref().unwrap_or("-")));
    }
    /// Writes what is new; blocks. What was not written in a crash of the whole host is not remembered.
    pub(super) fn save(&self) -> io::Result<()> {
        let (unsaved, epoch, rewrite) = {
            let mut state = self.state();
            let rewrite = state.lines + state.unsaved.len() > 2 * KEPT;
            let all = rewrite.then(|| state.ends.iter().map(|(id, end)| line(id, end)).collect::<Vec<_>>());
            let unsaved = std::mem::take(&mut state.unsaved);
            state.lines = all.as_ref().map_or(state.lines + unsaved.len(), Vec::len);
            (all.unwrap_or(unsaved), state.epoch.take(), rewrite)
        };
        if let Some(epoch) = epoch {
            replace(&self.dir.join("epoch"), epoch.as_bytes())?;
        }
        let path = self.dir.join("delivered");
        if rewrite {
            return replace(&path, unsaved.concat().as_bytes());
        }
        if unsaved.is_empty() {
            return Ok(());
        }
        OpenOptions::new().create(true).append(true).open(path)?.write_all(unsaved.concat().as_bytes())
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    fs::write(&draft, bytes)?;
    fs::rename(draft, path)
}

fn line(id: &str, end: &End) -> String {
    format!("{} {id} {} {} {} {}\n", end.at, end.seq, end.payload, end.run_id, end.epoch)
}

fn parse(line: &str) -> Option<(String, End)> {
    let mut parts = line.split(' ');
    let at = parts.next()?.parse().ok()?;
    let id = parts.next()?.to_owned();
    let end = End {
        at,
        seq: parts.next()?.parse().ok()?,
        payload: parts.next()?.parse().ok()?,
        run_id: parts.next()?.to_owned(),
        // An earlier version wrote none.
        epoch: parts.next().unwrap_or(UNKNOWN).to_owned(),
    };
    Some((id, end))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}

fn is_recent(at: u64) -> bool {
    u128::from(now().saturating_sub(at)) < KEPT_FOR.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::DeploymentId;
    use crate::queue::ClaimFate;
    use bytes::Bytes;

    fn claim(attempt: u32, seq: u64) -> Claim {
        Claim {
            payload: Bytes::from_static(b"{}"),
            deployment: DeploymentId::parse("d1").ok(),
            service: None,
            attempt,
            seq,
            fate: ClaimFate::Build,
            taken_over: None,
            requeued_by: None,
        }
    }

    fn run1() -> Epoch {
        Epoch { value: "e1".into(), run_id: Some("run1".into()) }
    }

    fn from<'a>(run_id: &'a str, epoch: &'a str) -> Source<'a> {
        Source { run_id: Some(run_id), epoch: Some(epoch), loaded_nothing: None }
    }

    #[test]
    fn a_finished_job_that_an_old_snapshot_brings_back_is_known_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::load(dir.path()).unwrap();
        memory.delivered(&claim(1, 100), Some(&run1()));
        memory.keep_epoch(&run1());
        memory.save().unwrap();
        let memory = Memory::load(dir.path()).unwrap();
        assert!(memory.knows(&claim(2, 100), from("run1", "e1")), "the same order: the record came back");
        assert!(memory.knows(&claim(1, 200), from("run2", "e1")), "no record, another run: the element came back");
        assert!(!memory.knows(&claim(1, 200), from("run1", "e1")), "the same run: it was pushed again");
        assert!(!memory.knows(&claim(2, 200), from("run2", "e1")), "Redis knew of its end: it was pushed again");
        assert_eq!(memory.earlier, Some(run1()));
    }

    #[test]
    fn a_redis_that_came_back_empty_brings_nothing_back_so_the_element_was_pushed_again() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::empty(dir.path());
        memory.delivered(&claim(1, 100), Some(&run1()));
        assert!(!memory.knows(&claim(1, 200), from("run2", "e2")));
        assert!(
            !memory.knows(&claim(1, 200), Source { run_id: Some("run2"), epoch: None, loaded_nothing: Some(true) }),
            "nobody has set an epoch yet"
        );
        let snapshot = Source { run_id: Some("run2"), epoch: None, loaded_nothing: Some(false) };
        assert!(memory.knows(&claim(1, 200), snapshot), "it has a snapshot from before its epoch was set");
    }

    #[test]
    fn what_a_snapshot_brought_back_is_removed_once_for_each_restart() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::empty(dir.path());
        memory.delivered(&claim(1, 100), Some(&run1()));
        assert!(memory.knows(&claim(1, 200), from("run2", "e1")));
        memory.removed(&claim(1, 200), Some("run2"));
        assert!(!memory.knows(&claim(1, 300), from("run2", "e1")), "it was pushed again");
        assert!(memory.knows(&claim(1, 300), from("run3", "e1")), "the snapshot was loaded once more");
    }

    #[test]
    fn a_torn_line_and_one_that_is_older_than_a_day_are_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("delivered"), "1000 d1 100 7 run1\n99999 d").unwrap();
        assert!(
            !Memory::load(dir.path()).unwrap().knows(&claim(2, 100), Source { run_id: None, epoch: None, loaded_nothing: None })
        );
    }

    #[test]
    fn a_line_of_an_earlier_version_is_read() {
        let line = format!("{} d1 100 7 run1\n", now());
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("delivered"), line).unwrap();
        assert!(Memory::load(dir.path()).unwrap().knows(&claim(2, 100), from("run1", "e1")));
    }
}
