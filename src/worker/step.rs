//! Where a job is on its way through the stages.

/// Where a job is on its way. `Display` is what a time-out names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waiting for a slot.
    Turn,
    Source,
    /// Waiting for a slot in the middle of a fetch: what the fetch took before counts on afterwards.
    FetchTurn,
    /// Asking the registries of its base images.
    Images,
    Context,
    Build,
    /// The buildpacks' phases up to the export.
    Buildpacks,
    /// The lifecycle writes to the registry.
    Export,
    /// Waiting until this worker can prove its lease again: silence here is not the job's fault.
    Gate,
    /// Waiting because other jobs found that a peer does not answer, or because it asked for time. Not the job's fault either.
    Peer,
    Push,
}

impl Step {
    /// Whether the job may not go on, for no fault of its own: that time is not the build's.
    pub fn is_waiting(self) -> bool {
        matches!(self, Step::Turn | Step::FetchTurn | Step::Gate | Step::Peer)
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Turn | Step::FetchTurn => "waiting for its turn",
            Step::Source => "fetching the commit",
            Step::Images => "asking the registries of its images",
            Step::Context => "preparing the build context",
            Step::Build => "building the image",
            Step::Buildpacks => "building with buildpacks",
            Step::Export => "exporting the image to the registry",
            Step::Gate => "waiting for Redis",
            Step::Peer => "waiting for a part that does not answer",
            Step::Push => "pushing the image",
        })
    }
}
