//! The stories: what people do with Parlor, through its public doors, in both shapes.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests: what cannot go on ends them, and they say why"
)]

mod accounts;
mod allo;
mod away;
mod bad_input;
mod balanced;
mod booking;
mod calling;
mod chats;
mod codes;
mod connecting;
mod editing;
mod ephemeral;
mod external;
mod files;
mod finding;
mod grpc;
mod inbox;
mod kinds;
mod leaving;
mod marks;
mod meeting;
mod members;
mod messenger;
mod moderating;
mod operation;
mod operations;
mod playground;
mod playground_sockets;
mod production;
mod public;
mod reading;
mod reviewing;
mod scheduling;
mod secure;
mod sending;
mod sessions;
mod sse;
mod talkamie;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use tests::trial::{self, Story, Worlds};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let worlds = Arc::new(Worlds::default());
    let stories: Vec<Story> = [
        accounts::all(),
        allo::all(),
        away::all(),
        bad_input::all(),
        balanced::all(),
        booking::all(),
        calling::all(),
        chats::all(),
        codes::all(),
        connecting::all(),
        editing::all(),
        ephemeral::all(),
        external::all(),
        files::all(),
        finding::all(),
        grpc::all(),
        inbox::all(),
        kinds::all(),
        leaving::all(),
        marks::all(),
        meeting::all(),
        messenger::all(),
        members::all(),
        moderating::all(),
        operation::all(),
        operations::all(),
        playground::all(),
        playground_sockets::all(),
        production::all(),
        public::all(),
        reading::all(),
        reviewing::all(),
        scheduling::all(),
        secure::all(),
        sending::all(),
        sessions::all(),
        sse::all(),
        talkamie::all(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let conclusion = libtest_mimic::run(&arguments, trial::in_both_shapes(stories, &worlds, &runtime));
    let wrong = runtime.block_on(trial::stop(worlds));
    for line in &wrong {
        eprintln!("after the stories: {line}");
    }
    if conclusion.has_failed() || !wrong.is_empty() { ExitCode::from(101) } else { ExitCode::SUCCESS }
}
