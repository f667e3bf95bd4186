//! What travels between worker and phases: the archives that are put into containers, and the TOML files that come back.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine as _;
use serde::Deserialize;

use super::phase::{Control, Phase, User};
use crate::protocol::{Code, EnvVar, Failure};
use crate::secrets::{ExposeSecret, SecretString};

/// A control file is a few kilobytes; one that is larger is an attack.
const MAX_CONTROL_BYTES: u64 = 4 << 20;

/// The control files as the worker keeps them: the only copies that later phases see.
#[derive(Debug, Default, Clone)]
pub struct Controls(BTreeMap<&'static str, Vec<u8>>);

impl Controls {
    pub fn insert(&mut self, control: Control, bytes: Vec<u8>) {
        self.0.insert(control.file(), bytes);
    }
    pub fn get(&self, control: Control) -> Option<&[u8]> {
        self.0.get(control.file()).map(Vec::as_slice)
    }
}

/// Credentials for one registry host.
pub struct RegistryLogin<'a> {
    pub host: &'a str,
    pub username: &'a str,
    pub password: &'a SecretString,
}

/// The archive for `/ctl` of a phase: `in` is root's (readable only), `out` is the phase's own.
pub fn archive(
    phase: Phase,
    user: User,
    controls: &Controls,
    platform_env: &[EnvVar],
    logins: &[RegistryLogin<'_>],
    ca: Option<&[u8]>,
) -> std::io::Result<Vec<u8>> {
    let mut tar = Archive(tar::Builder::new(Vec::new()));
    tar.directory("in", 0, 0)?;
    tar.directory("out", user.uid, user.gid)?;
    for &control in phase.inputs() {
        tar.file(&format!("in/{}", control.file()), controls.get(control).unwrap_or_default(), 0)?;
    }
    for &control in phase.writable_copies() {
        tar.file(&format!("out/{}", control.file()), controls.get(control).unwrap_or_default(), user.uid)?;
    }
    if phase.wants_platform_env() {
        tar.directory("in/platform", 0, 0)?;
        tar.directory("in/platform/env", 0, 0)?;
        for var in platform_env.iter().filter(|v| is_file_name(&v.key)) {
            tar.file(&format!("in/platform/env/{}", var.key), var.value.expose_secret().as_bytes(), 0)?;
        }
    }
    if phase.talks_to_registry() {
        tar.directory("in/docker", 0, 0)?;
        tar.private("in/docker/config.json", docker_config(logins).as_bytes(), user)?;
        if let Some(ca) = ca {
            tar.file("in/ca.pem", ca, 0)?;
        }
    }
    tar.0.into_inner()
}

/// The archive that gives fresh volumes their owner: a named directory entry sets the owner of a volume's root.
pub fn owner_archive(user: User, directories: &[&str]) -> std::io::Result<Vec<u8>> {
    let mut tar = Archive(tar::Builder::new(Vec::new()));
    for directory in directories {
        tar.directory(directory.trim_start_matches('/'), user.uid, user.gid)?;
    }
    tar.0.into_inner()
}

/// Whether a variable's key can be a file in `<platform>/env`.
pub fn is_file_name(key: &str) -> bool {
    !key.is_empty() && key.len() <= 255 && key != "." && key != ".." && !key.contains(['/', '\0', '=', '\n'])
}

/// `config.json` of a Docker client that is logged in there.
pub fn docker_config(logins: &[RegistryLogin<'_>]) -> String {
    let auths: serde_json::Map<String, serde_json::Value> = logins
        .iter()
        .map(|login| {
            let pair = format!("{}:{}", login.username, login.password.expose_secret());
            let auth = base64::engine::general_purpose::STANDARD.encode(pair);
            (config_key(login.host).to_owned(), serde_json::json!({ "auth": auth }))
        })
        .collect();
    serde_json::json!({ "auths": auths }).to_string()
}

/// Docker Hub has a name of its own in these files.
fn config_key(host: &str) -> &str {
    if super::images::same_registry(host, "docker.io") { "https://index.docker.io/v1/" } else { host }
}

struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn directory(&mut self, path: &str, uid: u32, gid: u32) -> std::io::Result<()> {
        let mut header = header(0, 0o755, uid, gid);
        header.set_entry_type(tar::EntryType::Directory);
        self.0.append_data(&mut header, path, std::io::empty())
    }
    fn file(&mut self, path: &str, bytes: &[u8], owner: u32) -> std::io::Result<()> {
        self.0.append_data(&mut header(bytes.len() as u64, 0o644, owner, owner), path, bytes)
    }
    fn private(&mut self, path: &str, bytes: &[u8], user: User) -> std::io::Result<()> {
        self.0.append_data(&mut header(bytes.len() as u64, 0o400, user.uid, user.gid), path, bytes)
    }
}

/// A header with the fixed time 1980-01-01, the lifecycle's own.
pub fn header(size: u64, mode: u32, uid: u32, gid: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_mtime(315_532_801);
    header
}

/// The first regular file of an archive that the Engine gave back.
pub fn first_file(archive: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Archive::new(archive);
    for entry in tar.entries()? {
        let entry = entry?;
        if entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.take(MAX_CONTROL_BYTES).read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the archive has no regular file"))
}

#[derive(Deserialize)]
struct Analyzed {
    #[serde(rename = "run-image")]
    run_image: Option<AnalyzedRunImage>,
}
#[derive(Deserialize)]
struct AnalyzedRunImage {
    reference: Option<String>,
}

/// Checks analyzed.toml after analyze: a missing run image is no error of the phase, and would be found only after the build.
/// The reference must be of the allowed run image; it comes back, with its digest.
pub fn check_analyzed(bytes: &[u8], run_image: &str) -> Result<String, Failure> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let reference = toml::from_str::<Analyzed>(text).ok().and_then(|a| a.run_image).and_then(|r| r.reference).unwrap_or_default();
    if reference.is_empty() {
        return Err(Failure::new(
            Code::BuildpacksRunImage,
            format!("The run image {run_image} was not found in its registry."),
            "Check BUILDPACKS_BUILDERS (builder=run-image) and that this host may pull it.",
        ));
    }
    // It is told in the log: nothing in it may begin a line.
    if repository_of(&reference) != repository_of(run_image) || !reference.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::new(
            Code::BuildpacksRunImage,
            format!("The analyze phase named another run image than {run_image}."),
            "Check the lifecycle image (BUILDPACKS_LIFECYCLE_IMAGE).",
        ));
    }
    Ok(reference)
}

