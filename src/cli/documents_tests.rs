//! The README and env.example say what the program says.

use crate::config::{DEFAULT_TOML, DotEnv, KEYS};
use crate::exit::Exit;
use crate::protocol::{Code, FailureKind};

const README: &str = include_str!("../../README.md");
const ENV_EXAMPLE: &str = include_str!("../../env.example");
const UNIT: &str = include_str!("../../systemd/slipway-worker.service");

/// The rows of the README's table under `heading`, cells trimmed, without head and rule.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = README.split_once(&format!("\n## {heading}\n")).unwrap().1;
    let section = section.split_once("\n## ").map_or(section, |(s, _)| s);
    let rows = section.lines().filter(|l| l.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What default.toml has for `table.name`, as it stands there.
fn default_of(name: &str) -> &'static str {
    let (table, name) = name.split_once('.').unwrap();
    let section = DEFAULT_TOML.split_once(&format!("\n[{table}]\n")).unwrap().1;
    section.lines().find_map(|l| l.strip_prefix(&format!("{name} = "))).unwrap().trim_matches('"')
}

#[test]
fn the_readme_lists_every_failure_code_with_its_kind_and_meaning() {
    let kind = |code: &Code| match code.kind() {
        FailureKind::User => "user",
        FailureKind::Infrastructure => "infrastructure",
        FailureKind::Cancelled => "cancelled",
        FailureKind::Timeout => "timeout",
        FailureKind::LeaseLost => "lease_lost",
        FailureKind::Rejected => "rejected",
    };
    let row = |cells: &[&str]| format!("| {} |", cells.join(" | "));
    let listed: Vec<String> = table("Failures").iter().map(|cells| row(cells)).collect();
    let codes: Vec<String> = Code::ALL.iter().map(|c| row(&[&format!("`{}`", c.as_str()), kind(c), c.meaning()])).collect();
    assert_eq!(listed, codes, "the table has to be:\n{}\n", codes.join("\n"));
}

#[test]
fn the_readme_lists_every_key_with_its_variable_and_default() {
    let rows = table("Configuration");
    assert_eq!(rows.len(), KEYS.len());
    for (row, key) in rows.iter().zip(KEYS) {
        let default = match default_of(key.name) {
            "" | "[]" => "–".to_owned(),
            value => format!("`{value}`"),
        };
        assert_eq!(row[..3], [format!("`{}`", key.env), format!("`{}`", key.name), default]);
        assert!(row[3].len() > 5, "{} is not explained", key.env);
        assert_eq!(key.secret, row[3].starts_with("Secret"), "{}", key.env);
    }
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
fn the_readme_and_help_list_every_exit_code() {
    use clap::CommandFactory;
    let codes: Vec<String> = Exit::ALL.iter().map(|e| e.code().to_string()).collect();
    let listed: Vec<_> = table("Exit codes").iter().map(|row| row[0]).collect();
    assert_eq!(listed, codes);
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
