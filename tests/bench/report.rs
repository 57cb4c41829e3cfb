//! What was measured, as lines for people or one JSON document for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::system::{System, Used};

/// What is known so far.
pub(crate) struct Report {
    as_json: bool,
    rows: Vec<Value>,
    limits: BTreeMap<&'static str, f64>,
}

/// One figure.
pub(crate) struct Row<'a> {
    /// The workload, such as `W1`.
    pub(crate) workload: &'a str,
    /// How Parlor ran.
    pub(crate) shape: &'a str,
    /// What was measured.
    pub(crate) name: &'a str,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// What it should be.
    pub(crate) aim: Option<f64>,
    /// The limits of the machine and the figures that it is related to, by their names.
    pub(crate) limits: &'a [&'static str],
}

impl Report {
    pub(crate) fn new(as_json: bool) -> Self {
        Self { as_json, rows: Vec::new(), limits: BTreeMap::new() }
    }

    /// A limit of the machine, which others can be related to.
    pub(crate) fn limit(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.limits.insert(name, value);
        self.row(Row { workload: "machine", shape: "-", name, value, unit, aim: None, limits: &[] });
    }

    /// A figure that was given as a row, which later ones can be related to.
    pub(crate) fn relate(&mut self, name: &'static str, value: f64) {
        self.limits.insert(name, value);
    }

    /// One more figure.
    pub(crate) fn row(&mut self, row: Row<'_>) {
        let Row { workload, shape, name, value, unit, aim, limits } = row;
        let share = |name: &&'static str| Some((*name, value / self.limits.get(name)?));
        let shares: BTreeMap<&str, f64> = limits.iter().filter_map(share).collect();
        if !self.as_json {
            let mut line = format!("{workload:8} {shape:10} {name:34} {:>12} {unit:14}", short(value));
            if let Some(aim) = aim {
                line.push_str(&format!(" aim {} ({:.2} of it)", short(aim), value / aim));
            }
            for (name, share) in &shares {
                line.push_str(&format!("; {share:.3} of {name}"));
            }
            print(line.trim_end());
        }
        self.rows.push(json!({
            "workload": workload, "shape": shape, "name": name, "value": value, "unit": unit, "aim": aim,
            "shares": shares,
        }));
    }

    /// What a stretch of work took of the machine, for each thousand of what was done.
    pub(crate) fn used(&mut self, workload: &str, system: &System, what: &str, used: &Used, done: f64) {
        let shape = system.variant.name();
        let each = |time: Duration| time.as_secs_f64() * 1000.0 / done.max(1.0);
        let rows = [
            ("processor, all of Parlor", each(used.parlor), "s/1000"),
            ("processor, load generator", each(used.own), "s/1000"),
            ("processor, others meanwhile", used.others, "cores"),
        ];
        for (name, value, unit) in rows {
            let aim = (workload == "W1" && name.ends_with("Parlor")).then_some(0.07);
            let name = format!("{name}{what}");
            self.row(Row { workload, shape, name: &name, value, unit, aim, limits: &[] });
        }
    }

    /// What the processes hold at this moment.
    pub(crate) fn memory(&mut self, workload: &str, system: &System) {
        let shape = system.variant.name();
        for (name, kib) in system.memory() {
            let name = format!("resident {name}");
            let value = kib as f64 / 1024.0;
            self.row(Row { workload, shape, name: &name, value, unit: "MiB", aim: None, limits: &[] });
        }
    }

    /// The end.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        if self.as_json {
            print(&serde_json::to_string_pretty(&self.rows)?);
        }
        Ok(())
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what the program is for")]
fn print(line: &str) {
    println!("{line}");
}

/// Says what goes on, aside from the figures.
#[expect(clippy::print_stderr, reason = "progress, for whoever waits")]
pub(crate) fn say(line: &str) {
    eprintln!("# {line}");
}