/// `host/name` of a reference, Docker Hub's short forms written out.
pub fn repository_of(reference: &str) -> String {
    let name = reference.split('@').next().unwrap_or_default();
    let name = match name.rsplit_once(':') {
        Some((left, right)) if !right.contains('/') => left,
        _ => name,
    };
    let with_host = match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("index.docker.io/{name}"),
        None => format!("index.docker.io/library/{name}"),
    };
    with_host.replacen("docker.io/", "index.docker.io/", usize::from(with_host.starts_with("docker.io/")))
}

#[derive(Deserialize)]
struct Report {
    image: ReportImage,
}
#[derive(Deserialize)]
struct ReportImage {
    digest: String,
}

/// The digest (`sha256:…`) from the exporter's report.toml.
pub fn report_digest(bytes: &[u8]) -> Option<String> {
    toml::from_str::<Report>(std::str::from_utf8(bytes).ok()?).ok().map(|r| r.image.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_run_image_is_found_before_the_build() {
        assert_eq!(check_analyzed(b"[image]\nreference = \"\"\n", "r/run:1").unwrap_err().code, Code::BuildpacksRunImage);
        assert!(check_analyzed(b"[run-image]\nreference = \"127.0.0.1:5/run@sha256:ab\"\n", "127.0.0.1:5/run:1").is_ok());
        assert!(check_analyzed(b"[run-image]\nreference = \"index.docker.io/a/b@sha256:ab\"\n", "a/b:c").is_ok());
    }

    #[test]
    fn another_tenants_image_as_run_image_is_refused() {
        let analyzed = b"[run-image]\nreference = \"127.0.0.1:5/other/secret:1\"\n";
        assert_eq!(check_analyzed(analyzed, "127.0.0.1:5/run:1").unwrap_err().code, Code::BuildpacksRunImage);
    }

    #[test]
    fn the_digest_is_read_from_the_report() {
        let report = b"[image]\n  tags = [\"r/x:1\"]\n  digest = \"sha256:abc\"\n";
        assert_eq!(report_digest(report).as_deref(), Some("sha256:abc"));
        assert_eq!(report_digest(b"not toml ="), None);
    }

    #[test]
    fn a_key_that_is_a_path_becomes_no_file() {
        assert!(is_file_name("BP_NODE_VERSION"));
        for key in ["../x", "a/b", "", ".", "a=b", "a\nb"] {
            assert!(!is_file_name(key), "{key:?}");
        }
    }

    #[test]
    fn credentials_go_only_to_phases_that_talk_to_the_registry() {
        let password = SecretString::from("hunter2secret");
        let login = [RegistryLogin { host: "r:5", username: "u", password: &password }];
        let user = User { uid: 1000, gid: 1000 };
        for phase in [Phase::Analyze, Phase::Detect, Phase::Restore, Phase::Build, Phase::Export] {
            let archive = archive(phase, user, &Controls::default(), &[], &login, None).unwrap();
            let text = String::from_utf8_lossy(&archive).into_owned();
            let auth = base64::engine::general_purpose::STANDARD.encode("u:hunter2secret");
            assert_eq!(text.contains(&auth), phase.talks_to_registry(), "{phase:?}");
        }
    }
}
