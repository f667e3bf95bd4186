//! PURE: the times of a service's entries. BuildKit asks for a file again when its size or time is another, so a path keeps its time as
//! long as it holds the same, and gets one later than all before as soon as it does not, also when an old content comes back.

use std::collections::HashMap;

/// The layout of the state: this, the last time given (i64), the salt, the number of entries (u32), the entries, CRC-32 of all that.
/// An entry: lengths of path (u16) and content (u16), its time (i64), path, content. Numbers are little-endian.
const MAGIC: &[u8; 8] = b"slptime1";
pub(super) const SALT_BYTES: usize = 16;
const HEADER: usize = MAGIC.len() + 8 + SALT_BYTES + 4;

/// What was given out before, as it lies in the state's bytes.
pub(super) struct Times<'s> {
    last: i64,
    salt: [u8; SALT_BYTES],
    known: HashMap<&'s [u8], (&'s [u8], i64)>,
}

/// The times of a build's entries, in their order, and the state to keep (`None`: it is as it was).
pub(super) struct Given {
    pub(super) times: Vec<i64>,
    pub(super) state: Option<Vec<u8>>,
}

impl<'s> Times<'s> {
    /// Nothing is known: all entries are new.
    pub(super) fn lost(salt: [u8; SALT_BYTES]) -> Self {
        Self { last: i64::MIN, salt, known: HashMap::new() }
    }

    /// `None`: not a state, cut off or damaged.
    pub(super) fn read(state: &'s [u8]) -> Option<Self> {
        let (body, crc) = state.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let last = i64::from_le_bytes(take(&mut rest)?);
        let salt = take(&mut rest)?;
        let count = u32::from_le_bytes(take(&mut rest)?) as usize;
        let mut known = HashMap::with_capacity(count.min(rest.len() / 12));
        for _ in 0..count {
            let path_len = u16::from_le_bytes(take(&mut rest)?);
            let content_len = u16::from_le_bytes(take(&mut rest)?);
            let time = i64::from_le_bytes(take(&mut rest)?);
            let (path, after) = rest.split_at_checked(path_len.into())?;
            let (content, after) = after.split_at_checked(content_len.into())?;
            rest = after;
            known.insert(path, (content, time));
        }
        rest.is_empty().then_some(Self { last, salt, known })
    }

    /// Keeps what stands for a content from being guessed by comparing states of different services.
    pub(super) fn salt(&self) -> &[u8; SALT_BYTES] {
        &self.salt
    }

    /// `entries`: each path with what stands for its kind and content, in order. `now`: nanoseconds since the epoch.
    pub(super) fn give(&self, entries: &[(&str, Vec<u8>)], now: i64) -> Given {
        let fresh = now.max(self.last.saturating_add(1));
        let mut changed = entries.len() != self.known.len();
        let times: Vec<i64> = entries
            .iter()
            .map(|(path, content)| match self.known.get(path.as_bytes()) {
                Some((known, time)) if *known == content.as_slice() => *time,
                _ => {
                    changed = true;
                    fresh
                }
            })
            .collect();
        let last = if times.contains(&fresh) { fresh } else { self.last };
        let state = changed.then(|| write(last, &self.salt, entries, &times));
        Given { times, state }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*head)
}

