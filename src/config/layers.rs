//! Reads the layers and lays them over one another: every key has one value, and knows where that came from.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use config::{FileFormat, Map, Source, Value, ValueKind};

use super::dotenv::DotEnv;
use super::errors::ConfigError;
use super::keys::{KEYS, Key, OTHER_NAMES, misspelt, nearest};
use super::surroundings::Surroundings;

/// The defaults, with their explanation.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// The origin of a value of [`DEFAULT_TOML`].
pub(super) const DEFAULT_ORIGIN: &str = "default";

/// A secret's file may be so long; more is a wrong file.
const SECRET_FILE_BYTES: u64 = 64 * 1024;

/// A key's value before it is understood.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) value: String,
    pub(super) origin: String,
    /// It stands in a TOML file, which may be a copy of [`DEFAULT_TOML`]: a default there was chosen by nobody.
    pub(super) is_of_file: bool,
}

/// All layers as one, and what was wrong with them.
pub(super) struct Layers {
    /// By [`Key::name`]. Every key of [`KEYS`] is there.
    pub(super) values: BTreeMap<&'static str, Raw>,
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<String>,
}

impl Layers {
    pub(super) fn read(from: &Surroundings) -> Layers {
        let mut reading = Reading { working_dir: &from.working_dir, errors: Vec::new(), warnings: Vec::new() };
        let mut builder = config::Config::builder().add_source(config::File::from_str(DEFAULT_TOML, FileFormat::Toml));
        for layer in [reading.file(from), reading.dot_env(), reading.credentials(from), reading.environment(from)] {
            builder = builder.add_source(layer);
        }
        let mut leaves = Vec::new();
        match builder.build().and_then(|c| c.collect()) {
            Ok(table) => flatten("", table, &mut leaves),
            Err(e) => reading.error("configuration", None, e.to_string()),
        }
        let file = file_path(from).display().to_string();
        let values = leaves
            .into_iter()
            .filter_map(|(name, value)| {
                let key = KEYS.iter().find(|k| k.name == name)?;
                let origin = value.origin().unwrap_or(DEFAULT_ORIGIN).to_owned();
                Some((key.name, Raw { value: text_of(value.kind), is_of_file: origin == file, origin }))
            })
            .collect();
        Layers { values, errors: reading.errors, warnings: reading.warnings }
    }
}

/// `/etc/slipway/slipway.toml` or `--config`.
fn file_path(from: &Surroundings) -> PathBuf {
    from.working_dir.join(from.chosen_file.as_ref().unwrap_or(&from.system_file))
}

