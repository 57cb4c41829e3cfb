//! The stories: what people do with Parlor, through its public doors, in both shapes.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests: what cannot go on ends them, and they say why"
)]

mod accounts;
mod allo;
mod auditing;
mod away;
mod bad_input;
mod balanced;
mod booking;
mod bus;
mod calling;
mod chats;
mod codes;
mod connecting;
mod container;
mod editing;
mod ephemeral;
mod external;
mod files;
mod finding;
mod grpc;
mod http_rules;
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
mod rates;
mod reading;
mod reviewing;
mod scheduling;
mod secure;
mod sending;
mod sessions;
mod sse;
mod streams;
mod talkamie;
mod traces;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use tests::trial::{self, Story, Worlds};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Stories wait for processes that share this machine: more than these are in each other's way.
    arguments.test_threads.get_or_insert(4);
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let worlds = Arc::new(Worlds::default());
    let stories: Vec<Story> = [
        accounts::all(),
        allo::all(),
        auditing::all(),
        away::all(),
        bad_input::all(),
        balanced::all(),
        booking::all(),
        bus::all(),
        calling::all(),
        chats::all(),
        codes::all(),
        connecting::all(),
        container::all(),
        editing::all(),
        ephemeral::all(),
        external::all(),
        files::all(),
        finding::all(),
        grpc::all(),
        http_rules::all(),
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
        rates::all(),
        reading::all(),
        reviewing::all(),
        scheduling::all(),
        secure::all(),
        sending::all(),
        sessions::all(),
        sse::all(),
        streams::all(),
        talkamie::all(),
        traces::all(),
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
