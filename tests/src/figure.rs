//! Figures that a run prints, one per line, against what they should be:
//! `FIGURE <test>.<name>=<value> unit=<u> target=<op value> result=PASS|FAIL`.

use std::fmt;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Exactly this, or the run has failed.
    Is(f64),
    /// At least this, or the run has failed.
    AtLeast(f64),
    /// At most this, or the run has failed.
    AtMost(f64),
    /// It is printed for information: a machine may be slow, and a run is not wrong because of it.
    Informs,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    target: Target,
}

impl Figure {
    /// Whether it is what it should be.
    pub fn passes(&self) -> bool {
        match self.target {
            Target::Is(wanted) => (self.value - wanted).abs() < f64::EPSILON,
            Target::AtLeast(wanted) => self.value >= wanted,
            Target::AtMost(wanted) => self.value <= wanted,
            Target::Informs => true,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FIGURE {}={} unit={}", self.name, Number(self.value), self.unit)?;
        match self.target {
            Target::Is(wanted) => write!(f, " target=={}", Number(wanted))?,
            Target::AtLeast(wanted) => write!(f, " target=>={}", Number(wanted))?,
            Target::AtMost(wanted) => write!(f, " target=<={}", Number(wanted))?,
            Target::Informs => return f.write_str(" target=none result=INFO"),
        }
        f.write_str(if self.passes() { " result=PASS" } else { " result=FAIL" })
    }
}

/// Whole numbers without a point, others with what matters of them.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.fract() == 0.0 { write!(f, "{:.0}", self.0) } else { write!(f, "{:.3}", self.0) }
    }
}

/// The figures of one test. Each is printed as it comes.
#[derive(Debug)]
pub struct Figures {
    test: String,
    failed: Vec<String>,
}

impl Figures {
    /// Of the test with this name.
    pub fn of(test: &str) -> Self {
        Self { test: test.to_owned(), failed: Vec::new() }
    }

    /// Prints one more.
    pub fn print(&mut self, name: &str, value: f64, unit: &'static str, target: Target) {
        let figure = Figure { name: format!("{}.{name}", self.test), value, unit, target };
        #[expect(clippy::print_stdout, reason = "figures are what a run is for")]
        {
            println!("{figure}");
        }
        if !figure.passes() {
            self.failed.push(figure.to_string());
        }
    }

    /// Ends the test.
    ///
    /// # Panics
    /// When a figure is not what it should be.
    pub fn conclude(self) {
        assert!(self.failed.is_empty(), "figures off their targets:\n{}", self.failed.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, target: Target) -> Figure {
        Figure { name: "crashes.lost".to_owned(), value, unit: "messages", target }
    }

    #[test]
    fn a_figure_is_one_line_that_says_what_it_should_be() {
        let line = |value, target| figure(value, target).to_string();
        assert_eq!(line(0.0, Target::Is(0.0)), "FIGURE crashes.lost=0 unit=messages target==0 result=PASS");
        assert!(line(1.0, Target::Is(0.0)).ends_with("target==0 result=FAIL"));
        assert!(line(2.5, Target::AtLeast(3.0)).ends_with("=2.500 unit=messages target=>=3 result=FAIL"));
        assert!(line(2.5, Target::AtMost(3.0)).ends_with("target=<=3 result=PASS"));
        assert!(line(2.5, Target::Informs).ends_with("target=none result=INFO"));
    }
}
