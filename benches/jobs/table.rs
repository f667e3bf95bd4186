//! The table: what was measured, what it was to be, and whether it is.

use std::fmt;
use std::time::Duration;

/// One line of the table.
struct Row {
    what: String,
    measured: String,
    goal: String,
    verdict: String,
}

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// A ratio of our time to the script's, at most `goal`.
    pub fn ratio(&mut self, what: &str, ours: Duration, script: Duration, goal: f64) {
        let ratio = ours.as_secs_f64() / script.as_secs_f64();
        let measured = format!("{} : {} = {ratio:.3}", milliseconds(ours), milliseconds(script));
        self.push(what, measured, format!("<= {goal} x script"), verdict(ratio, goal));
    }

    /// A figure in a unit, at most `goal`.
    pub fn at_most(&mut self, what: &str, figure: f64, goal: f64, unit: &str) {
        self.push(what, format!("{figure:.1} {unit}"), format!("<= {goal} {unit}"), verdict(figure, goal));
    }

    /// A figure in a unit, at least `goal`.
    pub fn at_least(&mut self, what: &str, figure: f64, goal: f64, unit: &str) {
        self.push(what, format!("{figure:.0} {unit}"), format!(">= {goal} {unit}"), verdict(goal, figure));
    }

    /// A ratio without a goal, for the reader.
    pub fn beside(&mut self, what: &str, ours: Duration, script: Duration) {
        let ratio = ours.as_secs_f64() / script.as_secs_f64();
        let measured = format!("{} : {} = {ratio:.3}", milliseconds(ours), milliseconds(script));
        self.push(what, measured, String::new(), String::new());
    }

    /// Something without a goal, for the reader.
    pub fn note(&mut self, what: &str, measured: String) {
        self.push(what, measured, String::new(), String::new());
    }

    fn push(&mut self, what: &str, measured: String, goal: String, verdict: String) {
        // said at once too: a row that breaks later does not take the others with it
        println!("{what}: {measured}  {goal}  {verdict}");
        self.rows.push(Row { what: what.to_owned(), measured, goal, verdict });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<62} {:<34} {:<18} verdict", "what", "measured (medians; ours : script)", "goal")?;
        for Row { what, measured, goal, verdict } in &self.rows {
            writeln!(f, "{what:<62} {measured:<34} {goal:<18} {verdict}")?;
        }
        Ok(())
    }
}

fn verdict(figure: f64, goal: f64) -> String {
    if figure <= goal {
        "met".to_owned()
    } else if goal == 0.0 {
        format!("missed by {figure:.0}")
    } else {
        format!("missed by {:.0} %", (figure / goal - 1.0) * 100.0)
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

pub fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// The time that so many of a hundred do not exceed.
pub fn percentile(mut all: Vec<Duration>, percent: usize) -> Duration {
    all.sort();
    all[(all.len() * percent).div_ceil(100).clamp(1, all.len()) - 1]
}
