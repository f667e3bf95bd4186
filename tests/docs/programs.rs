//! What each program of the documents' commands may be given. `Err` says what is not there.

use std::path::Path;
use std::process::Command;

use clap::Parser;
use slipway::cli::Cli;

use super::names::is_known_variable;
use super::repository::{product, read, root, rust_below};

/// Looks at one command, its assignments in front included.
pub fn check(words: &[String]) -> Result<(), String> {
    let (assignments, rest) = words.split_at(words.iter().take_while(|word| assigned(word).is_some()).count());
    for name in assignments.iter().filter_map(|word| assigned(word)) {
        known(is_known_variable(name), "variable", name)?;
    }
    let Some((program, arguments)) = rest.split_first() else { return Ok(()) };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match program.as_str() {
        "make" => make(&arguments),
        "slipway" => slipway(&arguments),
        "cargo" => cargo(&arguments),
        "redis-cli" => redis(&arguments),
        "docker" => docker(&arguments),
        "systemctl" => systemctl(&arguments),
        "journalctl" => journalctl(&arguments),
        "install" => install(&arguments),
        "iptables" => iptables(&arguments),
        "printf" => printf(&arguments),
        "script" => arguments.iter().filter(|word| word.contains('/')).try_for_each(|script| run_script(script, &[])),
        "cd" | "cat" | "stat" | "systemd-sysusers" => Ok(()),
        script if script.starts_with("scripts/") || script.starts_with(".ci/") => run_script(script, &arguments),
        other => Err(format!("tests/docs/programs.rs does not know the program {other}")),
    }
}

/// The variable that a word assigns, as `NAME=value`.
fn assigned(word: &str) -> Option<&str> {
    let (name, _) = word.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    is_name.then_some(name)
}

fn known(is: bool, what: &str, name: &str) -> Result<(), String> {
    if is { Ok(()) } else { Err(format!("there is no {what} {name}")) }
}

