//! The Engine's and the lifecycle's own troubles, as failures.

use bollard::errors::Error;

use crate::image::failure::{engine_answered, engine_lost};
use crate::protocol::{Code, Failure};
use crate::stage::StageContext;

/// The Engine refused, or went away.
pub fn engine_failure(error: &Error) -> Failure {
    let away = |cause: String| {
        Failure::new(Code::EngineUnreachable, cause, "Start the Engine (systemctl start docker), or correct DOCKER_HOST.")
    };
    match error {
        Error::DockerResponseServerError { message, .. } if message.contains("no space left on device") => {
            Failure::new(Code::EngineDiskFull, "The Docker Engine has no disk space left.", "Free space on the build host.")
        }
        Error::DockerResponseServerError { status_code, message } => engine_answered(*status_code, message.trim()),
        Error::SocketNotFoundError(_) => away("The Docker Engine's socket is not there.".to_owned()),
        Error::HyperLegacyError { err } if err.is_connect() => away(format!("The Docker Engine cannot be reached: {err}.")),
        other => engine_lost(&format!("{other}.")),
    }
}

/// What only the operator can cure: the images that were chosen.
pub fn lifecycle_failure(cause: &str) -> Failure {
    Failure::new(
        Code::BuildpacksLifecycle,
        format!("The lifecycle did not do as expected: {cause}."),
        "Check BUILDPACKS_LIFECYCLE_IMAGE and BUILDPACKS_BUILDERS.",
    )
}

/// Waits for the Engine unless the job is stopped first. Not for what leaves something behind when it is given up.
pub async fn interruptible<T>(ctx: &StageContext, call: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(Failure::interrupted()),
        answer = call => answer.map_err(|error| engine_failure(&error)),
    }
}
