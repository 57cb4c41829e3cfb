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
