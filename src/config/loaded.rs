//! The layers as one: the whole configuration, parts of it for commands that need no more, and where each value came from.

use std::fmt::{self, Write};
use std::path::PathBuf;

use secrecy::SecretString;

use super::keys::{KEYS, Key};
use super::layers::Layers;
use super::reader::Reader;
use super::redis_url::RedisUrl;
use super::surroundings::Surroundings;
use super::{
    BuildConfig, BuildpacksConfig, Config, ConfigErrors, DashboardAddress, DashboardConfig, GitConfig, LoggingConfig,
    QueueConfig, RegistryConfig, WorkerConfig,
};

/// All layers, read once, not understood yet.
pub struct Settings {
    layers: Layers,
    working_dir: PathBuf,
}

/// The whole configuration and how it came about.
pub struct Loaded {
    pub config: Config,
    /// One per key, in the order of `config/default.toml`. Displayed by `--print-config`.
    pub entries: Vec<Entry>,
    /// What is not wrong enough to stop: say it once in the log.
    pub warnings: Vec<String>,
    /// Every secret of the configuration, for the redactor.
    pub secrets: Vec<SecretString>,
}

/// One key's value, safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: &'static Key,
    /// `***` for a secret that is set; empty where nothing is.
    pub value: String,
    /// `default`, `environment`, or the file.
    pub origin: String,
}

/// What `slipway build` needs of the configuration.
#[derive(Debug, Clone)]
pub struct SingleBuildConfig {
    pub worker: WorkerConfig,
    pub git: GitConfig,
    pub build: BuildConfig,
    pub buildpacks: BuildpacksConfig,
    /// `Some`: push there.
    pub registry: Option<RegistryConfig>,
}

impl Settings {
    /// Does the reading; what is wrong is told by whoever asks for a part.
    pub fn read(from: &Surroundings) -> Self {
        Self { layers: Layers::read(from), working_dir: from.working_dir.clone() }
    }

    pub fn into_config(self) -> Result<Loaded, ConfigErrors> {
        let config = self.part(|r| {
            let worker = WorkerConfig::read(r);
            let queue = QueueConfig::read(r);
            let dashboard = DashboardConfig::read(r);
            let git = GitConfig::read(r);
            let build = BuildConfig::read(r);
            let buildpacks = BuildpacksConfig::read(r);
            let registry = RegistryConfig::read(r);
            let logging = LoggingConfig::read(r);
            Some(Config {
                worker: worker?,
                queue: queue?,
                dashboard: dashboard?,
                git: git?,
                build: build?,
                buildpacks: buildpacks?,
                registry: registry?,
                logging: logging?,
            })
        })?;
        Ok(Loaded { config, entries: self.entries(), secrets: self.secrets(), warnings: self.layers.warnings })
    }

    pub fn logging(&self) -> Result<LoggingConfig, ConfigErrors> {
        self.part(LoggingConfig::read)
    }
    pub fn queue(&self) -> Result<QueueConfig, ConfigErrors> {
        self.part(QueueConfig::read)
    }
    pub fn dashboard_address(&self) -> Result<DashboardAddress, ConfigErrors> {
        self.part(DashboardAddress::read)
    }
    /// What a single build needs. No Redis, no dashboard; a registry only where it is asked for.
    pub fn single_build(&self, push: bool) -> Result<SingleBuildConfig, ConfigErrors> {
        self.part(|r| {
            let worker = WorkerConfig::read(r);
            let git = GitConfig::read(r);
            let build = BuildConfig::read(r);
            let buildpacks = BuildpacksConfig::read(r);
            let registry = if push { RegistryConfig::read(r).map(Some) } else { Some(None) };
            Some(SingleBuildConfig { worker: worker?, git: git?, build: build?, buildpacks: buildpacks?, registry: registry? })
        })
    }

    pub fn warnings(&self) -> &[String] {
        &self.layers.warnings
    }

    /// Every secret that is set, whether its command needs it or not.
    pub fn secrets(&self) -> Vec<SecretString> {
        let secrets = KEYS.iter().filter(|k| k.secret).filter_map(|k| self.layers.values.get(k.name));
        let whole = secrets.filter(|raw| !raw.value.is_empty()).map(|raw| SecretString::from(raw.value.as_str()));
        // A message may quote the password without the URL around it.
        let url = self.layers.values.get("redis.url").and_then(|raw| RedisUrl::parse(&raw.value).ok());
        whole.chain(url.and_then(|url| url.password)).collect()
    }

    fn entries(&self) -> Vec<Entry> {
        let by_url = self.set_by_redis_url();
        let entry = |key: &'static Key| {
            let raw = self.layers.values.get(key.name)?;
            if let Some((_, value)) = by_url.iter().find(|(env, _)| *env == key.env) {
                let origin = self.layers.values.get("redis.url").map_or("", |url| &url.origin);
                return Some(Entry { key, value: value.clone(), origin: format!("REDIS_URL in {origin}") });
            }
            let value = if key.secret && !raw.value.is_empty() { "***".to_owned() } else { raw.value.clone() };
            Some(Entry { key, value, origin: raw.origin.clone() })
        };
        KEYS.iter().filter_map(entry).collect()
    }

    /// What `REDIS_URL` says, by the variable that would say it alone. The password is masked.
    fn set_by_redis_url(&self) -> Vec<(&'static str, String)> {
        let Some(url) = self.layers.values.get("redis.url").and_then(|raw| RedisUrl::parse(&raw.value).ok()) else {
            return Vec::new();
        };
        let mut set = vec![("REDIS_HOST", url.host), ("REDIS_TLS", url.tls.to_string())];
        set.extend(url.port.map(|port| ("REDIS_PORT", port.to_string())));
        set.extend(url.username.map(|name| ("REDIS_USERNAME", name)));
        set.extend(url.password.map(|_| ("REDIS_PASSWORD", "***".to_owned())));
        set.extend(url.database.map(|number| ("REDIS_DB", number.to_string())));
        set
    }

    /// Errors of the layers come first, then those of the part; either is enough to fail.
    fn part<T>(&self, read: impl FnOnce(&mut Reader) -> Option<T>) -> Result<T, ConfigErrors> {
        let mut reader = Reader::new(&self.layers.values, &self.working_dir);
        let part = read(&mut reader);
        let errors = [self.layers.errors.clone(), reader.errors].concat();
        match part {
            Some(part) if errors.is_empty() => Ok(part),
            _ => Err(ConfigErrors(errors)),
        }
    }
}

impl fmt::Display for Loaded {
    /// TOML, with the variable and the origin of each value in a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            let mut line = format!("{} = {}", entry.key.name, toml_string(&entry.value));
            if entry.key.env == "MAX_CONCURRENT_BUILDS" && entry.value == "auto" {
                write!(line, " # {} here,", self.config.worker.max_concurrent_builds)?;
            } else {
                line.push_str(" #");
            }
            writeln!(f, "{line} {}, from {}", entry.key.env, one_line(&entry.origin))?;
        }
        Ok(())
    }
}

fn toml_string(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
