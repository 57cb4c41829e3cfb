//! The one way to say on the wire what went wrong, and to read what another service said.
//!
//! A fault becomes a `google.rpc.Status` with exactly one `ErrorInfo` (reason, domain `parlor`, metadata for every
//! variable in the text), plus `BadRequest` for fields and `RetryInfo` when waiting helps.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The domain of every reason.
pub const DOMAIN: &str = "parlor";

/// The reason for which a service does not let another service in.
const NOT_ADMITTED: &str = "ERROR_REASON_NOT_ADMITTED";

/// What went wrong, ready for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    code: Code,
    reason: String,
    message: String,
    metadata: HashMap<String, String>,
    fields: Vec<(String, String)>,
    retry_after: Option<Duration>,
}

impl Fault {
    /// A fault with the code that tells the caller what to do, and the reason from the service's `ErrorReason`.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: String::new(),
            metadata: HashMap::new(),
            fields: Vec::new(),
            retry_after: None,
        }
    }

    /// Something is wrong with us and not with the request. Log the cause where it is known; the caller is told nothing.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "ERROR_REASON_INTERNAL").message("something went wrong on our side")
    }

    /// Something this service needs is not there at the moment; the same request may work soon.
    pub fn unavailable(what: &str) -> Self {
        Self::new(Code::Unavailable, "ERROR_REASON_UNAVAILABLE")
            .message(format!("{what} is not available at the moment"))
            .retry_after(Duration::from_secs(1))
    }

    /// A field breaks a rule.
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD").field(field, rule)
    }

    /// Sets the sentence for the developer who reads it.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Adds a variable of the sentence.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Adds a field and the rule that it breaks.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, rule: impl Into<String>) -> Self {
        self.fields.push((field.into(), rule.into()));
        self
    }

    /// Says that waiting so long helps.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Reads what another service said. A status without an `ErrorInfo` (from a transport, say) has an empty reason.
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            fields: details
                .bad_request()
                .map(|bad| {
                    bad.field_violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect()
                })
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }

    /// What another service has answered to a question of ours, as the one is told for whom we asked. A refusal with a reason
    /// is passed on with it. Only what was not answered at all is unavailable. What is about us (we are not let in, or not
    /// understood) and what went wrong there is internal: waiting does not help.
    pub fn of_neighbour(name: &str, status: &Status) -> Self {
        let said = Self::of(status);
        match said.code {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                let unavailable = Self::unavailable(name);
                Self { retry_after: said.retry_after.or(unavailable.retry_after), ..unavailable }
            }
            // We are refused, and not the one for whom we ask.
            Code::PermissionDenied if said.reason == NOT_ADMITTED => Self::internal(),
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
                if !said.reason.is_empty() =>
            {
                said
            }
            _ => Self::internal(),
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The reason's name, such as `ERROR_REASON_SLOW_MODE`; empty when none was said.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The sentence for the developer.
    pub fn text(&self) -> String {
        if !self.message.is_empty() {
            return self.message.clone();
        }
        match self.fields.first() {
            Some((field, rule)) => format!("{field} {rule}"),
            None => self.reason.trim_start_matches("ERROR_REASON_").replace('_', " ").to_lowercase(),
        }
    }

    /// The variables of the sentence.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// The fields and the rules that they break.
    pub fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    /// How long to wait, when waiting helps.
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let text = fault.text();
        let mut details = ErrorDetails::new();
        details.set_error_info(fault.reason, DOMAIN, fault.metadata);
        if !fault.fields.is_empty() {
            let violations = fault.fields.into_iter().map(|(field, rule)| FieldViolation::new(field, rule));
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        if let Some(wait) = fault.retry_after {
            details.set_retry_info(Some(wait));
        }
        Status::with_error_details(fault.code, text, details)
    }
}

/// The name of a gRPC code, as the specification spells it, such as `NOT_FOUND`.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_what_is_read() {
        let fault = Fault::new(Code::ResourceExhausted, "ERROR_REASON_SLOW_MODE")
            .message("wait 3 s")
            .with("seconds", 3)
            .retry_after(Duration::from_secs(3));
        assert_eq!(Fault::of(&Status::from(fault.clone())), fault);
    }

    #[test]
    fn what_a_neighbour_refuses_is_passed_on_and_only_what_it_does_not_answer_is_unavailable() {
        let of = |status: &Status| Fault::of_neighbour("messaging", status);
        for code in [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::FailedPrecondition,
            Code::ResourceExhausted,
            Code::Aborted,
            Code::OutOfRange,
        ] {
            let refusal = Fault::new(code, "ERROR_REASON_X").message("no").with("id", 7);
            assert_eq!(of(&refusal.clone().into()), refusal);
            // Without a reason it does not come from a service of ours.
            assert_eq!(of(&Status::new(code, "/var/lib")), Fault::internal());
        }
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled] {
            assert_eq!(of(&Status::new(code, "10.0.0.7")), Fault::unavailable("messaging"));
        }
        let wait = Duration::from_secs(9);
        let busy = Fault::new(Code::Unavailable, "ERROR_REASON_OVERLOADED").retry_after(wait);
        assert_eq!(of(&busy.into()), Fault::unavailable("messaging").retry_after(wait));
        for code in
            [Code::Internal, Code::DataLoss, Code::Unknown, Code::Unimplemented, Code::Unauthenticated]
        {
            assert_eq!(of(&Fault::new(code, "ERROR_REASON_X").into()), Fault::internal());
        }
        assert_eq!(of(&Fault::new(Code::PermissionDenied, NOT_ADMITTED).into()), Fault::internal());
    }

    #[test]
    fn a_field_fault_reads_as_a_sentence() {
        let status = Status::from(Fault::invalid("page_token", "must come from the same list"));
        assert_eq!(status.message(), "page_token must come from the same list");
        assert_eq!(Fault::of(&status).fields().len(), 1);
    }

    #[test]
    fn a_bare_status_has_no_reason() {
        assert_eq!(Fault::of(&Status::unavailable("gone")).reason(), "");
    }
}
