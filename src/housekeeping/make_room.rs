//! Makes room on a disk that is short: removes caches step by step ([`room`]), says each step with its figures, and names what only
//! the operator can remove.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::models::ImageSummary;
use bollard::query_parameters::ListImagesOptionsBuilder;
use tokio_util::sync::CancellationToken;

use super::build_cache::{BuildCache, Pruned};
use super::buildpacks_cache;
use super::disk::{self, ENGINES_DATA, Space, size};
use super::room::{self, Shortage, Store};
use crate::image::{BuildpacksStage, UsageOf, disk_usage, labels};
use crate::source::GitSourceStage;

/// Some file systems free the blocks of what was removed a moment later.
const SETTLES: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1)];
/// So many of the largest images are named.
const NAMED_IMAGES: usize = 5;

/// A step that removed less changes nothing that the operator has to know.
const WORTH_A_LINE: u64 = 1 << 20;

/// What can be removed, and where it is measured.
pub(super) struct Stores<'a> {
    pub(super) engine: &'a Docker,
    pub(super) socket: PathBuf,
    pub(super) work_dir: PathBuf,
    pub(super) build_cache: &'a BuildCache,
    pub(super) buildpacks: &'a BuildpacksStage,
    pub(super) mirrors: &'a GitSourceStage,
}

/// How a round ended.
pub(super) struct Made {
    /// Bytes that went in all its steps.
    pub(super) removed: u64,
}

impl Stores<'_> {
    /// Until there is enough, nothing is left to remove, or `stop`. `measured` is told each new measurement. `None`: no place is short.
    pub(super) async fn make_room(&self, floor: u64, measured: impl Fn(&[Space]), stop: &CancellationToken) -> Option<Made> {
        let mut spaces = self.measure().await?;
        let shortage = Shortage::of(&spaces, floor)?;
        let mut sizes = HashMap::new();
        let mut removed = 0;
        for step in room::STEPS {
            let Some(before) = shortage.wants(&spaces, step.store).cloned() else { continue };
            let had = match sizes.get(&step.store) {
                Some(bytes) => *bytes,
                None => *sizes.entry(step.store).or_insert(self.size(step.store).await),
            };
            if had == 0 {
                continue;
            }
            let gone = self.keep_below(step.store, step.keep.of(had), stop).await;
            if stop.is_cancelled() {
                break;
            }
            if gone > 0 {
                spaces = self.measure_after(gone, &before).await?;
                measured(&spaces);
                if gone >= WORTH_A_LINE {
                    say(step, gone, had, &before, &spaces, &shortage);
                }
            }
            removed += gone;
        }
        if !stop.is_cancelled() {
            for short in shortage.still_short(&spaces) {
                self.name_what_is_left(short, floor).await;
            }
        }
        Some(Made { removed })
    }

    async fn measure(&self) -> Option<Vec<Space>> {
        let root = disk::engine_root(self.engine).await;
        disk::measure_all(Some(self.work_dir.clone()), root).await.ok()
    }

    async fn measure_after(&self, gone: u64, before: &Space) -> Option<Vec<Space>> {
        let mut spaces = self.measure().await?;
        for wait in SETTLES {
            let now = spaces.iter().find(|space| space.name == before.name).map_or(0, |space| space.free);
            if now >= before.free.saturating_add(gone / 2) {
                break;
            }
            tokio::time::sleep(wait).await;
            spaces = self.measure().await?;
        }
        Some(spaces)
    }

    /// Bytes of it; 0 where there is nothing, or where it cannot be measured.
    async fn size(&self, store: Store) -> u64 {
        let measured = match store {
            Store::BuildCache => disk_usage(self.engine, &self.socket, UsageOf::BuildCache).await.map(|u| u.build_cache_bytes()),
            Store::BuildpacksCaches => self.buildpacks.caches().await.map(|all| all.iter().map(|cache| cache.bytes).sum()),
            Store::GitMirrors => self.mirrors.cache_size().await.map_err(|failure| failure.to_string()),
        };
        measured.unwrap_or_else(|error| {
            tracing::warn!("{} cannot be measured, so nothing of it is removed now: {error}", store.name());
            0
        })
    }

    /// Bytes that went. What a build uses stays.
    async fn keep_below(&self, store: Store, bytes: u64, stop: &CancellationToken) -> u64 {
        match store {
            Store::BuildCache => match self.build_cache.keep_below(bytes, stop).await {
                Pruned::Freed(gone) => gone,
                Pruned::TooSoon | Pruned::Busy | Pruned::Stopped | Pruned::Failed(_) => 0,
            },
            Store::BuildpacksCaches => match self.buildpacks.caches().await {
                Ok(caches) => buildpacks_cache::make_room(self.buildpacks, caches, bytes).await,
                Err(_) => 0,
            },
            Store::GitMirrors => self.mirrors.evict_to(bytes).await.unwrap_or_else(|failure| {
                tracing::warn!("git mirrors could not be removed: {failure}");
                0
            }),
        }
    }

    /// The operator's images are the operator's: they are named, not removed.
    async fn name_what_is_left(&self, short: &Space, floor: u64) {
        let place = format!("{} ({})", short.name, short.path.display());
        let images = if short.name == ENGINES_DATA { self.foreign_images().await } else { Vec::new() };
        tracing::warn!(
            "{place} has {} free, less than MIN_FREE_DISK ({}), and nothing is left there that Slipway may remove. {}",
            size(short.free),
            size(floor),
            advice(images)
        );
    }

    /// Name and size of images that no attempt of Slipway's made, the largest first.
    async fn foreign_images(&self) -> Vec<(String, u64)> {
        let all = self.engine.list_images(Some(ListImagesOptionsBuilder::default().build())).await.unwrap_or_default();
        let foreign = all.into_iter().filter(|image| !image.labels.contains_key(labels::WORKER));
        let mut images: Vec<(String, u64)> = foreign.map(named).collect();
        images.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        images
    }
}

