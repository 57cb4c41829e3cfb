//! Ids in the forms of dialects: the UUID with hyphens, or the same number in base62, a *uid* of 22 digits.

use chassis::fault::Fault;
use proto::id::{ConversationId, MessageId, UserId};
use uuid::Uuid;

/// The digits of base62, most significant first.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The number of digits of a uid: 62^22 is more than 2^128.
const UID_LEN: usize = 22;

/// Returns the uid of an id.
pub(crate) fn uid(id: Uuid) -> String {
    let mut rest = id.as_u128();
    let mut digits = [b'0'; UID_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// Reads a uid. A text of that form counts only when it decodes to a UUIDv7: any other may be a name.
pub(crate) fn parse_uid(text: &str) -> Option<Uuid> {
    if text.len() != UID_LEN {
        return None;
    }
    let mut number: u128 = 0;
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        number = number.checked_mul(62)?.checked_add(digit as u128)?;
    }
    let id = Uuid::from_u128(number);
    (id.get_version_num() == 7).then_some(id)
}

/// Reads an id in either form.
pub(crate) fn parse(text: &str) -> Option<Uuid> {
    match UserId::parse(text) {
        Ok(id) => Some(id.uuid()),
        Err(_) => parse_uid(text),
    }
}

/// Returns the user that a field names.
pub(crate) fn user(field: &str, text: &str) -> Result<UserId, Fault> {
    parse(text).map(UserId::from).ok_or_else(|| Fault::invalid(field, "must be the id of a user"))
}

/// Returns the conversation that a field names.
pub(crate) fn conversation(field: &str, text: &str) -> Result<ConversationId, Fault> {
    parse(text)
        .map(ConversationId::from)
        .ok_or_else(|| Fault::invalid(field, "must be the id of a conversation"))
}

/// Returns the message that a field names.
pub(crate) fn message(field: &str, text: &str) -> Result<MessageId, Fault> {
    parse(text).map(MessageId::from).ok_or_else(|| Fault::invalid(field, "must be the id of a message"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uid_is_the_number_in_base62() {
        assert_eq!(uid(Uuid::nil()), "0".repeat(22));
        assert_eq!(uid(Uuid::from_u128(61)), format!("{}z", "0".repeat(21)));
        assert_eq!(uid(Uuid::max()), "7n42DGM5Tflk9n8mt7Fhc7");
    }

    #[test]
    fn both_forms_name_the_same_user() {
        let id = UserId::generate();
        assert_eq!(user("user", &id.to_string()), Ok(id));
        assert_eq!(user("user", &uid(id.uuid())), Ok(id));
    }

    #[test]
    fn other_texts_are_no_ids() {
        let random = Uuid::from_u128(0x936d_a01f_9abd_4d9d_80c7_02af_85c8_22a8);
        for text in ["", "1", "ann", &uid(random), &"z".repeat(22), &"é".repeat(11)] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&random.to_string()), Some(random));
    }

    proptest! {
        #[test]
        fn a_uid_survives_being_written_and_read(number: u128) {
            let mut bytes = number.to_be_bytes();
            bytes[6] = 0x70 | (bytes[6] & 0x0f);
            let id = Uuid::from_bytes(bytes);
            prop_assert_eq!(parse_uid(&uid(id)), Some(id));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}") {
            let _ = parse(&text);
        }
    }
}
