//! `slipway check`: every part asked once, each with its address, what is wrong with it and the cure. Claims nothing; the Engine runs
//! one step, as it does for builds.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use crate::config::{Config, RegistryConfig};
use crate::housekeeping::disk;
use crate::image::{self, Probed};
use crate::protocol::{Code, Failure};
use crate::queue::{Findings, Queue};
use crate::registry;
use crate::report;

/// A part that says nothing for so long is one that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found out about one part.
#[derive(Debug)]
pub struct Finding {
    /// Which part, with its address.
    pub part: String,
    /// `Err`: what is wrong with it, and the cure. `Ok`: what should be changed all the same, a line each.
    pub state: Result<Vec<String>, String>,
}

impl Finding {
    pub fn is_ok(&self) -> bool {
        self.state.is_ok()
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.state {
            Ok(advice) => {
                write!(f, "ok     {}", self.part)?;
                advice.iter().try_for_each(|line| write!(f, "\n       {line}"))
            }
            Err(problem) => write!(f, "wrong  {}\n       {problem}", self.part),
        }
    }
}

/// Asks all parts at once; in the order in which a job comes to them.
pub async fn check(config: &Config) -> [Finding; 5] {
    tokio::join!(work_dir(config), redis(config), engine(config), registry(config), dashboard(config)).into()
}

async fn within<T, E: Display>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(|problem| problem.to_string()),
        Err(_) => Err(format!("No answer within {} s. See what stands between it and this host.", PATIENCE.as_secs())),
    }
}

async fn work_dir(config: &Config) -> Finding {
    let path = config.worker.work_dir.clone();
    let part = format!("WORK_DIR {}", path.display());
    let state = within(async {
        let tried = path.clone();
        let written = tokio::task::spawn_blocking(move || try_to_write(&tried)).await;
        written.map_err(|error| error.to_string())?.map_err(|error| {
            format!("It cannot be written to: {error}. Make it a folder that this user may write to, or set WORK_DIR.")
        })?;
        let spaces =
            disk::measure_all(Some(path), None).await.map_err(|error| format!("Its free space is not known: {error}."))?;
        disk::enough(&spaces, config.worker.min_free_disk).map_err(|failure| failure.to_string())
    })
    .await;
    Finding { part, state: state.map(|()| Vec::new()) }
}

/// Beside a worker that may be at work in there: touches nothing of its.
fn try_to_write(work_dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(work_dir)?;
    let probe = work_dir.join(format!(".check-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(probe)
}

async fn redis(config: &Config) -> Finding {
    let part = format!("Redis at {}", config.queue.address());
    let state = within(Queue::check(&config.queue)).await.map(|Findings { lacking, rule, mut advice }| {
        if !lacking.is_empty() {
            advice.push(format!(
                "It does not have, or this user may not use: {}. The queue works without. The rule that grants it: {rule}",
                lacking.join(", ")
            ));
        }
        advice
    });
    Finding { part, state }
}

async fn engine(config: &Config) -> Finding {
    let part = format!("the Docker Engine at {}", config.build.engine_socket.display());
    let reached = within(async {
        let client = image::connect_engine(&config.build).await?;
        let root = disk::engine_root(&client).await;
        let spaces = disk::measure_all(None, root).await.map_err(unmeasured)?;
        disk::enough(&spaces, config.worker.min_free_disk)?;
        Ok::<_, Failure>(client)
    })
    .await;
    // It answers; whether it can also run a step, only a step tells. It has a time limit of its own.
    let ran = match reached {
        Ok(client) => image::probe(&config.build).await.map(|probed| (client, probed)).map_err(|failure| failure.to_string()),
        Err(problem) => Err(problem),
    };
    let state = match ran {
        Err(problem) => Err(problem),
        Ok((client, probed)) => {
            let mut advice = image::log_limits(&config.build.engine_socket).await;
            if probed == Probed::NotTried {
                advice.push(format!("No step was tried: there is no program for BUILD_PLATFORM {}.", config.build.platform));
            }
            advice.extend(image::exposure_warnings(&config.build, &config.buildpacks, &client).await);
            Ok(advice)
        }
    };
    Finding { part, state }
}

fn unmeasured(error: std::io::Error) -> Failure {
    Failure::new(
        Code::EngineDiskFull,
        format!("The free space for images is not known: {error}."),
        "See the disk that the Engine's data is on.",
    )
}

async fn registry(config: &Config) -> Finding {
    let part = match &config.registry {
        RegistryConfig::Ecr(ecr) => format!("ECR in {}", ecr.region),
        RegistryConfig::Generic(generic) => format!("the registry {}", generic.host),
    };
    Finding { part, state: within(registry::check(config.registry.clone())).await.map(|()| Vec::new()) }
}

async fn dashboard(config: &Config) -> Finding {
    let part = format!("the dashboard at {}", config.dashboard.url);
    Finding { part, state: within(report::check(&config.dashboard)).await.map(|()| Vec::new()) }
}
