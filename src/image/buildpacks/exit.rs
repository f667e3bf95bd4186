//! PURE: what a phase's exit code means, in words for the user. Codes: buildpacks/spec, platform.md, "Exit Codes"; each provoked.

use super::phase::Phase;
use crate::protocol::{Code, Evidence, Failure, without_colours};

/// How a phase's container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseEnd {
    pub exit_code: i64,
    /// The kernel killed something in the container for memory.
    pub out_of_memory: bool,
    /// The last lines that it printed.
    pub tail: Vec<String>,
}

/// The limits that a phase ran under, for the words.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub memory_bytes: u64,
    pub pids: u32,
    pub file_bytes: u64,
}

impl PhaseEnd {
    /// Exit 0 counts as success even where a child was killed for memory: the buildpack has coped with it.
    pub fn into_result(self, phase: Phase, limits: Limits) -> Result<(), Failure> {
        if self.exit_code == 0 { Ok(()) } else { Err(self.failure(phase, limits)) }
    }

    fn failure(&self, phase: Phase, limits: Limits) -> Failure {
        let said = |words: &[&str]| self.tail.iter().any(|line| words.iter().any(|w| line.to_ascii_lowercase().contains(w)));
        let name = phase.name();
        if self.out_of_memory {
            return Failure::new(
                Code::BuildpacksMemory,
                format!("The {name} phase needed more than {} MiB of memory and was killed.", limits.memory_bytes >> 20),
                "Make the build need less, or have BUILDPACKS_MEMORY raised.",
            );
        }
        if said(&["can't fork", "cannot fork", "resource temporarily unavailable"]) {
            return Failure::new(
                Code::BuildpacksProcesses,
                format!("The {name} phase started more than {} processes.", limits.pids),
                "Make the build start fewer at once, or have BUILDPACKS_PIDS raised.",
            );
        }
        if said(&["file size limit exceeded", "file too large", "sigxfsz"]) {
            return Failure::new(
                Code::BuildpacksFileTooLarge,
                format!("The {name} phase wrote a file of more than {} MiB.", limits.file_bytes >> 20),
                "Keep files smaller, or have BUILDPACKS_FILE_BYTES raised.",
            );
        }
        // The trusted creator's output is the app's too: its words count only where no buildpack has failed.
        let of_registry = phase != Phase::Creator || !matches!(self.exit_code, 20..=22 | 51 | 52);
        // The exporter runs as the build did, without any capability.
        let unreadable = self.exit_code == 62
            && self
                .tail
                .iter()
                .any(|line| line.contains("permission denied") && (line.contains(" /workspace/") || line.contains(" /layers/")));
        if phase.talks_to_registry()
            && of_registry
            && !unreadable
            && let Some(failure) = registry_failure(name, &said)
        {
            // A file's name can say so too.
            return failure.by(Evidence::Hearsay);
        }
        match self.exit_code {
            3 | 11 | 12 => self.operators(
                name,
                "The builder and the lifecycle do not fit together. Check BUILDPACKS_BUILDERS and BUILDPACKS_LIFECYCLE_IMAGE.",
            ),
            20 => Failure::new(
                Code::BuildpacksNothingDetected,
                format!(
                    "There is no Dockerfile, and no buildpack recognised the repository{}.",
                    self.looked(&["fail: ", "skip: ", "err: ", "pass: "])
                ),
                "Add a Dockerfile.",
            ),
            22 => self.operators(name, "A buildpack of the builder cannot be used. Check BUILDPACKS_BUILDERS."),
            21 => Failure::new(
                Code::BuildpacksDetectFailed,
                format!("A buildpack failed while it looked at the repository{}{}.", self.looked(&["err: "]), self.last()),
                "The log above has its message.",
            ),
            51 => Failure::new(
                Code::BuildpacksBuildFailed,
                format!("A buildpack failed to build the app{}.", self.last()),
                "The log above has its message.",
            ),
            52 => Failure::new(
                Code::BuildpacksBuildFailed,
                format!("A buildpack wrote a file that the lifecycle cannot read{}.", self.last()),
                "Use another version of the buildpack.",
            ),
            32 => self.operators(
                name,
                "It was tried without the previous image too. Check the run image and the builder (BUILDPACKS_BUILDERS).",
            ),
            62 if unreadable => Failure::new(
                Code::BuildpacksBuildFailed,
                format!("The build left a file that may not be read{}.", self.last()),
                "Have the build make it readable for its own user (chmod u+r; u+rx for a folder).",
            ),
            137 => Failure::new(
                Code::BuildpacksKilled,
                format!("The {name} phase was killed."),
                "If nobody stopped it, the host ran out of memory.",
            ),
            _ if said(&["no space left on device"]) => {
                Failure::new(Code::EngineDiskFull, "The Docker Engine has no disk space left.", "Free space on the build host.")
            }
            _ => self.operators(
                name,
                "The log above has the lifecycle's message. Check BUILDPACKS_BUILDERS and BUILDPACKS_LIFECYCLE_IMAGE.",
            ),
        }
    }

    fn operators(&self, name: &str, way_out: &str) -> Failure {
        Failure::new(
            Code::BuildpacksLifecycle,
            format!("The {name} phase ended with exit code {}{}.", self.exit_code, self.last()),
            way_out,
        )
    }

    /// `: <last line that says something>`
    fn last(&self) -> String {
        let line = self.tail.iter().rev().find(|l| l.contains("ERROR") || l.contains("failed")).or(self.tail.last());
        // The lifecycle's first words come before it reads that it should not colour them.
        let line = line.map(|line| without_colours(line));
        line.map(|l| format!(": {}", l.trim().trim_start_matches("ERROR: ").trim_end_matches('.'))).unwrap_or_default()
    }

