//! What is done to a job on its way, and where it is then.

use std::time::Duration;

use crate::support::Fault as LinkFault;

/// Where a job is when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Queued,
    Claimed,
    Fetch,
    Context,
    BasePull,
    Run,
    Push,
    Report,
}

impl Stage {
    pub const ALL: [Stage; 8] =
        [Stage::Queued, Stage::Claimed, Stage::Fetch, Stage::Context, Stage::BasePull, Stage::Run, Stage::Push, Stage::Report];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Queued => "queued",
            Stage::Claimed => "claimed",
            Stage::Fetch => "fetch",
            Stage::Context => "context",
            Stage::BasePull => "base-pull",
            Stage::Run => "run",
            Stage::Push => "push",
            Stage::Report => "report",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Redis,
    Dashboard,
    Registry,
    Ecr,
    Git,
    Engine,
}

/// How a part is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    Refuse,
    Hang,
    Trickle,
    /// Connections are cut in mid-answer, again and again.
    Cut,
    /// 503.
    Busy,
    /// 429 with Retry-After.
    TooMany,
}

impl Break {
    pub fn of_link(self) -> LinkFault {
        match self {
            Break::Refuse => LinkFault::Refuse,
            Break::Hang => LinkFault::Stall,
            Break::Trickle => LinkFault::Trickle { bytes: 64, pause: Duration::from_millis(50) },
            Break::Cut => LinkFault::Cut,
            Break::Busy => LinkFault::Answer503,
            Break::TooMany => LinkFault::Answer429 { retry_after: 1 },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of the job's worker, started again at once.
    Kill,
    /// SIGTERM without a drain time; started again when the other host has ended the job.
    Stop,
    /// SIGSTOP of the job's worker for the time of an outage.
    Freeze,
    /// The job's worker gets no more memory, and aborts: SIGABRT. Started again at once.
    Abort,
    Away(Part, Break),
    /// The disk under `WORK_DIR` of the job's worker takes no write for the time of an outage, and for longer than a lease.
    DiskStall,
    /// Somebody fills the disks of `WORK_DIR` and of the Engine's data until less than `MIN_FREE_DISK` is free.
    SmallDisk,
    /// The dashboard answers the job's end with 500 for ever, and takes everything else.
    RefusedEnd,
    /// Other jobs come that name hosts of their own which are dead: two git servers and a registry.
    DeadHosts,
}

impl Fault {
    pub fn all() -> Vec<Fault> {
        use Break::*;
        let mut all = vec![Fault::Kill, Fault::Stop, Fault::Freeze, Fault::Abort];
        all.extend([Fault::DiskStall, Fault::SmallDisk, Fault::RefusedEnd, Fault::DeadHosts]);
        for part in [Part::Redis, Part::Dashboard, Part::Registry, Part::Ecr, Part::Git, Part::Engine] {
            // What Redis says is no HTTP.
            let kinds: &[Break] =
                if part == Part::Redis { &[Refuse, Hang, Trickle, Cut] } else { &[Refuse, Hang, Trickle, Cut, Busy, TooMany] };
            all.extend(kinds.iter().map(|kind| Fault::Away(part, *kind)));
        }
        all
    }

    /// Something is away for a time; the others are done in a moment.
    pub fn is_outage(self) -> bool {
        matches!(self, Fault::Freeze | Fault::DiskStall | Fault::Away(..))
    }

    pub fn name(self) -> String {
        match self {
            Fault::Kill => "worker kill -9".to_owned(),
            Fault::Stop => "worker SIGTERM".to_owned(),
            Fault::Freeze => "worker SIGSTOP".to_owned(),
            Fault::Abort => "worker aborts".to_owned(),
            Fault::DiskStall => "disk stalls".to_owned(),
            Fault::SmallDisk => "small disk".to_owned(),
            Fault::RefusedEnd => "its end is refused".to_owned(),
            Fault::DeadHosts => "dead hosts of other jobs".to_owned(),
            Fault::Away(part, kind) => {
                let kind = match kind {
                    Break::Refuse => "refuses",
                    Break::Hang => "hangs",
                    Break::Trickle => "trickles",
                    Break::Cut => "cut in mid-answer",
                    Break::Busy => "503",
                    Break::TooMany => "429",
                };
                format!("{} {kind}", format!("{part:?}").to_lowercase())
            }
        }
    }
}
