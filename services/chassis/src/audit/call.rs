//! The contents of an entry of the audit log: ids from the request, and the user from the answer to a person who signs in.

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, Value};
use uuid::Uuid;

/// The most ids of one list.
const MAX_IDS: usize = 20;

/// The rpc with this path.
pub(super) fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    proto::pool().get_service_by_name(service)?.methods().find(|method| method.name() == name)
}

/// The ids and enumerations in an encoded request, such as `conversation_id=<id> role=MEMBER_ROLE_OWNER`. Other fields are
/// what people write, and are not kept.
pub(super) fn target(request: MessageDescriptor, encoded: &[u8]) -> String {
    let Ok(message) = DynamicMessage::decode(request, encoded) else { return String::new() };
    let mut parts = Vec::new();
    for (field, value) in message.fields() {
        match value {
            Value::String(text) => {
                parts.extend(id(text).map(|id| format!("{}={id}", field.name())));
            }
            Value::List(items) => {
                let ids = items.iter().filter_map(|item| id(item.as_str()?)).take(MAX_IDS);
                parts.extend(ids.map(|id| format!("{}={id}", field.name())));
            }
            Value::EnumNumber(number) => {
                let Kind::Enum(kind) = field.kind() else { continue };
                let name = kind.get_value(*number).map(|value| value.name().to_owned());
                parts.push(format!("{}={}", field.name(), name.unwrap_or_else(|| number.to_string())));
            }
            _ => {}
        }
    }
    parts.join(" ")
}

/// The user whom an encoded answer is about: that of its field `user`.
pub(super) fn user(answer: MessageDescriptor, encoded: &[u8]) -> Option<Uuid> {
    let message = DynamicMessage::decode(answer, encoded).ok()?;
    let user = message.get_field_by_name("user")?;
    let id = user.as_message()?.get_field_by_name("user_id")?;
    Uuid::try_parse(id.as_str()?).ok()
}

fn id(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok()
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::auth::v1::{LoginRequest, LoginResponse, User};
    use proto::conversation::v1::{MemberRole, SetMemberRoleRequest};
    use proto::id::{ConversationId, UserId};

    use super::*;

    #[test]
    fn ids_and_enumerations_are_kept_and_nothing_that_people_write() {
        let (conversation, user) = (ConversationId::generate(), UserId::generate());
        let set_role = method("/parlor.conversation.v1.ConversationService/SetMemberRole").unwrap();
        let request = SetMemberRoleRequest {
            conversation_id: conversation.to_string(),
            user_id: user.to_string(),
            role: MemberRole::Moderator.into(),
        };
        let kept = target(set_role.input(), &request.encode_to_vec());
        assert_eq!(kept, format!("conversation_id={conversation} user_id={user} role=MEMBER_ROLE_MODERATOR"));

        let login = method("/parlor.auth.v1.AuthService/Login").unwrap();
        let request =
            LoginRequest { login: "ann".to_owned(), password: "hush".to_owned(), ..Default::default() };
        assert_eq!(target(login.input(), &request.encode_to_vec()), "");
        let signed_in = User { user_id: user.to_string(), ..User::default() };
        let answer = LoginResponse { user: Some(signed_in), ..LoginResponse::default() };
        assert_eq!(self::user(login.output(), &answer.encode_to_vec()), Some(user.uuid()));
        assert_eq!(self::user(login.output(), &LoginResponse::default().encode_to_vec()), None);
        assert_eq!(target(login.input(), &[0xff]), "");
    }
}
