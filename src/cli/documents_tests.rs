//! env.example, the service file and the help say what the program says. (tests/docs/ holds the pages.)

use crate::config::{DEFAULT_TOML, DotEnv, KEYS};
use crate::exit::Exit;

const ENV_EXAMPLE: &str = include_str!("../../env.example");
const UNIT: &str = include_str!("../../systemd/slipway-worker.service");

/// What default.toml has for `table.name`, as it stands there.
fn default_of(name: &str) -> &'static str {
    let (table, name) = name.split_once('.').unwrap();
    let section = DEFAULT_TOML.split_once(&format!("\n[{table}]\n")).unwrap().1;
    section.lines().find_map(|l| l.strip_prefix(&format!("{name} = "))).unwrap().trim_matches('"')
}

#[test]
fn env_example_names_every_variable_once_and_its_comments_are_the_defaults() {
    let assignment = |line: &'static str| {
        let line = line.strip_prefix('#').unwrap_or(line);
        line.split_once('=').filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
    };
    let named: Vec<_> = ENV_EXAMPLE.lines().filter_map(assignment).collect();
    for key in KEYS {
        let values: Vec<_> = named.iter().filter(|(name, _)| *name == key.env).collect();
        assert_eq!(values.len(), 1, "{}", key.env);
    }
    assert_eq!(named.len(), KEYS.len());
    let overrides = ENV_EXAMPLE.split_once("with their defaults\n").unwrap().1;
    for (name, value) in overrides.lines().filter_map(assignment) {
        let key = KEYS.iter().find(|k| k.env == name).unwrap();
        assert_eq!(value, default_of(key.name).trim_matches(['[', ']']), "{name}");
    }
    assert!(DotEnv::parse(ENV_EXAMPLE).skipped_lines.is_empty());
}

#[test]
fn the_help_lists_every_exit_code() {
    use clap::CommandFactory;
    let codes: Vec<String> = Exit::ALL.iter().map(|e| e.code().to_string()).collect();
    let help = super::Cli::command().render_long_help().to_string();
    let listed: Vec<&str> =
        help.split_once("Exit codes:\n").unwrap().1.lines().map_while(|l| l.split_whitespace().next()).collect();
    assert_eq!(listed, codes);
}

#[test]
fn the_service_waits_longer_than_a_drain_takes() {
    let seconds = |name: &str| -> u64 {
        let line = UNIT.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.parse().unwrap()
    };
    let drain: u64 = default_of("worker.drain_timeout").trim_end_matches('s').parse().unwrap();
    assert!(seconds("TimeoutStopSec=") >= drain + 20);
    assert!(UNIT.contains("RestartPreventExitStatus=2 78"));
}

#[test]
fn the_command_line_is_well_formed() {
    use clap::CommandFactory;
    super::Cli::command().debug_assert();
}
