//! What we ask of auth about people: who has an account, what they are called, where their clocks are, and how much they
//! want to be called.

use std::time::Duration;

use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::auth::v1 as pb;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::id::UserId;
use tonic::Code;

use crate::calendar::error::Refusal;
use crate::calendar::limits::Limits;
use crate::calendar::zone::Zone;
use crate::error::Error;

/// Auth, as far as calendars need it.
#[derive(Clone)]
pub struct People {
    client: UserServiceClient<Transport>,
    credential: ServiceCredential,
}

/// Somebody with an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub id: UserId,
    /// The name that people see.
    pub name: String,
    /// The time zone of the profile; UTC when it says none that we know.
    pub zone: Zone,
    /// How much it wants to be called.
    pub limits: Limits,
}

impl People {
    /// Asks auth over this transport, as the service with this credential.
    pub fn new(auth: Transport, credential: ServiceCredential) -> Self {
        Self { client: UserServiceClient::new(auth), credential }
    }

    /// Somebody with an account; guests have none.
    pub async fn get(&self, id: UserId) -> Result<Person, Error> {
        let user = self.user(id).await?;
        let has_account = user.kind() == pb::UserKind::Registered && user.delete_time.is_none();
        if !has_account {
            return Err(Refusal::UserNotFound(id).into());
        }
        Ok(person(id, user))
    }

    /// Somebody who may have no account, or none any more.
    pub async fn anybody(&self, id: UserId) -> Result<Person, Error> {
        match self.user(id).await {
            Ok(user) => Ok(person(id, user)),
            Err(Error::Calendar(Refusal::UserNotFound(_))) => {
                Ok(Person { id, name: String::new(), zone: Zone::utc(), limits: Limits::default() })
            }
            Err(error) => Err(error),
        }
    }

    async fn user(&self, id: UserId) -> Result<pb::User, Error> {
        let message = pb::GetUserRequest { user_id: id.to_string() };
        // In the person's own name: when it is free is the person's own word, whoever else may see the profile.
        let request = as_service(message, &self.credential, Some(id));
        let answer = self.client.clone().get_user(request).await;
        match answer {
            Ok(answer) => answer.into_inner().user.ok_or(Error::Misunderstood("auth has told of nobody")),
            Err(status) => match Fault::of(&status).code() {
                Code::NotFound => Err(Refusal::UserNotFound(id).into()),
                _ => Err(Error::Neighbour { service: "auth", source: Box::new(status) }),
            },
        }
    }
}

fn person(id: UserId, user: pb::User) -> Person {
    let zone = Zone::parse(&user.time_zone).unwrap_or_else(Zone::utc);
    let limits = limits(user.call_preferences.unwrap_or_default());
    Person { id, name: user.display_name, zone, limits }
}

fn limits(said: pb::CallPreferences) -> Limits {
    let seconds = said.max_duration.and_then(|longest| u64::try_from(longest.seconds).ok());
    Limits {
        longest: seconds.map(Duration::from_secs),
        per_day: u32::try_from(said.max_calls_per_day).ok().filter(|most| *most > 0),
    }
}
