//! The judgement that the campaign stands on: what it takes for the truth, and what it does not.

#[path = "../campaign/owners.rs"]
#[allow(dead_code, reason = "the campaign's")]
mod owners;
#[path = "../campaign/record.rs"]
#[allow(dead_code, reason = "the campaign's")]
mod record;

use std::time::{Duration, Instant};

use owners::attempts;
use record::{Circumstances, Told, Verdict, What, judge};

struct Script {
    began: Instant,
    host: &'static str,
    told: Vec<Told>,
}

impl Script {
    fn new() -> Self {
        Self { began: Instant::now(), host: "one", told: Vec::new() }
    }
    fn at(&self, second: u64) -> Instant {
        self.began + Duration::from_secs(second)
    }
    fn status(self, second: u64, status: &str) -> Self {
        let image = if status == "BUILDED" { "r/s:d-1@sha256:a" } else { "" };
        let what = What::Status { status: status.into(), error: String::new(), image: image.into() };
        self.say(second, what)
    }
    fn lines(self, second: u64, run: &str, numbers: std::ops::Range<usize>) -> Self {
        let text: Vec<String> = numbers.map(|n| format!("{run} line {n}")).collect();
        self.say(second, What::Log(text.join("\n")))
    }
    fn line(self, second: u64, text: &str) -> Self {
        self.say(second, What::Log(text.into()))
    }
    fn say(mut self, second: u64, what: What) -> Self {
        self.told.push(Told { host: self.host.into(), what, at: self.at(second) });
        self
    }
    /// From here on it is this host that tells.
    fn by(mut self, host: &'static str) -> Self {
        self.host = host;
        self
    }
    fn judge(&self, disturbances: &[(Instant, Instant)]) -> Result<Verdict, String> {
        judge(&self.told, Circumstances { lines: 10, cancelled: false, disturbances, frozen: false })
    }
}

#[test]
fn a_whole_report_is_the_truth_and_one_without_an_end_or_with_missing_lines_is_not() {
    let begun = || Script::new().status(0, "BUILDING").lines(1, "r1", 0..6);
    let whole = begun().lines(2, "r1", 6..10).status(3, "BUILDED");
    assert_eq!(whole.judge(&[]).unwrap().status, "BUILDED");
    assert!(begun().judge(&[]).unwrap_err().contains("no end"));
    assert!(begun().status(3, "BUILDED").judge(&[]).unwrap_err().contains("up to 5 of 10"));
    assert!(begun().lines(2, "r1", 7..10).status(3, "BUILDED").judge(&[]).unwrap_err().contains("missing or out of order"));
    assert_eq!(begun().status(3, "FAILED").judge(&[]).unwrap().status, "FAILED");
}

#[test]
fn what_was_answered_comes_once_and_what_was_not_may_come_again() {
    let script = Script::new().status(0, "BUILDING").lines(1, "r1", 0..10).lines(20, "r1", 0..10).status(30, "BUILDED");
    assert!(script.judge(&[]).unwrap_err().contains("came again"));
    let repeated = script.judge(&[(script.at(2), script.at(3))]).unwrap();
    assert_eq!(repeated.repeats, 1);
    let script = script.status(50, "BUILDED");
    assert!(script.judge(&[(script.at(2), script.at(3))]).unwrap_err().contains("though it was answered"));
    assert_eq!(script.judge(&[(script.at(2), script.at(31))]).unwrap().repeats, 2);
    let half = Script::new().status(0, "BUILDING").lines(1, "r1", 0..10).lines(2, "r1", 5..10).status(3, "BUILDED");
    assert!(half.judge(&[(half.at(0), half.at(9))]).unwrap_err().contains("came again"), "a post comes again whole");
}

#[test]
fn a_status_after_the_end_is_a_contradiction() {
    let ended = || Script::new().status(0, "BUILDING").lines(1, "r1", 0..10).status(3, "BUILDED");
    for other in ["BUILDING", "FAILED", "CANCELLED", "PENDING"] {
        let script = ended().status(4, other);
        assert!(script.judge(&[(script.at(0), script.at(9))]).unwrap_err().contains("after the end"), "{other}");
    }
    let cancelled = Circumstances { lines: 10, cancelled: true, disturbances: &[], frozen: false };
    assert_eq!(judge(&ended().status(4, "CANCELLED").told, cancelled).unwrap().status, "CANCELLED");
    assert!(judge(&ended().status(4, "CANCELLED").status(5, "BUILDED").told, cancelled).is_err());
}

#[test]
fn only_the_reported_attempt_has_to_be_whole() {
    let script = Script::new().status(0, "BUILDING").lines(1, "r1", 0..4).status(2, "BUILDING").lines(3, "r2", 0..10);
    assert!(script.status(4, "BUILDED").judge(&[]).is_ok());
    let script = Script::new().status(0, "BUILDING").lines(1, "r1", 0..10).status(2, "BUILDING").lines(3, "r2", 0..4);
    assert!(script.status(4, "BUILDED").judge(&[]).is_err());
}

#[test]
fn one_host_at_a_time_speaks_for_a_deployment() {
    let first = || Script::new().status(0, "BUILDING").lines(1, "r1", 0..4);
    let hosts = |script: &Script| attempts(&script.told).map(|all| all.into_iter().map(|a| a.host).collect::<Vec<_>>());
    let over = || first().by("two").status(40, "BUILDING").lines(41, "r2", 0..10);
    assert_eq!(hosts(&over().status(50, "FAILED")).unwrap(), ["one", "two"]);
    assert!(hosts(&first().by("two").lines(2, "r2", 0..3)).unwrap_err().contains("two spoke"), "both at a time");
    assert!(hosts(&over().by("one").lines(42, "r1", 4..5)).unwrap_err().contains("one spoke"), "the older one goes on");
    assert!(hosts(&over().by("one").status(42, "FAILED")).unwrap_err().contains("one spoke"), "the older one's end");
    assert!(hosts(&over().lines(42, "r1", 4..5)).unwrap_err().contains("older attempt"), "whoever tells it");
    assert!(hosts(&over().status(50, "BUILDED")).unwrap_err().contains("image of attempt 1"));
}

#[test]
fn an_end_that_was_stored_is_told_by_another_host_that_says_so_first() {
    let stored = || Script::new().status(0, "BUILDING").lines(1, "r1", 0..10).by("two");
    let said = stored().line(40, "Attempt 1 ended on one, whose worker is gone: its last lines may be missing here.");
    let told = attempts(&said.status(41, "BUILDED").told).unwrap();
    assert_eq!(told.last().map(|a| (a.host.as_str(), a.builds)), Some(("two", false)));
    assert!(attempts(&stored().status(41, "BUILDED").told).unwrap_err().contains("two spoke"));
}
