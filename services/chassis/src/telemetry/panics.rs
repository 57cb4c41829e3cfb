//! What a panic writes to the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

/// From now on a panic is a line of the log, with the trace of its request. Its message is shown only when it is a text
/// of the program itself: one that was put together at run time may quote what a person wrote.
pub(super) fn report() {
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let message = message(info);
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(code.location = location, "panicked at {location}: {message}\n{backtrace}");
        } else {
            tracing::error!(code.location = location, "panicked at {location}: {message}");
        }
    }));
}

fn message(info: &PanicHookInfo<'_>) -> &'static str {
    info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(a message that is not shown)")
}