/// One layer's values by [`Key::name`], each with its origin.
#[derive(Debug, Clone, Default)]
struct Layer(Vec<(&'static str, Value)>);

impl Layer {
    fn set(&mut self, key: &Key, value: String, origin: String) {
        self.0.push((key.name, Value::new(Some(&origin), ValueKind::String(value))));
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }
    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }
}

struct Reading<'s> {
    working_dir: &'s Path,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

impl Reading<'_> {
    fn error(&mut self, subject: impl Into<String>, origin: Option<&str>, problem: impl Into<String>) {
        self.errors.push(ConfigError { subject: subject.into(), origin: origin.map(str::to_owned), problem: problem.into() });
    }

    /// `/etc/slipway/slipway.toml` or `--config`.
    fn file(&mut self, from: &Surroundings) -> Layer {
        let mut layer = Layer::default();
        let path = file_path(from);
        let origin = path.display().to_string();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && from.chosen_file.is_none() => return layer,
            Err(e) => {
                self.error(origin, None, format!("cannot be read: {e}"));
                return layer;
            }
        };
        let mut leaves = Vec::new();
        match config::File::from_str(&text, FileFormat::Toml).collect() {
            Ok(table) => flatten("", table, &mut leaves),
            Err(e) => self.error(origin.clone(), None, format!("is not TOML: {}", without_source_lines(&e.to_string()))),
        }
        leaves.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, value) in &leaves {
            if let Some(key) = KEYS.iter().find(|k| k.name == name) {
                match &value.kind {
                    ValueKind::Table(_) => self.error(label(key), Some(&origin), "is a value, not a table"),
                    kind => layer.set(key, text_of(kind.clone()), origin.clone()),
                }
            } else if let Some(key) = KEYS.iter().find(|k| k.secret && name.strip_suffix("_file") == Some(k.name)) {
                if leaves.iter().any(|(n, v)| n == key.name && !text_of(v.kind.clone()).is_empty()) {
                    self.error(label(key), Some(&origin), format!("both {} and {name} are given; keep one", key.name));
                } else {
                    let from_file = text_of(value.kind.clone());
                    self.secret_file(&mut layer, key, &from_file, &format!("{origin} ({name})"));
                }
            } else {
                let known = KEYS.iter().map(|k| k.name);
                let hint = nearest(name, known).map_or(String::new(), |k| format!("; did you mean {k}?"));
                self.error(name.clone(), Some(&origin), format!("there is no such key{hint}"));
            }
        }
        layer
    }

    /// `.env` in the working directory.
    fn dot_env(&mut self) -> Layer {
        let path = self.working_dir.join(".env");
        let origin = path.display().to_string();
        match std::fs::read(&path).map(String::from_utf8) {
            Ok(Ok(text)) => {
                let parsed = DotEnv::parse(&text);
                if !parsed.skipped_lines.is_empty() {
                    let lines: Vec<_> = parsed.skipped_lines.iter().map(ToString::to_string).collect();
                    self.warnings.push(format!("{origin}: no variable in line {}; skipped", lines.join(", ")));
                }
                let variables: BTreeMap<_, _> = parsed.variables.into_iter().collect();
                // Where the variable that may be meant is there too, the other one is another program's.
                let meant = |name: &String| misspelt(name).filter(|meant| !variables.contains_key(meant));
                let slips = variables.keys().filter_map(|name| Some((name, meant(name)?)));
                self.warnings
                    .extend(slips.map(|(name, meant)| format!("{origin}: unknown setting {name}; did you mean {meant}?")));
                self.other_names(&origin, |name| variables.get(name).is_some_and(|value| !value.is_empty()));
                self.variables(&origin, |name| Ok(variables.get(name).cloned()))
            }
            Ok(Err(_)) => {
                self.error(origin, None, "is not UTF-8 text");
                Layer::default()
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Layer::default(),
            Err(e) => {
                self.error(origin, None, format!("cannot be read: {e}"));
                Layer::default()
            }
        }
    }

    /// systemd's `LoadCredential=`: one file per secret, named as the variable, in capitals or small letters.
    fn credentials(&mut self, from: &Surroundings) -> Layer {
        let mut layer = Layer::default();
        let Some(dir) = from.environment.get(OsStr::new("CREDENTIALS_DIRECTORY")).filter(|d| !d.is_empty()) else {
            return layer;
        };
        for key in KEYS.iter().filter(|k| k.secret) {
            let names = [key.env.to_owned(), key.env.to_ascii_lowercase()];
            if let Some(path) = names.iter().map(|n| Path::new(dir).join(n)).find(|p| p.exists()) {
                self.secret_file(&mut layer, key, &path.display().to_string(), "$CREDENTIALS_DIRECTORY");
            }
        }
        layer
    }

    fn environment(&mut self, from: &Surroundings) -> Layer {
        self.other_names("environment", |name| from.environment.get(OsStr::new(name)).is_some_and(|value| !value.is_empty()));
        self.variables("environment", |name| match from.environment.get(OsStr::new(name)) {
            Some(value) => value.to_str().map(|v| Some(v.to_owned())).ok_or("is not UTF-8 text"),
            None => Ok(None),
        })
    }

    /// Variables that set the same thing elsewhere, where ours is not set.
    fn other_names(&mut self, origin: &str, is_set: impl Fn(&str) -> bool) {
        for (other, ours) in OTHER_NAMES {
            if is_set(other) && !ours.split(" and ").any(&is_set) && misspelt(other).is_none() {
                self.warnings.push(format!("{origin}: {other} is no setting of Slipway and has no effect; did you mean {ours}?"));
            }
        }
    }

    /// `NAME` and `NAME_FILE` of every key. An empty value is none.
    fn variables(&mut self, origin: &str, get: impl Fn(&str) -> Result<Option<String>, &'static str>) -> Layer {
        let mut layer = Layer::default();
        for key in KEYS {
            let read = |name: &str| get(name).map(|v| v.filter(|v| !v.is_empty()));
            let file_name = format!("{}_FILE", key.env);
            let file = if key.secret { read(&file_name) } else { Ok(None) };
            match (read(key.env), file) {
                (Err(problem), _) => self.error(label(key), Some(origin), problem),
                (_, Err(problem)) => self.error(file_name, Some(origin), problem),
                (Ok(Some(_)), Ok(Some(_))) => {
                    self.error(label(key), Some(origin), format!("both {} and {file_name} are given; keep one", key.env));
                }
                (Ok(Some(value)), Ok(None)) => layer.set(key, value, origin.to_owned()),
                (Ok(None), Ok(Some(file))) => self.secret_file(&mut layer, key, &file, &format!("{file_name} in {origin}")),
                (Ok(None), Ok(None)) => {}
            }
        }
        layer
    }

    fn secret_file(&mut self, layer: &mut Layer, key: &Key, path: &str, named_by: &str) {
        let path = self.working_dir.join(path);
        let origin = format!("{} ({named_by})", path.display());
        match read_secret(&path) {
            Ok(value) => layer.set(key, value, origin),
            Err(problem) => self.error(label(key), Some(&origin), problem),
        }
    }
}

fn read_secret(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| format!("the file cannot be read: {e}"))?;
    file.take(SECRET_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| format!("the file cannot be read: {e}"))?;
    if bytes.len() as u64 > SECRET_FILE_BYTES {
        return Err("the file is larger than 64 KiB; that is no secret".into());
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text")?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err("the file is empty".into()),
        value => Ok(value.to_owned()),
    }
}

/// `REDIS_PORT (redis.port)`
pub(super) fn label(key: &Key) -> String {
    format!("{} ({})", key.env, key.name)
}

fn flatten(prefix: &str, table: Map<String, Value>, out: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        let is_key = KEYS.iter().any(|k| k.name == name);
        match value.kind {
            ValueKind::Table(inner) if !is_key && !inner.is_empty() => flatten(&name, inner, out),
            // `[redis]` with nothing below it says nothing.
            ValueKind::Table(_) if KEYS.iter().any(|k| k.name.starts_with(&format!("{name}."))) => {}
            _ => out.push((name, value)),
        }
    }
}

/// Lists are joined by commas, as they stand in a variable.
fn text_of(kind: ValueKind) -> String {
    match kind {
        ValueKind::Array(items) => items.into_iter().map(|v| text_of(v.kind)).collect::<Vec<_>>().join(","),
        kind => kind.to_string(),
    }
}

/// The parser's message shows the line it stumbled over, which may hold a secret: keep only where and what.
fn without_source_lines(message: &str) -> String {
    let shows_source =
        |line: &str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    message.lines().filter(|l| !shows_source(l) && !l.trim().is_empty()).collect::<Vec<_>>().join(", ")
}
