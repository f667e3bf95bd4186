//! Names that documents use exist: settings, failure codes, tests.

use std::collections::HashSet;

use regex::Regex;
use slipway::config::KEYS;
use slipway::protocol::Code;

use super::markdown::documents;
use super::repository::{product, rust_below};

/// Variables that are not Slipway's own settings, and what reads them.
const FOREIGN: &[(&str, &str)] = &[
    ("HTTPS_PROXY", "HTTP clients"),
    ("HTTP_PROXY", "HTTP clients"),
    ("NO_PROXY", "HTTP clients"),
    ("SSL_CERT_FILE", "TLS"),
    ("BUILDKIT_STEP_LOG_MAX_SIZE", "the Engine"),
    ("BUILDKIT_STEP_LOG_MAX_SPEED", "the Engine"),
    ("BUILDKIT_CACHE_MOUNT_NS", "BuildKit"),
    ("DEPLOYMENT_ID", "a field of the journal"),
    ("UPDATE_DOCS", "this test"),
    ("SLIPWAY_TEST_BROKEN_HOST_JOBS", "a test"),
    ("OUTAGE_SECONDS", "make campaign"),
    ("NAME_FILE", "stands for a secret's name"),
    ("PATH_OR_URL", "stands for an argument"),
];

/// Whether a variable is one of the product's, or of those above.
pub fn is_known_variable(name: &str) -> bool {
    let own = KEYS.iter().any(|key| key.env == name || (key.secret && format!("{}_FILE", key.env) == name));
    own || FOREIGN.iter().any(|(foreign, _)| *foreign == name)
}

#[test]
fn every_setting_that_a_document_names_is_one() {
    let name = Regex::new("[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+").unwrap();
    let mut unknown = Vec::new();
    for document in documents() {
        for (number, line) in document.text.lines().enumerate() {
            let names = name.find_iter(line).map(|found| found.as_str());
            unknown.extend(names.filter(|n| !is_known_variable(n)).map(|n| format!("{}:{}: {n}", document.path, number + 1)));
        }
    }
    assert!(unknown.is_empty(), "neither a setting nor a variable that tests/docs/names.rs knows:\n{}", unknown.join("\n"));
}

#[test]
fn every_failure_code_that_a_document_names_is_one() {
    let code = Regex::new("^[a-z]+[.][a-z_]+$").unwrap();
    let families: HashSet<&str> = Code::ALL.iter().map(|c| c.as_str().split('.').next().unwrap()).collect();
    let file_endings = ["rs", "lua", "md", "toml", "json", "yml"];
    let mut unknown = Vec::new();
    for document in documents() {
        for (place, span) in document.spans().into_iter().filter(|(_, span)| code.is_match(span)) {
            let (family, rest) = span.split_once('.').unwrap();
            let is_setting = KEYS.iter().any(|key| key.name == span);
            if families.contains(family) && !file_endings.contains(&rest) && !is_setting && Code::parse(&span).is_none() {
                unknown.push(format!("{place}: {span}"));
            }
        }
    }
    assert!(unknown.is_empty(), "no such failure code:\n{}", unknown.join("\n"));
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let function = Regex::new("fn ([a-z0-9_]+)").unwrap();
    let sources = rust_below(&[product(), vec!["tests", "benches"]].concat());
    let functions: HashSet<&str> = function.captures_iter(&sources).map(|found| found.get(1).unwrap().as_str()).collect();
    // A name of five words or more is a test's; an ellipsis stands for the rest of it.
    let named = Regex::new("([a-z0-9]+(?:_[a-z0-9]+){4,})(_?…)?").unwrap();
    let mut missing = Vec::new();
    for document in documents() {
        for (number, line) in document.text.lines().enumerate() {
            for found in named.captures_iter(line) {
                let (name, is_cut) = (&found[1], found.get(2).is_some());
                let is_there = if is_cut { functions.iter().any(|f| f.starts_with(name)) } else { functions.contains(name) };
                if !is_there {
                    missing.push(format!("{}:{}: {name}", document.path, number + 1));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}
