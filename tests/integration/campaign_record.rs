//! The judgement that the campaign stands on: what it takes for the truth, and what it does not.

#[path = "../campaign/record.rs"]
#[allow(dead_code, reason = "the campaign's")]
mod record;

use std::time::{Duration, Instant};

use record::{Circumstances, Told, Verdict, What, judge};

struct Script {
    began: Instant,
    told: Vec<Told>,
}

impl Script {
    fn new() -> Self {
        Self { began: Instant::now(), told: Vec::new() }
    }
    fn at(&self, second: u64) -> Instant {
        self.began + Duration::from_secs(second)
    }
    fn status(mut self, second: u64, status: &str) -> Self {
        let image = if status == "BUILDED" { "r/s:d-1@sha256:a" } else { "" };
        let what = What::Status { status: status.into(), error: String::new(), image: image.into() };
        self.told.push(Told { what, at: self.at(second) });
        self
    }
    fn lines(mut self, second: u64, run: &str, numbers: std::ops::Range<usize>) -> Self {
        let text: Vec<String> = numbers.map(|n| format!("{run} line {n}")).collect();
        self.told.push(Told { what: What::Log(text.join("\n")), at: self.at(second) });
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