    /// ` (fail: a/b@1, skip: c/d@2)` from the detector's table of results: the lines that begin so.
    fn looked(&self, results: &[&str]) -> String {
        let is_result = |line: &&str| results.iter().any(|result| line.starts_with(result));
        let looked: Vec<&str> = self.tail.iter().map(|line| line.trim()).filter(is_result).take(12).collect();
        if looked.is_empty() { String::new() } else { format!(" ({})", looked.join(", ")) }
    }
}

fn registry_failure(name: &str, said: &dyn Fn(&[&str]) -> bool) -> Option<Failure> {
    // At export the lifecycle hides a 401 behind "image has no layers".
    if said(&["name_unknown", "name_invalid"]) {
        return Some(Failure::new(
            Code::RegistrySettings,
            format!("The registry has no place for the image of the {name} phase."),
            "Create its project there, or correct REGISTRY_REPOSITORY_PREFIX: most want owner/ or project/.",
        ));
    }
    if said(&["server gave http response to https client"]) {
        return Some(Failure::new(
            Code::RegistrySettings,
            format!("The registry speaks http, not https, to the {name} phase."),
            "Buildpacks push by http to this machine's own addresses alone: give the registry a certificate.",
        ));
    }
    if said(&["401 unauthorized", "403 forbidden", "unauthorized:", "denied:", "image has no layers"]) {
        return Some(Failure::new(
            Code::RegistryDenied,
            format!("The registry refused the {name} phase."),
            "Check the registry's credentials and their right to this repository.",
        ));
    }
    if said(&[
        "connection refused",
        "no such host",
        "i/o timeout",
        "x509:",
        "tls handshake",
        "502 bad gateway",
        "503 service",
        "connection reset",
    ]) {
        return Some(Failure::new(
            Code::RegistryUnreachable,
            format!("The {name} phase cannot reach the registry."),
            "Check that the registry runs and that the build host trusts its certificate.",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory_bytes: 64 << 20, pids: 32, file_bytes: 1 << 30 };

    fn code(phase: Phase, exit_code: i64, out_of_memory: bool, tail: &[&str]) -> Option<Code> {
        let end = PhaseEnd { exit_code, out_of_memory, tail: tail.iter().map(|s| (*s).to_owned()).collect() };
        end.into_result(phase, LIMITS).err().map(|f| f.code)
    }

    #[test]
    fn each_exit_code_of_the_lifecycle_has_its_own_words() {
        assert_eq!(code(Phase::Build, 0, true, &[]), None);
        assert_eq!(
            code(Phase::Detect, 20, false, &["ERROR: No buildpack groups passed detection."]),
            Some(Code::BuildpacksNothingDetected)
        );
        assert_eq!(code(Phase::Detect, 21, false, &["err:  lab/shell@0.1.0 (3)"]), Some(Code::BuildpacksDetectFailed));
        assert_eq!(code(Phase::Build, 51, false, &["ERROR: failed to build: exit status 7"]), Some(Code::BuildpacksBuildFailed));
        assert_eq!(code(Phase::Build, 51, true, &["Killed"]), Some(Code::BuildpacksMemory));
        assert_eq!(
            code(Phase::Build, 51, false, &["sh: can't fork: Resource temporarily unavailable"]),
            Some(Code::BuildpacksProcesses)
        );
        assert_eq!(code(Phase::Analyze, 1, false, &["GET https://r/v2/: 401 Unauthorized"]), Some(Code::RegistryDenied));
        assert_eq!(
            code(Phase::Export, 62, false, &["get run image top layer SHA: image has no layers"]),
            Some(Code::RegistryDenied)
        );
        assert_eq!(
            code(Phase::Analyze, 1, false, &["dial tcp 127.0.0.1:5000: connect: connection refused"]),
            Some(Code::RegistryUnreachable)
        );
        assert_eq!(code(Phase::Detect, 11, false, &[]), Some(Code::BuildpacksLifecycle));
        assert_eq!(code(Phase::Detect, 22, false, &["failed to detect: open buildpack.toml"]), Some(Code::BuildpacksLifecycle));
        assert_eq!(
            code(Phase::Export, 62, false, &["failed to export: open /workspace/x: permission denied"]),
            Some(Code::BuildpacksBuildFailed)
        );
        assert_eq!(
            code(Phase::Export, 62, false, &["failed to export: open /workspace/connection refused: permission denied"]),
            Some(Code::BuildpacksBuildFailed)
        );
        assert_eq!(code(Phase::Build, 137, false, &[]), Some(Code::BuildpacksKilled));
    }

    #[test]
    fn the_lifecycles_last_words_are_told_without_its_colours() {
        let tail = vec!["\x1b[31;1mERROR: \x1b[0mfailed to set platform API: none".to_owned()];
        let failure = PhaseEnd { exit_code: 11, out_of_memory: false, tail }.into_result(Phase::Detect, LIMITS).unwrap_err();
        assert_eq!(failure.cause, "The detect phase ended with exit code 11: failed to set platform API: none.");
    }

    #[test]
    fn a_user_reads_which_buildpacks_looked_at_the_repository() {
        let end = PhaseEnd {
            exit_code: 20,
            out_of_memory: false,
            tail: vec!["======== Results ========".into(), "fail: lab/shell@0.1.0".into()],
        };
        let failure = end.into_result(Phase::Detect, LIMITS).unwrap_err();
        assert!(failure.cause.contains("lab/shell@0.1.0"), "{failure}");
    }
}
