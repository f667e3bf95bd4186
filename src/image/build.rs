//! One running build: the request, its answer to the end, and the way it is stopped.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;

use super::broken_log::BrokenLog;
use super::engine::{EngineConnection, error_message, open_connection};
use super::failure::{Build, FailedStep, classify, engine_answered, engine_error, engine_lost};
use super::messages::{BuildMessage, MessageReader};
use super::progress::Progress;
use super::step_start::{Printed, never_started};
use super::tasks::BuildTasks;
use crate::context::BuildContext;
use crate::protocol::{Code, Failure, LogType};
use crate::stage::StageContext;

/// How long a build that was told to stop may take to end, before its connection is cut.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where the Engine does not tell any more what the build does, nor that it has ended.
const STOP_UNHEARD: Duration = Duration::from_secs(1);
/// The same where the image is being written already, which nothing interrupts.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one request to stop is waited for.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at an answer that has nothing but empty messages: they come as fast as they are taken.
const SLOWLY: Duration = Duration::from_millis(20);
/// The Engine forgets a stop that comes before it has begun the build: it is told again.
const STOP_AGAIN: Duration = Duration::from_millis(250);

const LOG_BROKE_OFF: &str = "Here the Docker Engine stops telling what the build prints (a defect of versions before 23, where more than \
    1 MiB is printed at once). The build goes on. Should it fail, the Engine does not tell that either: it then ends as one that prints \
    nothing. Print less at once, or into a file.";

/// How a build ended that did not fail.
pub enum End {
    /// The image's id.
    Built(String),
    /// The token tripped; the image's id if there was one all the same.
    Stopped(Option<String>),
}

pub struct RunningBuild<'a> {
    pub socket: &'a Path,
    /// The API version that was negotiated, `1.41`.
    pub version: &'a str,
    pub query: &'a str,
    pub build_id: &'a str,
    /// What is built, for the words of a failure.
    pub context: &'a BuildContext,
    pub tasks: &'a BuildTasks,
    pub ctx: &'a StageContext,
}

/// What is heard of a build while it runs.
#[derive(Default)]
struct Heard {
    /// The image is being written.
    exporting: AtomicBool,
    /// Nothing of it any more.
    broken: AtomicBool,
}

/// All that the Engine told of the build.
#[derive(Default)]
struct Told {
    image: Option<String>,
    error: Option<String>,
    failed: Option<FailedStep>,
    printed: Printed,
}

