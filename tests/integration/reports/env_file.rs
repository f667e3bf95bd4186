//! What an app reads from the `.env` that its job's variables are written to: asked of Node's dotenv and python-dotenv themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::warnings;
use crate::support::{Job, Repository, Rig};

const DOCKERFILE: &str = "FROM busybox:base\nCOPY .env /app/.env\nCMD [\"cat\", \"/app/.env\"]\n";

const SERVICE_ACCOUNT: &str = "{\n  \"type\": \"service_account\",\n  \"private_key\": \"-----BEGIN\\nMII\\n-----END\\n\"\n}";

/// Both readers take these back.
const EXACT: &[&str] = &[
    "abc",
    "",
    "a b  c",
    "p4ss#word",
    "postgres://u:p@db:5432/x#main",
    "#ff8800",
    "a #b",
    "{\"channel\":\"#general\"}",
    "\"x\"",
    "'x'",
    "`x`",
    "\"",
    "'",
    "`",
    "  x  ",
    "\tx\t",
    "\u{a0}x\u{3000}",
    SERVICE_ACCOUNT,
    "-----BEGIN\nMII\n-----END\n",
    "\n",
    "a\nFORGED=1\nb",
    "it's",
    "it's\nhers",
    "it's #1",
    "it's \"x\"",
    "a'b\"c`d",
    "C:\\dir\\new\\",
    "a\\\\b",
    "\\",
    "a\\nb # c",
    "a\r\nb",
    "a\rb",
    "pa$$w0rd",
    "$HOME",
    "a=b=c",
    "=",
    "export X=1",
    "ünïcödé 日本 🦀",
    "\u{2028}x\u{2029}",
    "\u{feff}x",
    "a,b;c|d&e(f)<g>",
    "%20+&amp;",
    "!important",
    "~/x",
];

/// No form carries these to both: Node's dotenv has them, and the log names them.
const FOR_NODE: &[&str] = &["# a\\\\b", "# it's \"x\"", "{\n\"a\": \"it's\"\n}", "${HOME}/x", "${A:-b}", "a#b\\"];

/// Nor to Node's: the log names them.
const FOR_NOBODY: &[&str] = &["#'\"`", "{\r\n\"a\": 1\r\n}"];

/// Values of a few characters that make trouble together, always the same ones.
fn combinations() -> Vec<String> {
    let alphabet = ["a", " ", "#", "$", "=", "\n", "'", "\\", "n", "{"];
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    (0..300).map(|_| (0..next(8)).map(|_| alphabet[next(alphabet.len())]).collect::<String>() + ".").collect()
}

fn of_setup(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".parts").join(path);
    assert!(path.exists(), "{} is missing: run scripts/setup", path.display());
    path
}

fn printed(command: &mut Command) -> BTreeMap<String, Option<String>> {
    let done = command.output().expect("run a reader");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("what it read, as JSON")
}

fn read_by_node(file: &Path) -> BTreeMap<String, Option<String>> {
    let script = "console.log(JSON.stringify(require(process.argv[1]).parse(require('fs').readFileSync(process.argv[2]))))";
    printed(Command::new("node").args(["-e", script]).arg(of_setup("dotenv/node_modules/dotenv")).arg(file))
}

fn read_by_python(file: &Path) -> BTreeMap<String, Option<String>> {
    let script = "import sys, json, dotenv; print(json.dumps(dotenv.dotenv_values(sys.argv[1])))";
    printed(Command::new(of_setup("venv/bin/python")).args(["-c", script]).arg(file))
}

#[tokio::test]
async fn an_app_reads_back_every_byte_of_its_variables_or_the_log_names_the_variable() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", DOCKERFILE)]);
    let combinations = combinations();
    let mut job = Job::of(&repository);
    let mut wanted: Vec<(String, &str)> = Vec::new();
    let all = EXACT.iter().copied().chain(FOR_NODE.iter().copied()).chain(FOR_NOBODY.iter().copied());
    for (i, value) in all.chain(combinations.iter().map(String::as_str)).enumerate() {
        let key = format!("KEY_{i}");
        job = job.env(&key, value);
        wanted.push((key, value));
    }
    rig.push(&job).await;
    let end = rig.built(&job).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(".env");
    std::fs::write(&file, rig.engine.run(&end.image).await).expect("write the file");

    let (node, python) = (read_by_node(&file), read_by_python(&file));
    assert_eq!(node.len(), wanted.len(), "nothing is read that the job does not have");
    let named = EXACT.len()..EXACT.len() + FOR_NODE.len() + FOR_NOBODY.len();
    for (i, (key, value)) in wanted.iter().enumerate() {
        let for_nobody = (named.end - FOR_NOBODY.len()..named.end).contains(&i);
        assert!(for_nobody || node[key].as_deref() == Some(*value), "Node reads {:?} for {value:?}", node[key]);
        let for_both = i < EXACT.len() || i >= named.end && !value.contains(['\'', '\\']) && !value.contains("${");
        assert!(
            !for_both || python.get(key).is_some_and(|read| read.as_deref() == Some(*value)),
            "Python reads {:?} for {value:?}",
            python.get(key)
        );
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_variable_that_no_form_of_env_file_carries_is_named_in_one_warning_without_its_value() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", DOCKERFILE)]);
    for value in FOR_NODE.iter().chain(FOR_NOBODY) {
        let job = Job::of(&repository).env("PLAIN", "abc").env("ODD_ONE", value);
        rig.push(&job).await;
        rig.built(&job).await;
        let named: Vec<String> = warnings(&rig, &job).into_iter().filter(|line| line.contains("ODD_ONE")).collect();
        assert_eq!(named.len(), 1, "{value:?}: {named:?}");
        assert!(!named[0].contains(*value), "{named:?}");
    }
    let job =
        Job::of(&repository).env("PLAIN", "abc").env("JSON", SERVICE_ACCOUNT).env("TWICE", "1").env("TWICE", "2").env("A B", "x");
    rig.push(&job).await;
    let end = rig.built(&job).await;
    let told = warnings(&rig, &job);
    assert!(told.iter().any(|line| line.contains("more than once") && line.contains("TWICE")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("Left out of .env") && line.contains("\"A…\"")), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("JSON")), "{told:?}");
    assert_eq!(rig.engine.run(&end.image).await, format!("PLAIN=abc\nJSON='{SERVICE_ACCOUNT}'\nTWICE=2\n"));
    rig.finish().await;
}
