//! One type per kind of id, so that no id is taken for another. Each is a UUID (version 7 when made here), written with
//! hyphens in lower case.

use std::fmt;

use uuid::Uuid;

/// A text that is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID")
    }
}

impl std::error::Error for InvalidId {}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one. Ids made later compare greater, to the millisecond across processes.
            pub fn generate() -> Self {
                Self(generate())
            }

            /// Reads the form with hyphens, in either case; any version of UUID will do.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                parse(text).map(Self)
            }

            /// The bare UUID, for a database.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A user: an account.
    UserId;
    /// A session: one signed-in client of a user.
    SessionId;
    /// A conversation.
    ConversationId;
    /// A message.
    MessageId;
    /// An uploaded file.
    UploadId;
    /// The bytes of an uploaded file, as they came at one time.
    ObjectId;
    /// An alert: what a user should look at.
    AlertId;
    /// A message to be sent later.
    ScheduledMessageId;
    /// A call that is booked.
    ScheduleId;
    /// A fact in a service's outbox.
    EventId;
    /// The public key of a user's device.
    DeviceKeyId;
    /// A report of a message.
    ReportId;
    /// What one person thought of another.
    ReviewId;
    /// A request of one person to another.
    RequestId;
    /// A gateway, from its start on, or since it was not heard of for too long.
    GatewayId;
    /// A call of one person to another.
    CallId;
    /// Something to be done for a user outside of this program, such as a mail to send.
    ErrandId;
    /// A background check of a user.
    BackgroundCheckId;
    /// The positions of an event stream at one time.
    StreamCheckpointId;
}

#[expect(clippy::disallowed_methods, reason = "the one place where ids are made")]
fn generate() -> Uuid {
    Uuid::now_v7()
}

fn parse(text: &str) -> Result<Uuid, InvalidId> {
    // The parser of the library also takes braces, URNs and no hyphens.
    if text.len() != 36 {
        return Err(InvalidId);
    }
    Uuid::try_parse(text).map_err(|_| InvalidId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_written_and_read() {
        let id = MessageId::generate();
        assert_eq!(MessageId::parse(&id.to_string()), Ok(id));
        assert_eq!(MessageId::parse(&id.to_string().to_uppercase()), Ok(id));
        assert_eq!(MessageId::from(id.uuid()), id);
        assert_eq!(id.to_string().len(), 36);
    }

    #[test]
    fn ids_rise_with_time() {
        let ids = std::array::from_fn::<_, 100, _>(|_| EventId::generate());
        assert!(ids.is_sorted_by(|one, next| one < next));
        assert_eq!(ids[0].uuid().get_version_num(), 7);
    }

    #[test]
    fn other_forms_are_no_ids() {
        let id = UserId::generate();
        let simple = id.uuid().simple().to_string();
        let braced = id.uuid().braced().to_string();
        let urn = id.uuid().urn().to_string();
        for text in ["", "x", simple.as_str(), braced.as_str(), urn.as_str(), &format!(" {id}")] {
            assert_eq!(UserId::parse(text), Err(InvalidId), "{text}");
        }
    }
}