impl RunningBuild<'_> {
    /// Sends the request and follows the answer to its end.
    ///
    /// A stopped build is told so by its id and then followed to its end: only so is it known that nothing of it goes on, and whether an
    /// image appeared. (Cutting the connection stops a RUN as well, but BuildKit goes on to write an image that it has begun to write.)
    pub async fn follow(&self, connection: EngineConnection) -> Result<End, Failure> {
        let heard = Heard::default();
        let mut answer = pin!(self.read_answer(connection, &heard));
        let told = tokio::select! {
            told = &mut answer => told?,
            () = self.ctx.cancel.cancelled() => return Ok(End::Stopped(self.stop(answer, &heard).await)),
        };
        match (told.error, told.image) {
            // the Engine stops a build of its own accord only where it was told to by us
            (Some(_), image) if self.ctx.cancel.is_cancelled() => Ok(End::Stopped(image)),
            (Some(error), _) => {
                let (step, printed) = (told.failed.as_ref(), told.printed.of_failed_step());
                Err(never_started(&error, step, printed.as_deref()).unwrap_or_else(|| self.classify(&error, step)))
            }
            (None, Some(image)) => Ok(End::Built(image)),
            (None, None) => Err(engine_lost("its answer ended without a result.")),
        }
    }

    fn classify(&self, message: &str, step: Option<&FailedStep>) -> Failure {
        let absence = |path: &str| self.context.explain_absence(path);
        classify(message, step, &Build { dockerfile: &self.context.dockerfile_bytes, absence: &absence })
    }

    async fn read_answer(&self, mut connection: EngineConnection, heard: &Heard) -> Result<Told, Failure> {
        let lost = |error: hyper::Error| engine_lost(&format!("{error}."));
        let request = self.request(&format!("build?{}", self.query))?;
        let response = connection.send_request(request).await.map_err(lost)?;
        if !response.status().is_success() {
            let status = response.status();
            let message = error_message(status, response.into_body()).await;
            let answered = engine_answered(status.as_u16(), &message);
            return Err(if answered.code == Code::EngineUnreachable { answered } else { self.classify(&message, None) });
        }
        self.read_body(response.into_body(), heard).await
    }

    async fn read_body(&self, mut body: Incoming, heard: &Heard) -> Result<Told, Failure> {
        let log = &self.ctx.log;
        // A cancelled build is followed to its end whatever the disk does: what a log without room does not take is let go then.
        let mut emit = |kind, text: &str| {
            if log.has_room() || !self.ctx.cancel.is_cancelled() {
                log.line(kind, text);
            }
        };
        let (mut reader, mut progress, mut told) =
            (MessageReader::default(), Progress::new(self.ctx.redactor.clone()), Told::default());
        let mut broken_log = BrokenLog::default();
        let broken = loop {
            tokio::select! {
                () = self.ctx.room() => {}
                () = self.ctx.cancel.cancelled() => {}
            }
            let frame = match body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => break Some(engine_lost(&format!("{error}."))),
                None => break None,
            };
            let Ok(part) = frame.into_data() else { continue };
            let now = Instant::now();
            let read = reader.push(&part, |message| match message {
                BuildMessage::Status(status) => {
                    broken_log.see(&status);
                    told.printed.see(&status);
                    progress.apply(status, now, &mut emit);
                }
                BuildMessage::Image(id) => told.image = Some(id),
                BuildMessage::Error(error) => told.error = Some(error),
            });
            heard.exporting.store(progress.is_exporting(), Ordering::Relaxed);
            if let Err(error) = read {
                break Some(engine_error(&format!("its answer cannot be read: {error}")));
            }
            if broken_log.is_broken() {
                if !heard.broken.swap(true, Ordering::Relaxed) {
                    emit(LogType::Warning, LOG_BROKE_OFF);
                }
                // The image is all that was still to come, and this answer has no end.
                if told.image.is_some() {
                    break None;
                }
                tokio::time::sleep(SLOWLY).await;
            }
        };
        progress.finish(Instant::now(), &mut emit);
        told.failed = progress.failed_step().cloned();
        match broken {
            Some(failure) if told.error.is_none() => Err(failure),
            _ => Ok(told),
        }
    }

    /// Tells the Engine to stop and waits for the answer's end; the image's id if one was written.
    async fn stop(&self, answer: impl Future<Output = Result<Told, Failure>>, heard: &Heard) -> Option<String> {
        let give_up = async {
            let began = Instant::now();
            let limit = || match (heard.broken.load(Ordering::Relaxed), heard.exporting.load(Ordering::Relaxed)) {
                (true, _) => STOP_UNHEARD,
                (false, true) => EXPORT_TIMEOUT,
                (false, false) => STOP_TIMEOUT,
            };
            while began.elapsed() < limit() {
                match tokio::time::timeout(ASK_TIMEOUT, self.ask_to_stop()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => tracing::debug!(%failure, "the Engine was not reached to stop a build"),
                    Err(_) => tracing::debug!("the Engine did not answer that it stops a build"),
                }
                tokio::time::sleep(STOP_AGAIN).await;
            }
        };
        tokio::select! {
            told = answer => told.ok().and_then(|told| told.image),
            () = give_up => {
                tracing::warn!("the Engine did not end a stopped build in time; its connection is cut");
                None
            }
        }
    }

    async fn ask_to_stop(&self) -> Result<(), Failure> {
        let request = self.request(&format!("build/cancel?id={}", self.build_id))?;
        let mut connection = open_connection(self.socket, self.tasks).await?;
        connection.send_request(request).await.map_err(|error| engine_lost(&error.to_string()))?;
        Ok(())
    }

    fn request(&self, path: &str) -> Result<http::Request<Empty<Bytes>>, Failure> {
        http::Request::post(format!("/v{}/{path}", self.version))
            .header("Host", "docker")
            .header("Content-Type", "application/x-tar")
            .body(Empty::new())
            .map_err(|error| engine_error(&format!("the request cannot be written: {error}")))
    }
}
