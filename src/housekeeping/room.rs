//! What is removed, and in which order, when a disk has less free space than MIN_FREE_DISK. Decisions only: no I/O.
//!
//! Caches are worth what they save, so they go in steps: half of each, a quarter, all. After each step the disk is measured again,
//! and the first that is enough is the last. Enough is more than the floor, or the next build would be short again.

use std::time::Duration;

use super::disk::{ENGINES_DATA, Space, WORK_DIR};

/// What can be removed without asking anybody. A build that uses a part of it keeps that part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Store {
    BuildCache,
    BuildpacksCaches,
    GitMirrors,
}

/// How much of a store is kept, of what it had when the first step began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Half,
    Quarter,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) store: Store,
    pub(super) keep: Keep,
}

/// The build cache first: it grows fastest, and what is left of it is the part that was used last.
pub(super) const STEPS: [Step; 9] = {
    use Keep::{Half, Nothing, Quarter};
    use Store::{BuildCache, BuildpacksCaches, GitMirrors};
    [
        Step { store: BuildCache, keep: Half },
        Step { store: GitMirrors, keep: Half },
        Step { store: BuildpacksCaches, keep: Half },
        Step { store: BuildCache, keep: Quarter },
        Step { store: GitMirrors, keep: Quarter },
        Step { store: BuildpacksCaches, keep: Quarter },
        Step { store: BuildCache, keep: Nothing },
        Step { store: GitMirrors, keep: Nothing },
        Step { store: BuildpacksCaches, keep: Nothing },
    ]
};

impl Store {
    /// The place that it lies in.
    fn place(self) -> &'static str {
        match self {
            Store::BuildCache | Store::BuildpacksCaches => ENGINES_DATA,
            Store::GitMirrors => WORK_DIR,
        }
    }
    pub(super) fn name(self) -> &'static str {
        match self {
            Store::BuildCache => "BuildKit's cache",
            Store::BuildpacksCaches => "the buildpacks' caches",
            Store::GitMirrors => "the git mirrors",
        }
    }
}

impl Keep {
    pub(super) fn of(self, bytes: u64) -> u64 {
        match self {
            Keep::Half => bytes / 2,
            Keep::Quarter => bytes / 4,
            Keep::Nothing => 0,
        }
    }
}

/// The disks that were short when it was looked for, and how much is enough there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    devices: Vec<u64>,
    floor: u64,
}

impl Shortage {
    /// `None`: every place has `floor` bytes.
    pub(super) fn of(spaces: &[Space], floor: u64) -> Option<Self> {
        let short = spaces.iter().filter(|space| space.free < floor);
        let devices: Vec<u64> = short.map(|space| space.device).collect();
        (!devices.is_empty()).then_some(Self { devices, floor })
    }

    /// Half as much again as the floor: a build that is claimed at the floor itself would be the last one.
    pub(super) fn enough(&self) -> u64 {
        self.floor.saturating_add(self.floor / 2)
    }

    /// The place of `store`, where it is on one of these disks and has not enough yet. What lies on another disk makes no room here.
    pub(super) fn wants<'s>(&self, spaces: &'s [Space], store: Store) -> Option<&'s Space> {
        let place = spaces.iter().find(|space| space.name == store.place())?;
        (self.devices.contains(&place.device) && place.free < self.enough()).then_some(place)
    }

    /// Which of these places are still below the floor.
    pub(super) fn still_short<'s>(&self, spaces: &'s [Space]) -> impl Iterator<Item = &'s Space> {
        spaces.iter().filter(|space| self.devices.contains(&space.device) && space.free < self.floor)
    }
}

/// After a round that freed nothing the next one waits, longer each time: measuring a cache is work for the Engine.
const WAITS: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(240),
    Duration::from_secs(480),
    Duration::from_secs(600),
];

