//! Background checks on the wire.

use chassis::clock::Timestamp;
use proto::auth::v1 as pb;
use proto::id::BackgroundCheckId;
use uuid::Uuid;

use crate::background_check::{BackgroundCheck, Finding, Particulars, Reference, Report, State};
use crate::error::Error;

/// What somebody says who wants to be checked, and under which id.
pub fn request(
    request: &pb::RequestBackgroundCheckRequest,
    now: Timestamp,
) -> Result<(Uuid, Particulars), Error> {
    let request_id =
        Uuid::try_parse(&request.request_id).map_err(|_| Error::invalid("request_id", "must be a UUID"))?;
    let names = [request.first_name.as_str(), &request.last_name, &request.region];
    Ok((request_id, Particulars::parse(names, &request.date_of_birth, &request.links, now)?))
}

impl TryFrom<pb::ReportBackgroundCheckRequest> for Report {
    type Error = Error;

    fn try_from(request: pb::ReportBackgroundCheckRequest) -> Result<Self, Error> {
        let id = BackgroundCheckId::parse(&request.check_id);
        Ok(Self {
            id: id.map_err(|_| Error::invalid("check_id", "must be a UUID"))?,
            finding: match request.outcome() {
                pb::BackgroundCheckOutcome::Unspecified => {
                    return Err(Error::invalid("outcome", "must be set"));
                }
                pb::BackgroundCheckOutcome::Clear => Finding::Clear,
                pb::BackgroundCheckOutcome::Consider => Finding::Consider,
                pb::BackgroundCheckOutcome::Failed => Finding::Failed,
            },
            reference: Reference::parse(&request.reference)?,
            timestamp: request.timestamp,
            signature: request.signature,
        })
    }
}

impl From<BackgroundCheck> for pb::BackgroundCheck {
    fn from(check: BackgroundCheck) -> Self {
        let state = match check.state {
            State::Pending => pb::BackgroundCheckState::Pending,
            State::Submitted => pb::BackgroundCheckState::Submitted,
            State::Clear => pb::BackgroundCheckState::Clear,
            State::Consider => pb::BackgroundCheckState::Consider,
            State::Failed => pb::BackgroundCheckState::Failed,
            State::Expired => pb::BackgroundCheckState::Expired,
        };
        Self {
            check_id: check.id.to_string(),
            state: state.into(),
            reference: check.reference,
            create_time: Some(check.create_time.to_proto()),
            update_time: Some(check.update_time.to_proto()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_signed_by_its_name_on_the_wire() {
        for (finding, outcome) in [
            (Finding::Clear, pb::BackgroundCheckOutcome::Clear),
            (Finding::Consider, pb::BackgroundCheckOutcome::Consider),
            (Finding::Failed, pb::BackgroundCheckOutcome::Failed),
        ] {
            assert_eq!(finding.name(), outcome.as_str_name());
        }
    }
}
