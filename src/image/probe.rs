//! A step of our own, run by the Engine as the steps of builds are: whether it can start a process at all, with a file system, a cgroup
//! and a network. It needs no image: its only file is a program of a hundred bytes, made here.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use url::form_urlencoded::Serializer;

use super::engine::{connect_engine, error_message};
use super::failure::{Build, FailedStep, classify, engine_answered, engine_error, engine_lost, exit_code};
use super::messages::{BuildMessage, MessageReader};
use super::step_start::{Printed, never_started};
use crate::config::{BuildConfig, BuildNetwork};
use crate::protocol::Failure;

/// A step takes well under a second. An Engine that needs so long for one builds nothing.
const WITHIN: Duration = Duration::from_secs(60);
/// A probe's answer counts for all who ask within this time.
const COUNTS_FOR: Duration = Duration::from_secs(5);
/// What the program ends with. A step that fails is kept in no cache and leaves no image, so that each probe runs it anew.
const EXIT_CODE: u8 = 42;
const DOCKERFILE: &str = "FROM scratch\nCOPY probe /probe\nRUN [\"/probe\"]\n";

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    Ran,
    /// There is no program for BUILD_PLATFORM.
    NotTried,
}

/// The probe of one worker. Many jobs fail at once on a broken host: one step answers all of them.
pub struct SharedProbe {
    config: BuildConfig,
    /// When the last one ended, and what it found. Held while one runs.
    last: Mutex<Option<(Instant, Result<Probed, Failure>)>>,
}

impl SharedProbe {
    pub fn new(config: BuildConfig) -> Self {
        Self { config, last: Mutex::default() }
    }

    /// What the last one found, where that is recent; else what one finds now.
    pub async fn recent(&self) -> Result<Probed, Failure> {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, found)) if at.elapsed() < COUNTS_FOR => found.clone(),
            _ => self.run(&mut last).await,
        }
    }

    /// What one finds that begins now.
    pub async fn anew(&self) -> Result<Probed, Failure> {
        self.run(&mut *self.last.lock().await).await
    }

    async fn run(&self, last: &mut Option<(Instant, Result<Probed, Failure>)>) -> Result<Probed, Failure> {
        let found = probe(&self.config).await;
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

/// Runs the step. `Err`: why the Engine cannot, and what to do.
pub async fn probe(config: &BuildConfig) -> Result<Probed, Failure> {
    let Some(context) = program(&config.platform).and_then(|program| context(&program).ok()) else {
        return Ok(Probed::NotTried);
    };
    match tokio::time::timeout(WITHIN, run(config, context)).await {
        Ok(ran) => ran.map(|()| Probed::Ran),
        Err(_) => Err(engine_error(&format!("a step that does nothing did not end within {} s", WITHIN.as_secs()))),
    }
}

async fn run(config: &BuildConfig, context: Vec<u8>) -> Result<(), Failure> {
    let version = connect_engine(config).await?.client_version();
    let request = http::Request::post(format!("/v{version}/build?{}", query(config)))
        .header("Host", "docker")
        .header("Content-Type", "application/x-tar")
        .body(Full::new(Bytes::from(context)))
        .map_err(|error| engine_error(&error.to_string()))?;
    verdict(ask(&config.engine_socket, request).await?)
}

fn query(config: &BuildConfig) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("version", "2").append_pair("platform", &config.platform);
    if config.network == BuildNetwork::None {
        query.append_pair("networkmode", "none");
    }
    query.finish()
}

/// All that the Engine told.
#[derive(Default)]
struct Told {
    error: Option<String>,
    step: Option<FailedStep>,
    printed: Printed,
}

async fn ask(socket: &Path, request: http::Request<Full<Bytes>>) -> Result<Told, Failure> {
    let lost = |error: &dyn std::fmt::Display| engine_lost(&format!("{error}."));
    let stream = UnixStream::connect(socket).await.map_err(|error| lost(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(engine_answered(status.as_u16(), &error_message(status, response.into_body()).await));
        }
        let (mut body, mut reader, mut told) = (response.into_body(), MessageReader::default(), Told::default());
        while let Some(frame) = body.frame().await {
            let Ok(part) = frame.map_err(|error| lost(&error))?.into_data() else { continue };
            let read = reader.push(&part, |message| match message {
                BuildMessage::Error(error) => told.error = Some(error),
                BuildMessage::Status(status) => {
                    told.printed.see(&status);
                    let failed = status.vertexes.into_iter().find(|step| !step.error.is_empty());
                    told.step = told.step.take().or(failed.map(|step| FailedStep {
                        name: step.name,
                        error: step.error,
                        wanted_git: false,
                    }));
                }
                BuildMessage::Image(_) => {}
            });
            read.map_err(|error| engine_error(&format!("its answer cannot be read: {error}")))?;
        }
        Ok(told)
    };
    tokio::pin!(connection);
    tokio::select! {
        told = talk => told,
        // It ends before the answer does only where it breaks.
        ended = &mut connection => Err(lost(&ended.err().map_or("the connection was closed".to_owned(), |error| error.to_string()))),
    }
}

