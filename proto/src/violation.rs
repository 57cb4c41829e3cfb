//! What is wrong with a message that came in, and how that is said.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// The `reason` of every status that this crate makes: each service's `ErrorReason` has it.
const REASON: &str = "ERROR_REASON_INVALID_FIELD";

/// The `domain` of every status that this crate makes.
const DOMAIN: &str = "parlor";

/// As many violations are told at once; a status travels in headers, and those are small.
pub(crate) const MOST_VIOLATIONS: usize = 20;

/// A field that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the words of the contract, such as `heads[3].conversation_id`.
    pub field: String,
    /// What must hold, such as `must be a UUID`.
    pub rule: String,
}

/// A message that can come in: the codec looks at it before anyone else does.
pub trait Incoming {
    /// Whether it is what a caller sends; otherwise it is what one of our services answers.
    const REQUEST: bool = true;

    /// The rules that it breaks, at most 20 of them. Answers break none: whoever sent them is trusted, and an older
    /// caller must be able to read the answers of a newer service.
    fn check(&self) -> Vec<Violation>;
}

/// The refusal of a request that breaks rules: `INVALID_ARGUMENT` with the reason `ERROR_REASON_INVALID_FIELD` and a
/// `BadRequest` that names each field.
pub fn invalid(mut violations: Vec<Violation>) -> Status {
    violations.truncate(MOST_VIOLATIONS);
    let message = match violations.as_slice() {
        [] => "the request breaks a rule".to_owned(),
        [Violation { field, rule }] => format!("{field} {rule}"),
        [Violation { field, rule }, others @ ..] => {
            format!("{field} {rule} (and {} more)", others.len())
        }
    };
    let mut details = reason();
    details.set_bad_request(
        violations
            .into_iter()
            .map(|Violation { field, rule }| FieldViolation::new(field, rule))
            .collect::<Vec<_>>(),
    );
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The refusal of bytes that are no such message.
pub(crate) fn undecodable(error: &prost::DecodeError) -> Status {
    Status::with_error_details(
        Code::InvalidArgument,
        format!("the request cannot be read: {error}"),
        reason(),
    )
}

fn reason() -> ErrorDetails {
    ErrorDetails::with_error_info(REASON, DOMAIN, [])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(field: &str) -> Violation {
        Violation { field: field.to_owned(), rule: "must be set".to_owned() }
    }

    #[test]
    fn a_refusal_names_reason_and_fields() {
        let status = invalid(vec![violation("content"), violation("target")]);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "content must be set (and 1 more)");

        let details = status.get_error_details();
        let info = details.error_info();
        assert_eq!(info.map(|info| info.reason.as_str()), Some("ERROR_REASON_INVALID_FIELD"));
        assert_eq!(info.map(|info| info.domain.as_str()), Some("parlor"));
        let fields =
            details.bad_request().map(|request| request.field_violations.as_slice()).unwrap_or_default();
        let fields =
            fields.iter().map(|violation| (violation.field.as_str(), violation.description.as_str()));
        assert_eq!(fields.collect::<Vec<_>>(), [("content", "must be set"), ("target", "must be set")]);
    }

    #[test]
    fn a_refusal_fits_into_headers() {
        let status =
            invalid((0..10_000).map(|index| violation(&format!("heads[{index}].conversation_id"))).collect());
        assert!(status.details().len() < 4096, "{} bytes", status.details().len());
    }
}
