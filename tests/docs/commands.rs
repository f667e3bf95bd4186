//! Every command of the documents: in `sh` blocks, in the other blocks that hold some, and in the middle of a line.

use std::process::{Command, Output};

use slipway::config::KEYS;
use slipway::protocol::Job;

use super::markdown::{Block, documents};
use super::programs;
use super::repository::read;
use super::shell;

/// Words in the middle of a line in whose place others are typed.
const STAND_FOR_OTHERS: [&str; 3] = ["COMMAND", "PROGRAM", "NAME"];

fn blocks(language: &str) -> Vec<Block> {
    documents().iter().flat_map(|document| document.blocks()).filter(|block| block.language == language).collect()
}

#[test]
fn every_block_names_its_language() {
    let known = ["sh", "text", "json", "toml"];
    let unknown =
        documents().into_iter().flat_map(|document| document.blocks()).filter(|b| !known.contains(&b.language.as_str()));
    let places: Vec<String> = unknown.map(|block| format!("{}: “{}”", block.place, block.language)).collect();
    assert!(places.is_empty(), "a block is one of {known:?}:\n{}", places.join("\n"));
}

#[test]
fn every_command_of_a_document_can_be_typed() {
    let mut wrong = Vec::new();
    let sh = blocks("sh");
    assert!(sh.len() > 10, "the documents have {} blocks of commands", sh.len());
    for block in sh {
        let read = Command::new("bash").args(["-n", "-c", &block.text]).output().unwrap();
        if !read.status.success() {
            wrong.push(format!("{}: {}", block.place, String::from_utf8_lossy(&read.stderr)));
        }
        for command in shell::commands(&block.text).unwrap() {
            if let Err(problem) = programs::check(&command) {
                wrong.push(format!("{}: {}: {problem}", block.place, command.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `make NAME    what it does`, as the README begins.
#[test]
fn the_two_commands_of_the_readme_are_targets() {
    let listed: Vec<String> =
        blocks("text").iter().flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let targets: Vec<&str> = listed.iter().filter_map(|line| line.strip_prefix("make ")?.split(' ').next()).collect();
    assert_eq!(targets, ["demo", "test"]);
    for target in targets {
        programs::check(&["make".to_owned(), target.to_owned()]).unwrap();
    }
}

/// In the middle of a line a command may be cut or stand for others: `slipway COMMAND --help`. What it names has to be there.
#[test]
fn every_command_in_the_middle_of_a_line_names_what_is_there() {
    let mut wrong = Vec::new();
    for (place, span) in documents().iter().flat_map(|document| document.spans()) {
        let words: Vec<&str> = span.split(' ').collect();
        let stands_for_others = words.iter().any(|word| STAND_FOR_OTHERS.contains(word));
        let checked = match words[..] {
            _ if stands_for_others || span.contains('…') => Ok(()),
            ["slipway", command, ..] => {
                let help = help_of(command);
                let unknown = words.iter().find(|word| word.starts_with("--") && !help.contains(**word));
                if help.is_empty() || unknown.is_some() {
                    Err(format!("the program knows no {}", unknown.unwrap_or(&command)))
                } else {
                    Ok(())
                }
            }
            ["make", _, ..] | ["cargo", _, ..] | ["systemctl", _, ..] | ["redis-cli", _, ..] => check(&span),
            [script, ..] if script.starts_with("scripts/") || script.starts_with(".ci/") => check(&span),
            _ => Ok(()),
        };
        if let Err(problem) = checked {
            wrong.push(format!("{place}: {span}: {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(span: &str) -> Result<(), String> {
    shell::commands(span)?.iter().try_for_each(|command| programs::check(command))
}

/// The program itself, with nothing of this process' environment, in a folder with this `.env`.
fn run(arguments: &[&str], dotenv: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), dotenv).unwrap();
    Command::new(env!("CARGO_BIN_EXE_slipway")).args(arguments).current_dir(folder.path()).env_clear().output().unwrap()
}

/// What `slipway COMMAND --help` prints; empty where there is no such command.
fn help_of(command: &str) -> String {
    let output = run(&[command, "--help"], "");
    if output.status.success() { String::from_utf8(output.stdout).unwrap() } else { String::new() }
}

#[test]
fn the_configuration_of_the_quick_start_is_taken() {
    let sh = blocks("sh");
    let quick_start = sh.iter().find(|block| block.text.contains("> .env")).unwrap();
    let line = quick_start.text.lines().find(|line| line.contains("> .env")).unwrap();
    let words = shell::commands(line).unwrap().remove(0);
    let dotenv: String = words.iter().filter(|word| word.contains('=')).map(|word| format!("{word}\n")).collect();
    let output = run(&["worker", "--print-config"], &dotenv);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("127.0.0.1:5000") && !printed.contains("any-word"), "{printed}");
}

#[test]
fn completions_are_printed_for_the_shell_that_a_document_names() {
    let output = run(&["completions", "bash"], "");
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("slipway"));
}

#[test]
fn every_job_of_a_document_is_one() {
    let jobs = blocks("json");
    assert!(jobs.len() >= 2);
    for block in jobs {
        let github = "https://github.com".parse().unwrap();
        let job = Job::parse(block.text.as_bytes(), 1 << 20, &github);
        assert!(job.is_ok(), "{}: {}", block.place, job.unwrap_err().failure);
    }
}

#[test]
fn every_key_of_a_toml_block_is_a_setting() {
    for block in blocks("toml") {
        let table: toml::Table = block.text.parse().unwrap();
        for (section, keys) in &table {
            for key in keys.as_table().unwrap().keys() {
                let name = format!("{section}.{key}");
                assert!(KEYS.iter().any(|k| k.name == name), "{}: there is no setting {name}", block.place);
            }
        }
    }
}

#[test]
fn make_test_runs_these_tests() {
    assert!(read("Makefile").contains("--test docs"));
}
