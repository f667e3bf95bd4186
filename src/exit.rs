//! How the process ends, as sysexits.h has it where it has a word for it.

use std::process::ExitCode;

/// The exit codes of every command. `slipway --help` and docs/failure-codes.md list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command did what it was asked to.
    Ok = 0,
    /// The build failed or was cancelled (`build`, `enqueue --follow`).
    BuildFailed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A part cannot be reached or used: Redis, the dashboard, the Engine, an address that is taken.
    Unavailable = 69,
    /// A defect of Slipway.
    Defect = 70,
    /// Interrupted, or something is held by another process: the same command may succeed later.
    Temporary = 75,
    /// The configuration is wrong.
    Config = 78,
}

impl Exit {
    pub const ALL: &'static [Exit] =
        &[Exit::Ok, Exit::BuildFailed, Exit::Usage, Exit::Unavailable, Exit::Defect, Exit::Temporary, Exit::Config];

    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