/// How long the next round waits after so many in a row that freed nothing.
pub(super) fn wait_after(in_vain: usize) -> Duration {
    match in_vain.checked_sub(1) {
        None => Duration::ZERO,
        Some(i) => WAITS[i.min(WAITS.len() - 1)],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOOR: u64 = 100;

    fn space(name: &'static str, device: u64, free: u64) -> Space {
        Space { name, path: "/data".into(), device, free }
    }
    fn on_two_disks(work: u64, engine: u64) -> [Space; 2] {
        [space(WORK_DIR, 1, work), space(ENGINES_DATA, 2, engine)]
    }
    /// The stores that are trimmed in all steps, with `spaces` as they stay.
    fn trimmed(spaces: &[Space]) -> Vec<Store> {
        let Some(shortage) = Shortage::of(spaces, FLOOR) else { return Vec::new() };
        STEPS.iter().map(|step| step.store).filter(|store| shortage.wants(spaces, *store).is_some()).collect()
    }

    #[test]
    fn nothing_is_removed_where_there_is_room() {
        assert_eq!(trimmed(&on_two_disks(FLOOR, FLOOR)), []);
    }

    #[test]
    fn only_what_lies_on_the_short_disk_is_removed() {
        assert!(trimmed(&on_two_disks(99, 1000)).iter().all(|store| *store == Store::GitMirrors));
        assert!(!trimmed(&on_two_disks(1000, 99)).contains(&Store::GitMirrors));
        // Not short, though it has less than is enough: it was not the reason.
        assert!(!trimmed(&on_two_disks(FLOOR, 99)).contains(&Store::GitMirrors));
        // An Engine in a container keeps its data elsewhere.
        assert!(trimmed(&[space(WORK_DIR, 1, 0)]).iter().all(|store| *store == Store::GitMirrors));
    }

    #[test]
    fn on_one_disk_each_store_makes_room_for_the_other() {
        let one_disk = [space(WORK_DIR, 1, 99), space(ENGINES_DATA, 1, 99)];
        assert_eq!(trimmed(&one_disk).len(), STEPS.len());
    }

    #[test]
    fn enough_lies_above_the_floor_so_that_the_next_build_is_not_short_again() {
        let shortage = Shortage::of(&on_two_disks(1000, 99), FLOOR).unwrap();
        assert!(shortage.wants(&on_two_disks(1000, 149), Store::BuildCache).is_some());
        assert!(shortage.still_short(&on_two_disks(1000, 100)).next().is_none());
        assert!(shortage.wants(&on_two_disks(1000, 150), Store::BuildCache).is_none());
    }

    #[test]
    fn rounds_in_vain_come_less_and_less_often() {
        let waits: Vec<u64> = (0..8).map(|n| wait_after(n).as_secs()).collect();
        assert_eq!(waits, [0, 60, 120, 240, 480, 600, 600, 600]);
    }

    proptest! {
        /// Whatever the sizes: each step keeps at most what the one before it kept, and the last keeps nothing.
        #[test]
        fn each_step_of_a_store_keeps_less_and_the_last_nothing(size: u64) {
            for store in [Store::BuildCache, Store::BuildpacksCaches, Store::GitMirrors] {
                let kept: Vec<u64> = STEPS.iter().filter(|s| s.store == store).map(|s| s.keep.of(size)).collect();
                prop_assert!(kept.is_sorted_by(|before, after| before >= after));
                prop_assert_eq!(kept.last(), Some(&0));
            }
        }
        /// What is wanted of a store is wanted because its own disk is short.
        #[test]
        fn no_store_of_a_disk_with_room_is_touched(work in 0u64..300, engine in 0u64..300, same: bool) {
            let spaces = [space(WORK_DIR, 1, work), space(ENGINES_DATA, if same { 1 } else { 2 }, engine)];
            for store in trimmed(&spaces) {
                let place = spaces.iter().find(|space| space.name == store.place()).unwrap();
                prop_assert!(spaces.iter().any(|space| space.device == place.device && space.free < FLOOR));
            }
        }
    }
}