fn named(image: ImageSummary) -> (String, u64) {
    let name = image.repo_tags.into_iter().find(|name| name != "<none>:<none>").unwrap_or(image.id);
    (name, u64::try_from(image.size).unwrap_or(0))
}

fn say(step: room::Step, gone: u64, had: u64, before: &Space, spaces: &[Space], shortage: &Shortage) {
    let after = spaces.iter().find(|space| space.name == before.name).map_or(0, |space| space.free);
    let keep = match step.keep {
        room::Keep::Half => "half",
        room::Keep::Quarter => "a quarter",
        room::Keep::Nothing => "nothing",
    };
    tracing::info!(
        "Made room: removed {} of {}, to keep {keep} of the {} that it had. {} ({}) had {} free and has {}; {} is enough.",
        size(gone),
        step.store.name(),
        size(had),
        before.name,
        before.path.display(),
        size(before.free),
        size(after),
        size(shortage.enough())
    );
}

/// What the operator can do. `images`: name and size, the largest first.
fn advice(images: Vec<(String, u64)>) -> String {
    if images.is_empty() {
        return "Remove other data from that disk, enlarge it, or lower MIN_FREE_DISK.".to_owned();
    }
    let count = images.len();
    let largest: Vec<String> =
        images.into_iter().take(NAMED_IMAGES).map(|(name, bytes)| format!("{name} {}", size(bytes))).collect();
    let others = if count > NAMED_IMAGES { format!(" and {} more", count - NAMED_IMAGES) } else { String::new() };
    format!(
        "Images that are not Slipway's: {}{others}. Remove those that no job needs (docker image rm NAME), other data, or lower MIN_FREE_DISK.",
        largest.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_images_are_named_with_sizes_and_the_command_that_removes_them() {
        let images = (0..7).map(|n| (format!("node:{n}"), (7 - n) << 30)).collect();
        let advice = advice(images);
        assert!(advice.contains("node:0 7.0 GiB, node:1 6.0 GiB") && advice.contains("and 2 more"), "{advice}");
        assert!(advice.contains("docker image rm NAME"), "{advice}");
        assert!(!super::advice(Vec::new()).contains("docker"));
    }
}
