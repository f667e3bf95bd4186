//! The names that an image has in the Engine only while it is pushed, or waits for another try. A tagged image can be read by every tenant
//! (`COPY --from=<name>` needs no credentials when the image is local), so the name goes again in every ending.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{RemoveImageOptions, TagImageOptionsBuilder};
use tracing::warn;

use crate::image::BuiltImage;
use crate::protocol::{Code, Failure};

/// Tagging takes milliseconds; an Engine that does not answer for so long does not answer a cancel either.
const ENGINE_ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Repository of the names that keep an image alive while it is pushed, and between two tries. The tag is the image's id, which nobody
/// can know who has not the image; no registry is called so.
pub(crate) const HELD_REPOSITORY: &str = "slipway-held";

/// A name that exists in the Engine from [`LocalName::give`] to [`LocalName::remove`].
pub(super) struct LocalName<'e> {
    engine: &'e Docker,
    repository: String,
    tag: String,
}

impl<'e> LocalName<'e> {
    /// Gives a name to an image that has another one (see [`LocalName::hold`]). Must be awaited to its end even when the job is
    /// cancelled meanwhile: an unanswered call may still give the name after it was dropped, and nobody would take it away.
    pub(super) async fn give(engine: &'e Docker, image: &BuiltImage, repository: &str, tag: &str) -> Result<Self, Failure> {
        let name = Self { engine, repository: repository.to_owned(), tag: tag.to_owned() };
        match name.write(image).await {
            Ok(()) => Ok(name),
            Err(failure) => {
                // The Engine may have carried it out and lost its answer.
                name.remove().await;
                Err(failure)
            }
        }
    }

    /// Gives the name that keeps `image` alive when its last other name goes: the Engine deletes an image with its last name.
    /// So it is not taken back when the Engine's answer is lost.
    pub(super) async fn hold(engine: &Docker, image: &BuiltImage) -> Result<(), Failure> {
        LocalName::held(engine, image).write(image).await
    }

    /// The name that [`LocalName::hold`] gave earlier.
    pub(super) fn held(engine: &'e Docker, image: &BuiltImage) -> Self {
        Self { engine, repository: HELD_REPOSITORY.to_owned(), tag: held_tag(image).to_owned() }
    }

    async fn write(&self, image: &BuiltImage) -> Result<(), Failure> {
        let options = TagImageOptionsBuilder::default().repo(&self.repository).tag(&self.tag).build();
        match tokio::time::timeout(ENGINE_ANSWERS_WITHIN, self.engine.tag_image(&image.id, Some(options))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => {
                Err(super::push_failure::Refusal::ImageGone.failure(crate::protocol::RegistryType::Docker, "", "", ""))
            }
            Ok(Err(error)) => Err(engine_failure(&error)),
            Err(_) => Err(engine_silent()),
        }
    }

    /// Takes the name away, by name and never forced. A name that cannot be removed now is housekeeping's: it is in the
    /// image's labels whose it was.
    pub(super) async fn remove(self) {
        let name = format!("{}:{}", self.repository, self.tag);
        let removal = self.engine.remove_image(&name, None::<RemoveImageOptions>, None);
        match tokio::time::timeout(ENGINE_ANSWERS_WITHIN, removal).await {
            Ok(Ok(_)) | Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => {}
            Ok(Err(error)) => {
                warn!(%name, %error, "an image's name could not be removed from the Engine; housekeeping will try again")
            }
            Err(_) => {
                warn!(%name, "the Engine did not answer when an image's name was to be removed; housekeeping will try again")
            }
        }
    }
}

fn held_tag(image: &BuiltImage) -> &str {
    image.id.strip_prefix("sha256:").unwrap_or(&image.id)
}

/// A failure of the Engine itself, not of the registry behind it.
pub(super) fn engine_failure(error: &Error) -> Failure {
    let said = super::push_failure::one_line(&error.to_string());
    match error {
        Error::DockerResponseServerError { message, .. } if message.contains("no space left on device") => Failure::new(
            Code::EngineDiskFull,
            format!("The Docker Engine's disk is full: {said}."),
            "Free disk space of the Engine.",
        ),
        Error::DockerResponseServerError { status_code: 429 | 502..=504, .. } => not_there(&said),
        Error::DockerResponseServerError { .. } | Error::DockerStreamError { .. } => Failure::new(
            Code::EngineError,
            format!("The Docker Engine refused: {said}."),
            "See the Engine's own log (journalctl -u docker).",
        ),
        Error::RequestTimeoutError => engine_silent(),
        Error::HyperLegacyError { err } if err.is_connect() => not_there(&said),
        Error::SocketNotFoundError(_) => not_there(&said),
        _ => Failure::new(
            Code::EngineLost,
            format!("The connection to the Docker Engine broke: {said}."),
            "See whether the Engine was restarted (journalctl -u docker).",
        ),
    }
}

fn not_there(said: &str) -> Failure {
    Failure::new(
        Code::EngineUnreachable,
        format!("The Docker Engine cannot be reached: {said}."),
        "Start the Engine (systemctl start docker), or correct DOCKER_HOST.",
    )
}

fn engine_silent() -> Failure {
    Failure::new(
        Code::EngineUnreachable,
        "The Docker Engine does not answer.",
        "Restart the Engine (systemctl restart docker) when it stays so.",
    )
}
