//! What we tell auth: that two people had a call, so that they may review each other.

use std::time::Duration;

use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::auth::v1::review_service_client::ReviewServiceClient;
use proto::auth::v1::{AcquaintanceKind, RecordAcquaintanceRequest};
use proto::id::UserId;
use tonic::{Code, Status};

use crate::messaging::Outcome;
use crate::timer::Setback;

/// As long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A call that was had stays one, so that there is one version.
const VERSION: i64 = 1;

/// Auth, as far as we need it here.
#[derive(Clone)]
pub struct Acquaintances {
    client: ReviewServiceClient<Transport>,
    credential: ServiceCredential,
}

impl Acquaintances {
    /// Tells auth over this transport, as the service with this credential.
    pub fn new(auth: Transport, credential: ServiceCredential) -> Self {
        Self { client: ReviewServiceClient::new(auth), credential }
    }

    /// Writes down that two people had a call. `None` when it is written down, or cannot be any more because one of them
    /// is gone; otherwise what to do about it.
    pub async fn record(&self, users: [UserId; 2]) -> Option<Outcome> {
        let message = RecordAcquaintanceRequest {
            user_ids: users.map(|user| user.to_string()).to_vec(),
            kind: AcquaintanceKind::Call.into(),
            ended: false,
            version: VERSION,
        };
        let mut request = as_service(message, &self.credential, None);
        request.set_timeout(PATIENCE);
        match self.client.clone().record_acquaintance(request).await {
            Ok(_) => None,
            Err(status) => judge(&status),
        }
    }
}

fn judge(status: &Status) -> Option<Outcome> {
    let fault = Fault::of(status);
    let is_ours = match fault.code() {
        Code::NotFound | Code::FailedPrecondition => return None,
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::InvalidArgument
        | Code::Internal => true,
        _ => false,
    };
    let why = format!("auth: {:?} {} {}", fault.code(), fault.reason(), fault.text());
    // To say it twice is to say it once.
    Some(Outcome::Again { setback: Setback::Away, why, is_ours })
}
