//! PURE: how `slipway listen` shows what it hears.

use std::fmt::Write;

use super::board::{Event, Status};
use crate::protocol::{DeploymentId, LogType};
use crate::report::terminal::{harmless, harmless_lines};

/// Told apart on dark and on light ground; red and yellow are left to errors and warnings.
const COLOURS: [u8; 8] = [36, 35, 34, 32, 96, 95, 94, 92];

/// Renders events as lines of a terminal, or plainly where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    pub colours: bool,
}

impl Screen {
    /// Whole lines, each with the deployment's prefix. `number` decides the colour.
    pub fn render(self, id: &DeploymentId, number: usize, event: &Event) -> String {
        let mut out = String::new();
        match event {
            Event::Status { status, image, error } => {
                let mut line = self.painted(status_colour(*status), status.as_str());
                for detail in [image, error].into_iter().flatten() {
                    line.push(' ');
                    line.push_str(&harmless(&detail.replace('\n', " ")));
                }
                self.line(&mut out, id, number, '*', &line);
            }
            Event::Log { kind, text } => {
                for text in harmless_lines(text) {
                    self.line(&mut out, id, number, log_mark(*kind), &self.painted(log_colour(*kind), &text));
                }
            }
            Event::Missed { events } => {
                self.line(&mut out, id, number, '*', &self.painted("33", &format!("{events} events are missing here")));
            }
        }
        out
    }

    fn line(self, out: &mut String, id: &DeploymentId, number: usize, mark: char, text: &str) {
        let prefix = format!("{:<20} {mark}", id.as_str());
        let colour = COLOURS[number % COLOURS.len()].to_string();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{} {text}", self.painted(&colour, &prefix));
    }

    fn painted(self, colour: &str, text: &str) -> String {
        if self.colours && !colour.is_empty() { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn status_colour(status: Status) -> &'static str {
    match status {
        Status::Builded | Status::Deployed => "1;32",
        Status::Failed => "1;31",
        Status::Cancelled => "1;33",
        Status::Pending | Status::Building | Status::Deploying => "1",
    }
}

/// Warnings and errors are found without colours too.
fn log_mark(kind: LogType) -> char {
    match kind {
        LogType::Stdout | LogType::Stderr | LogType::Info => '|',
        LogType::Warning => 'W',
        LogType::Error => 'E',
    }
}

fn log_colour(kind: LogType) -> &'static str {
    match kind {
        LogType::Stdout | LogType::Stderr => "",
        LogType::Info => "2",
        LogType::Warning => "33",
        LogType::Error => "31",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> DeploymentId {
        DeploymentId::parse("dpl_8f3k2").unwrap()
    }

    #[test]
    fn every_line_of_a_post_has_its_deployment_in_front() {
        let event = Event::Log { kind: LogType::Stdout, text: "one\ntwo\n".into() };
        let out = Screen { colours: false }.render(&id(), 0, &event);
        assert_eq!(out, "dpl_8f3k2            | one\ndpl_8f3k2            | two\n");
    }

    #[test]
    fn a_warning_and_an_error_have_a_mark_where_there_are_no_colours() {
        let shown = |kind| Screen { colours: false }.render(&id(), 0, &Event::Log { kind, text: "one\ntwo".into() });
        assert_eq!(shown(LogType::Warning), "dpl_8f3k2            W one\ndpl_8f3k2            W two\n");
        assert_eq!(shown(LogType::Error), "dpl_8f3k2            E one\ndpl_8f3k2            E two\n");
    }

    #[test]
    fn a_status_is_one_line_with_the_image() {
        let image = Some("127.0.0.1:5000/svc:dpl-1@sha256:00".to_owned());
        let event = Event::Status { status: Status::Builded, image, error: None };
        let out = Screen { colours: false }.render(&id(), 0, &event);
        assert_eq!(out, "dpl_8f3k2            * BUILDED 127.0.0.1:5000/svc:dpl-1@sha256:00\n");
    }

    #[test]
    fn what_others_wrote_cannot_command_the_terminal() {
        let error = Some("a\u{1b}[2J\ndpl_other * BUILDED".to_owned());
        let out = Screen { colours: true }.render(&id(), 3, &Event::Status { status: Status::Failed, image: None, error });
        assert_eq!(out.lines().count(), 1);
        assert!(!out.contains("\u{1b}[2J") && out.contains("\u{1b}[1;31mFAILED"), "{out:?}");
    }
}
