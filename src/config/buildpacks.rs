//! Cloud Native Buildpacks: which builders are allowed, and what their phases may use.

use std::time::Duration;

use super::reader::{Reader, wrong_entry};

/// One allowed builder and the run image that its images stand on. Nothing else names either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    pub image: String,
    pub run_image: String,
}

#[derive(Debug, Clone)]
pub struct BuildpacksConfig {
    /// `BUILDPACKS_BUILDERS`: `builder=run-image`, separated by commas; the first is the default, a job may name another of them.
    pub builders: Vec<Builder>,
    /// `BUILDPACKS_LIFECYCLE_IMAGE`: holds the phases that see registry credentials. No shell, no buildpack in it.
    pub lifecycle_image: String,
    /// `BUILDPACKS_NETWORK`: `own` (a bridge without traffic between containers) or `none`, for detect and build.
    pub network: BuildpacksNetwork,
    /// `BUILDPACKS_TRUSTED`: one `creator` container instead of five. Only where builder and apps are trusted.
    pub trusted: bool,
    /// `BUILDPACKS_MEMORY` bytes, default 2 GiB, for each phase's container.
    pub memory_bytes: u64,
    /// `BUILDPACKS_CPUS`, default 2; parts of a core are possible.
    pub cpus: f64,
    /// `BUILDPACKS_PIDS`, default 512.
    pub pids: u32,
    /// `BUILDPACKS_FILE_BYTES`, default 4 GiB: the largest file that a phase may write.
    pub file_bytes: u64,
    /// `BUILDPACKS_PHASE_TIMEOUT`, seconds, default 1800.
    pub phase_timeout: Duration,
    /// `BUILDPACKS_CACHE_MAX` bytes, default 10 GiB: cache volumes above it are removed, least recently used first.
    pub cache_max_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildpacksNetwork {
    Own,
    None,
}

impl BuildpacksConfig {
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let builders = r.parsed("BUILDPACKS_BUILDERS", builders);
        let lifecycle_image = r.parsed("BUILDPACKS_LIFECYCLE_IMAGE", |text| image(text).ok_or("is no image reference"));
        let network = r.parsed("BUILDPACKS_NETWORK", |text| match text {
            "own" => Ok(BuildpacksNetwork::Own),
            "none" => Ok(BuildpacksNetwork::None),
            _ => Err("is neither own nor none"),
        });
        let trusted = r.flag("BUILDPACKS_TRUSTED");
        let memory_bytes = r.size("BUILDPACKS_MEMORY", 16 << 20, "is less than 16MiB: no phase could run");
        let cpus = r.parsed("BUILDPACKS_CPUS", |text| {
            let cpus = text.parse::<f64>().ok().filter(|n| (0.1..=256.0).contains(n));
            cpus.ok_or("is not a number of cores from 0.1 to 256")
        });
        let pids = r.number("BUILDPACKS_PIDS", 16..=100_000);
        let file_bytes = r.size("BUILDPACKS_FILE_BYTES", 1 << 20, "is less than 1MiB: no phase could run");
        let phase_timeout = r.duration("BUILDPACKS_PHASE_TIMEOUT");
        let cache_max_bytes = r.size("BUILDPACKS_CACHE_MAX", 0, "");
        Some(Self {
            builders: builders?,
            lifecycle_image: lifecycle_image?,
            network: network?,
            trusted: trusted?,
            memory_bytes: memory_bytes?,
            cpus: cpus?,
            pids: pids?,
            file_bytes: file_bytes?,
            phase_timeout: phase_timeout?,
            cache_max_bytes: cache_max_bytes?,
        })
    }

    /// The builder that a job asks for (`None`: the default). `Err` lists the allowed ones.
    pub fn builder(&self, wanted: Option<&str>) -> Result<&Builder, Vec<&str>> {
        let found = match wanted {
            None => self.builders.first(),
            Some(name) => self.builders.iter().find(|b| with_tag(&b.image) == with_tag(name)),
        };
        found.ok_or_else(|| self.builders.iter().map(|b| b.image.as_str()).collect())
    }
}

/// `builder=run-image`, separated by commas or new lines.
fn builders(text: &str) -> Result<Vec<Builder>, String> {
    let entries = text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()).enumerate();
    let wrong = |at: usize, entry: &str| wrong_entry(at + 1, entry, "builder=run-image");
    let builders: Vec<Builder> =
        entries.map(|(at, entry)| builder(entry).ok_or_else(|| wrong(at, entry))).collect::<Result<_, _>>()?;
    if builders.is_empty() { Err("names no builder".to_owned()) } else { Ok(builders) }
}

fn builder(entry: &str) -> Option<Builder> {
    let (builder, run) = entry.split_once('=')?;
    Some(Builder { image: image(builder.trim())?, run_image: image(run.trim())? })
}

/// A reference, where it looks like one.
fn image(text: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    (starts && text.bytes().all(allowed)).then(|| text.to_owned())
}

/// A reference without tag and digest means `latest`. (A request to the Engine for one without a tag would pull all tags there are.)
pub fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_each_builder_with_its_run_image() {
        let list = builders("a/b:1=r/x:2, 127.0.0.1:5000/c=127.0.0.1:5000/run@sha256:ab").unwrap();
        assert_eq!(list[0], Builder { image: "a/b:1".into(), run_image: "r/x:2".into() });
        assert_eq!(list[1].run_image, "127.0.0.1:5000/run@sha256:ab");
        for wrong in ["a/b", "a/b=", "=x", "a b=c", "-a=b", ""] {
            assert!(builders(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_reference_without_a_tag_is_the_latest() {
        assert_eq!(with_tag("127.0.0.1:5000/a"), "127.0.0.1:5000/a:latest");
        for whole in ["a:1", "127.0.0.1:5000/a@sha256:ab", "a/b:1"] {
            assert_eq!(with_tag(whole), whole);
        }
    }
}