fn write(last: i64, salt: &[u8; SALT_BYTES], entries: &[(&str, Vec<u8>)], times: &[i64]) -> Vec<u8> {
    let size = entries.iter().map(|(path, content)| path.len() + content.len() + 12).sum::<usize>();
    let mut out = Vec::with_capacity(HEADER + size + 4);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&last.to_le_bytes());
    out.extend_from_slice(salt);
    let count_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count = 0u32;
    for ((path, content), time) in entries.iter().zip(times) {
        // What does not fit (no file system has such paths) is new each time.
        let (Ok(path_len), Ok(content_len)) = (u16::try_from(path.len()), u16::try_from(content.len())) else { continue };
        out.extend_from_slice(&path_len.to_le_bytes());
        out.extend_from_slice(&content_len.to_le_bytes());
        out.extend_from_slice(&time.to_le_bytes());
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(content);
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One build: `tree` as (path, content), with the state of the builds before, which it replaces.
    fn build(state: &mut Vec<u8>, tree: &[(&str, &str)], now: i64) -> Vec<i64> {
        let entries: Vec<_> = tree.iter().map(|(path, content)| (*path, content.as_bytes().to_vec())).collect();
        let given = Times::read(state).unwrap_or_else(|| Times::lost([7; SALT_BYTES])).give(&entries, now);
        if let Some(next) = given.state {
            *state = next;
        }
        given.times
    }

    #[test]
    fn an_unchanged_file_keeps_its_time_and_a_changed_one_gets_a_later() {
        let mut state = Vec::new();
        assert_eq!(build(&mut state, &[("a", "1"), ("b", "1")], 100), [100, 100]);
        assert_eq!(build(&mut state, &[("a", "1"), ("b", "2")], 200), [100, 200]);
        let before = state.clone();
        assert_eq!(build(&mut state, &[("a", "1"), ("b", "2")], 300), [100, 200]);
        assert_eq!(state, before);
    }

    #[test]
    fn a_revert_and_a_return_are_changes() {
        let mut state = Vec::new();
        build(&mut state, &[("a", "1"), ("b", "1")], 100);
        build(&mut state, &[("a", "2")], 200);
        assert_eq!(build(&mut state, &[("a", "1"), ("b", "1")], 300), [300, 300]);
    }

    #[test]
    fn a_clock_that_goes_back_gives_later_times_all_the_same() {
        let mut state = Vec::new();
        build(&mut state, &[("a", "1")], 1_000);
        assert_eq!(build(&mut state, &[("a", "2")], 10), [1_001]);
        assert!(build(&mut state, &[], 10).is_empty());
        assert_eq!(build(&mut state, &[("a", "2")], 10), [1_002]);
    }

    #[test]
    fn a_lost_or_damaged_state_makes_all_new() {
        let mut state = Vec::new();
        build(&mut state, &[("a", "1"), ("b", "1")], 100);
        for at in 0..state.len() {
            let mut damaged = state.clone();
            damaged[at] ^= 0x10;
            assert_eq!(build(&mut damaged, &[("a", "1"), ("b", "1")], 200), [200, 200]);
            assert!(Times::read(&state[..at]).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_two_contents_of_a_path_ever_share_a_time(
            builds in prop::collection::vec((prop::collection::btree_map("[abc]", "[12]", 0..4), 0i64..50), 1..20),
        ) {
            let mut state = Vec::new();
            let mut seen: HashMap<(String, i64), String> = HashMap::new();
            let mut last: HashMap<String, (String, i64)> = HashMap::new();
            for (tree, now) in builds {
                let list: Vec<(&str, &str)> = tree.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
                let times = build(&mut state, &list, now);
                let highest = last.values().map(|(_, t)| *t).max();
                let mut current = HashMap::new();
                for ((path, content), time) in list.iter().zip(times) {
                    let first = seen.entry(((*path).to_owned(), time)).or_insert_with(|| (*content).to_owned());
                    prop_assert_eq!(first.as_str(), *content);
                    match last.get(*path) {
                        Some((before, t)) if before == content => prop_assert_eq!(*t, time),
                        _ => prop_assert!(highest.is_none_or(|h| time > h)),
                    }
                    current.insert((*path).to_owned(), ((*content).to_owned(), time));
                }
                last = current;
            }
        }

        #[test]
        fn no_state_brings_the_worker_down(state: Vec<u8>) {
            let mut framed = state.clone();
            framed.splice(0..0, *MAGIC);
            let crc = crc32fast::hash(&framed);
            framed.extend_from_slice(&crc.to_le_bytes());
            let _ = (Times::read(&state), Times::read(&framed));
        }
    }
}
