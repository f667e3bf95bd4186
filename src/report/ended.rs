//! Ends that were delivered in the last day: `WORK_DIR/journal/ended`, so that a Redis that comes back from an old snapshot with
//! finished jobs does not have them built and told again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::protocol::{DeploymentId, Outcome};

const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Above it the older half is forgotten: some 15,000 ends.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// A line is never longer; one that is was torn.
const MAX_LINE: usize = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Seconds since 1970.
    at: i64,
    deployment: DeploymentId,
    attempt: u32,
    outcome: Outcome,
}

/// One line of JSON per end; in memory only where each stands.
#[derive(Debug)]
pub struct Ended {
    path: PathBuf,
    hasher: RandomState,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    /// Hash of the deployment's id → offset of its newest line.
    offsets: HashMap<u64, u64>,
    len: u64,
}

impl Ended {
    /// Reads the file; forgets what is older than a day.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let ended = Self { path, hasher: RandomState::new(), index: Mutex::default() };
        let mut index = Index::default();
        ended.rewrite(&mut index, u64::MAX)?;
        *ended.lock() = index;
        Ok(ended)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an end. Not synced: a power cut may cost the last ones.
    pub fn remember(&self, deployment: &DeploymentId, attempt: u32, outcome: &Outcome) -> io::Result<()> {
        let mut index = self.lock();
        if index.len > MAX_BYTES {
            self.rewrite(&mut index, MAX_BYTES / 2)?;
        }
        let line = Line { at: now(), deployment: deployment.clone(), attempt, outcome: outcome.clone() };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        file.write_all_at(&bytes, index.len)?;
        let at = index.len;
        index.offsets.insert(self.hasher.hash_one(deployment), at);
        index.len += bytes.len() as u64;
        Ok(())
    }

    /// The attempt and the end that were delivered for a deployment in the last day. Reads the file only where there is one.
    pub fn find(&self, deployment: &DeploymentId) -> io::Result<Option<(u32, Outcome)>> {
        let index = self.lock();
        let Some(offset) = index.offsets.get(&self.hasher.hash_one(deployment)) else {
            return Ok(None);
        };
        let room = usize::try_from(index.len - offset).unwrap_or(MAX_LINE).min(MAX_LINE);
        let mut bytes = vec![0; room];
        File::open(&self.path)?.read_exact_at(&mut bytes, *offset)?;
        let line = bytes.split(|b| *b == b'\n').next().and_then(|b| serde_json::from_slice::<Line>(b).ok());
        Ok(line.filter(|l| l.deployment == *deployment && is_kept(l)).map(|l| (l.attempt, l.outcome)))
    }

    /// Writes the lines of the last day anew, the newest `keep` bytes of them, and indexes them.
    fn rewrite(&self, index: &mut Index, keep: u64) -> io::Result<()> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                *index = Index::default();
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let mut skip = file.metadata()?.len().saturating_sub(keep);
        let new_path = self.path.with_extension("new");
        let new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new_path)?;
        let mut new = io::BufWriter::new(new);
        let (mut fresh, mut bytes) = (Index::default(), Vec::new());
        let mut old = BufReader::new(file);
        loop {
            bytes.clear();
            let read = old.read_until(b'\n', &mut bytes)? as u64;
            if read == 0 {
                break;
            }
            if skip > 0 {
                skip = skip.saturating_sub(read);
                continue;
            }
            // A line that was torn by a crash is passed over; it is no secret worth a word.
            let Ok(line) = serde_json::from_slice::<Line>(&bytes) else {
                continue;
            };
            if is_kept(&line) && bytes.ends_with(b"\n") {
                new.write_all(&bytes)?;
                fresh.offsets.insert(self.hasher.hash_one(&line.deployment), fresh.len);
                fresh.len += read;
            }
        }
        new.flush()?;
        std::fs::rename(&new_path, &self.path)?;
        *index = fresh;
        Ok(())
    }
}

fn is_kept(line: &Line) -> bool {
    now() - line.at < KEPT.as_secs() as i64
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Code, Failure};

    fn id(text: &str) -> DeploymentId {
        DeploymentId::parse(text).unwrap()
    }
    fn failed(cause: &str) -> Outcome {
        Outcome::Failed { failure: Failure::new(Code::DockerfileStepFailed, cause, "") }
    }

    #[test]
    fn an_end_is_remembered_over_a_restart_and_a_torn_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ended");
        let ended = Ended::open(path.clone()).unwrap();
        ended.remember(&id("one"), 1, &failed("a")).unwrap();
        ended.remember(&id("two"), 2, &failed("b")).unwrap();
        ended.remember(&id("one"), 3, &failed("c")).unwrap();
        assert_eq!(ended.find(&id("one")).unwrap(), Some((3, failed("c"))));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"at\":17");
        std::fs::write(&path, bytes).unwrap();
        let ended = Ended::open(path.clone()).unwrap();
        ended.remember(&id("three"), 1, &failed("d")).unwrap();
        let ended = Ended::open(path).unwrap();
        assert_eq!(ended.find(&id("one")).unwrap(), Some((3, failed("c"))));
        assert_eq!(ended.find(&id("two")).unwrap(), Some((2, failed("b"))));
        assert_eq!(ended.find(&id("three")).unwrap(), Some((1, failed("d"))));
        assert_eq!(ended.find(&id("four")).unwrap(), None);
    }

    #[test]
    fn what_is_older_than_a_day_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ended");
        let line = Line { at: now() - 90_000, deployment: id("old"), attempt: 1, outcome: failed("a") };
        std::fs::write(&path, format!("{}\n", serde_json::to_string(&line).unwrap())).unwrap();
        let ended = Ended::open(path.clone()).unwrap();
        assert_eq!(ended.find(&id("old")).unwrap(), None);
        assert_eq!(std::fs::metadata(path).unwrap().len(), 0);
    }

    #[test]
    fn the_file_is_bounded_and_the_newest_ends_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ended");
        let ended = Ended::open(path.clone()).unwrap();
        let long = failed(&"x".repeat(4000));
        for n in 0..3000 {
            ended.remember(&id(&format!("d{n}")), 1, &long).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= MAX_BYTES + 8192);
        assert_eq!(ended.find(&id("d2999")).unwrap(), Some((1, long)));
        assert_eq!(ended.find(&id("d0")).unwrap(), None);
    }
}
