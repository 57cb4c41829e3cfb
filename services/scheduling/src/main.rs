//! Scheduling as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::host::main(scheduling::NAME, scheduling::launch)
}
