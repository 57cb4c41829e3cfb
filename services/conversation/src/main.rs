//! Conversation as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::host::main(conversation::NAME, conversation::launch)
}