/// PURE: only a process that ran can have ended with that code.
fn verdict(told: Told) -> Result<(), Failure> {
    let Some(error) = told.error else {
        return Err(engine_error("a step that has to fail did not"));
    };
    let printed = told.printed.of_failed_step();
    match exit_code(told.step.as_ref().map_or(error.as_str(), |step| step.error.as_str())) {
        Some(code) if code == u32::from(EXIT_CODE) => Ok(()),
        code => Err(never_started(&error, told.step.as_ref(), printed.as_deref()).unwrap_or_else(|| match code {
            Some(code) => engine_error(&format!(
                "a step that does nothing ended with exit code {code}: {}",
                printed.as_deref().unwrap_or_default().trim()
            )),
            None => classify(&error, told.step.as_ref(), &Build::UNKNOWN),
        })),
    }
}

/// The build context, as an archive.
fn context(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes, mode) in [("Dockerfile", DOCKERFILE.as_bytes(), 0o644), ("probe", program, 0o755)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        archive.append_data(&mut header, name, bytes)?;
    }
    archive.into_inner()
}

/// PURE: a static ELF program that ends with [`EXIT_CODE`]: the header, one segment, and the system call `exit`.
fn program(platform: &str) -> Option<Vec<u8>> {
    let (machine, code): (u16, Vec<u8>) = match platform.split('/').nth(1)? {
        // mov edi, EXIT_CODE; mov eax, 60; syscall
        "amd64" => (62, vec![0xbf, EXIT_CODE, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]),
        "arm64" => {
            // mov w0, EXIT_CODE; mov w8, 93; svc 0
            let words = [0x5280_0000 | u32::from(EXIT_CODE) << 5, 0x5280_0008 | 93 << 5, 0xd400_0001];
            (183, words.iter().flat_map(|word| word.to_le_bytes()).collect())
        }
        _ => return None,
    };
    const HEADER: u16 = 64;
    const SEGMENT: u16 = 56;
    const BASE: u64 = 0x40_0000;
    let start = u64::from(HEADER + SEGMENT);
    let size = start + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend(2u16.to_le_bytes()); // an executable
    elf.extend(machine.to_le_bytes());
    elf.extend(1u32.to_le_bytes());
    elf.extend((BASE + start).to_le_bytes()); // where it begins
    elf.extend(u64::from(HEADER).to_le_bytes()); // where the segment's header is
    elf.extend(0u64.to_le_bytes());
    elf.extend(0u32.to_le_bytes());
    for number in [HEADER, SEGMENT, 1, 0, 0, 0] {
        elf.extend(number.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes()); // to be loaded
    elf.extend(5u32.to_le_bytes()); // may be read and run
    for number in [0, BASE, BASE, size, size, 0x1_0000] {
        elf.extend(number.to_le_bytes());
    }
    elf.extend(code);
    Some(elf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Code;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn the_program_runs_on_this_machine_and_ends_with_its_code() {
        let architecture = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
        let program = program(architecture).expect("there is one");
        assert!(program.len() < 200, "{}", program.len());
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("probe");
        std::fs::write(&path, program).expect("write it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it executable");
        let status = Command::new(path).status().expect("the kernel takes it");
        assert_eq!(status.code(), Some(i32::from(EXIT_CODE)));
    }

    #[test]
    fn only_the_programs_own_exit_code_says_that_it_ran() {
        let verdict_of = |error: &str| {
            let step = FailedStep { name: "[2/2] RUN [\"/probe\"]".into(), error: error.into(), wanted_git: false };
            verdict(Told { error: Some(error.into()), step: Some(step), printed: Printed::default() })
        };
        assert_eq!(verdict_of("executor failed running [/probe]: exit code: 42"), Ok(()));
        assert_eq!(verdict_of("process \"/probe\" did not complete successfully: exit code: 42"), Ok(()));
        for error in
            ["executor failed running [/probe]: exit code: 1", "executor failed running [/probe]: failed to create endpoint x"]
        {
            assert_eq!(verdict_of(error).expect_err(error).code, Code::EngineError, "{error}");
        }
        assert!(verdict(Told::default()).is_err(), "a build that did not run the step");
    }

    #[test]
    fn a_platform_without_a_program_is_not_tried() {
        assert!(["linux/amd64", "linux/arm64", "linux/arm64/v8"].iter().all(|platform| program(platform).is_some()));
        assert!(["linux/s390x", "linux"].iter().all(|platform| program(platform).is_none()));
    }
}
