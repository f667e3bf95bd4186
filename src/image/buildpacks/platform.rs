//! PURE but for the log: the variables that buildpacks see as the platform's environment.

use super::control::is_file_name;
use super::project::Project;
use crate::protocol::{EnvVar, Job};
use crate::stage::StageContext;

/// The job's variables; then project.toml's, then `PORT` from the job's first port, where the job does not set them.
pub fn environment(job: &Job, project: &Project, ctx: &StageContext) -> Vec<EnvVar> {
    let mut environment: Vec<EnvVar> = Vec::with_capacity(job.env.len() + project.env.len() + 1);
    // A key that is given twice counts as given last.
    for var in job.env.iter().rev() {
        if !is_file_name(&var.key) {
            ctx.warn(format!("The variable {:?} is left out: its name cannot be a variable's.", var.key));
        } else if !has(&environment, &var.key) {
            environment.push(var.clone());
        }
    }
    if !environment.is_empty() {
        ctx.info(format!(
            "The job's variables ({}) are in the buildpacks' environment; no .env file is written.",
            environment.len()
        ));
    }
    for var in &project.env {
        if is_file_name(&var.key) && !has(&environment, &var.key) {
            environment.push(var.clone());
        }
    }
    if let Some(port) = job.ports.first()
        && !has(&environment, "PORT")
    {
        environment.push(EnvVar { key: "PORT".to_owned(), value: port.container_port.to_string().into() });
    }
    environment
}

fn has(environment: &[EnvVar], key: &str) -> bool {
    environment.iter().any(|var| var.key == key)
}