/// Runs it: `--dry-run` reads the Makefile and prints what would be done.
fn make(arguments: &[&str]) -> Result<(), String> {
    let makefile = read("Makefile");
    for name in arguments.iter().filter_map(|word| assigned(word)) {
        known(makefile.contains(&format!("{name}=")) || makefile.contains(&format!("({name})")), "variable of make", name)?;
    }
    succeeds(Command::new("make").arg("--dry-run").args(arguments))
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    let output = command.current_dir(root()).output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Parses it as the program does. (`--help` and a missing command are the parser's errors too, and are no mistakes.)
pub fn slipway(arguments: &[&str]) -> Result<(), String> {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    match Cli::try_parse_from(std::iter::once(&"slipway").chain(arguments)) {
        Err(error) if !matches!(error.kind(), DisplayHelp | DisplayVersion) => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    let (own, passed) = match arguments.iter().position(|word| *word == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let Some((command, flags)) = own.split_first() else { return Err("cargo without a command".into()) };
    known(
        ["build", "test", "bench", "install", "fmt", "clippy"].contains(command),
        "command of cargo that is used here:",
        command,
    )?;
    let mut folders: Vec<String> = Vec::new();
    let mut filters: Vec<&str> = passed.to_vec();
    let mut left = flags.iter();
    while let Some(flag) = left.next() {
        match *flag {
            "--test" | "--bench" => {
                let name = left.next().ok_or("a name is missing")?;
                let folder = if *flag == "--test" { "tests" } else { "benches" };
                let (file, folder) = (format!("{folder}/{name}.rs"), format!("{folder}/{name}"));
                known(root().join(&file).is_file() || root().join(&folder).join("main.rs").is_file(), "program", &folder)?;
                folders.push(folder);
            }
            "--lib" => folders.push("src".into()),
            "--path" | "--profile" => drop(left.next()),
            "--locked" | "--release" | "--bins" | "--no-run" | "--all-targets" | "--check" => {}
            filter if !filter.starts_with('-') => filters.push(filter),
            other => return Err(format!("tests/docs/programs.rs does not know cargo's {other}")),
        }
    }
    let sources = sources_of(&folders);
    filters.retain(|word| !["--nocapture", "-D", "warnings"].contains(word) && word.parse::<f64>().is_err());
    for filter in filters {
        let is_option = filter.starts_with('-') || folders.iter().any(|folder| folder == "tests/campaign");
        let is_there =
            if is_option { sources.contains(filter.trim_matches('"')) } else { names_something(filter, &folders, &sources) };
        known(is_there || filter.contains("--test-threads"), "test, row or option", filter)?;
    }
    Ok(())
}

fn sources_of(folders: &[String]) -> String {
    let there = |folder: &&String| root().join(folder).is_dir();
    let mut text = rust_below(&folders.iter().filter(there).map(String::as_str).collect::<Vec<_>>());
    for file in folders.iter().map(|folder| format!("{folder}.rs")).filter(|file| root().join(file).is_file()) {
        text += &read(&file);
    }
    text
}

/// Whether each part of a filter (`module::part_of_a_name`) is in the name of a module or of a function of these programs, or a row's.
fn names_something(filter: &str, folders: &[String], sources: &str) -> bool {
    let names = regex::Regex::new("(?:fn|mod) ([a-z0-9_]+)").unwrap();
    let is_row = sources.contains(&format!("\"{filter}\""));
    let part_is_there = |part: &str| names.captures_iter(sources).any(|found| found[1].contains(part));
    is_row || folders.is_empty() || filter.split("::").filter(|part| !part.is_empty()).all(part_is_there)
}

/// Parses it; where scripts/parts has started a Redis it runs as well, in a database of its own.
fn redis(arguments: &[&str]) -> Result<(), String> {
    let keys = slipway::queue::Keys::of("builder-queue").map_err(|e| e.to_string())?;
    let fixed = keys.typed().map(|(key, _)| key.to_owned());
    let Some((command, rest)) = arguments.split_first() else { return Err("redis-cli without a command".into()) };
    let key = *rest.first().ok_or("a key is missing")?;
    match *command {
        "RPUSH" | "LPUSH" | "LRANGE" | "LLEN" | "HGET" | "HLEN" | "GET" => {
            known(fixed.iter().any(|k| k == key), "key of the queue", key)?;
        }
        "PUBLISH" => known(read("config/default.toml").contains(&format!("\"{key}\"")), "channel", key)?,
        other => return Err(format!("tests/docs/programs.rs does not know Redis' {other}")),
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "scripts/parts hands its addresses over by environment; config/ is for the product's"
    )]
    let redis = (std::env::var("SLIPWAY_TEST_REDIS"), std::env::var("SLIPWAY_TEST_REDIS_PASSWORD"));
    let (Ok(address), Ok(password)) = redis else { return Ok(()) };
    let (host, port) = address.rsplit_once(':').ok_or("SLIPWAY_TEST_REDIS is host:port")?;
    let cli = |words: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-e", "-h", host, "-p", port, "-n", "15"]).args(words).env("REDISCLI_AUTH", &password);
        succeeds(&mut command)
    };
    cli(arguments).and_then(|()| cli(&["FLUSHDB"]))
}

fn docker(arguments: &[&str]) -> Result<(), String> {
    let Some(command) = arguments.first() else { return Err("docker without a command".into()) };
    known(["build", "run"].contains(command), "command of docker that is used here:", command)
}

fn systemctl(arguments: &[&str]) -> Result<(), String> {
    let words: Vec<&&str> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let Some((verb, units)) = words.split_first() else { return Err("systemctl without a verb".into()) };
    known(["enable", "stop", "restart", "daemon-reload", "edit", "reload", "status"].contains(verb), "verb of systemctl", verb)?;
    units.iter().try_for_each(|name| unit(name))
}

fn unit(name: &str) -> Result<(), String> {
    known(name == "docker" || root().join(format!("systemd/{name}.service")).is_file(), "unit", name)
}

fn journalctl(arguments: &[&str]) -> Result<(), String> {
    let mut left = arguments.iter();
    while let Some(word) = left.next() {
        match *word {
            "-u" => unit(left.next().ok_or("a unit is missing")?)?,
            field => {
                let name = field.split('=').next().unwrap_or_default().to_ascii_lowercase();
                known(rust_below(&product()).contains(&name), "field of a log line", &name)?;
            }
        }
    }
    Ok(())
}

/// What is installed lies in this repository, or is the program.
fn install(arguments: &[&str]) -> Result<(), String> {
    let files = arguments.iter().filter(|word| word.contains('/') && !word.starts_with('/'));
    let missing = files.copied().find(|file| *file != "target/release/slipway" && !root().join(file).is_file());
    missing.map_or(Ok(()), |file| Err(format!("there is no file {file}")))
}

/// The rule is one of those that the worker prints, which names the Engine's bridge as the Engine does.
fn iptables(arguments: &[&str]) -> Result<(), String> {
    let rule = format!("iptables {}", arguments.join(" "));
    known(rust_below(&product()).contains(&rule.replace("docker0", "{bridge}")), "rule that the worker prints like", &rule)
}

/// Lines of a `.env`.
fn printf(arguments: &[&str]) -> Result<(), String> {
    let names = arguments.iter().filter_map(|word| assigned(word));
    names.into_iter().try_for_each(|name| known(is_known_variable(name), "setting", name))
}

fn run_script(script: &str, arguments: &[&str]) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let path: &Path = &root().join(script);
    let is_executable = path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o100 != 0);
    known(is_executable, "script", script)?;
    match (script, arguments) {
        ("scripts/setup", ["--help"]) | ("scripts/parts", ["--help"]) => succeeds(Command::new(path).arg("--help")),
        ("scripts/parts", ["run", "--", command @ ..]) => check(&command.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()),
        (_, []) | ("scripts/picture", _) => Ok(()),
        (_, other) => Err(format!("tests/docs/programs.rs does not know {script} {}", other.join(" "))),
    }
}
