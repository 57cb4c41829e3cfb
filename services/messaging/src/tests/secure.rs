//! Secure messages: whose signature is asked for, and what a conversation refuses that takes nothing else.

use ed25519_dalek::{Signer as _, SigningKey};
use proto::auth::v1::DeviceKey;
use proto::id::MessageId;
use proto::messaging::v1::content::Kind;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::*;

/// Somebody's device, which signs as the contract says.
struct Device {
    id: Uuid,
    key: SigningKey,
}

impl Device {
    fn new(number: u8) -> Self {
        Self { id: MessageId::generate().uuid(), key: SigningKey::from_bytes(&[number; 32]) }
    }

    fn registered(&self) -> DeviceKey {
        DeviceKey {
            device_key_id: self.id.to_string(),
            public_key: self.key.verifying_key().to_bytes().to_vec(),
            ..Default::default()
        }
    }

    fn signs(&self, place: ConversationId, sender: UserId, key: &str, says: &[u8]) -> pb::SecureContent {
        let algorithm = "x25519-xchacha20";
        let mut bytes = b"chat.secure.v1".to_vec();
        let digest = Sha256::digest(says);
        let (place, sender) = (place.uuid(), sender.uuid());
        let parts: [&[u8]; 6] = [
            place.as_bytes(),
            sender.as_bytes(),
            self.id.as_bytes(),
            key.as_bytes(),
            algorithm.as_bytes(),
            &digest,
        ];
        for part in parts {
            bytes.extend((part.len() as u32).to_be_bytes());
            bytes.extend(part);
        }
        pb::SecureContent {
            ciphertext: says.to_vec(),
            algorithm: algorithm.to_owned(),
            signature: self.key.sign(&bytes).to_bytes().to_vec(),
            device_key_id: self.id.to_string(),
        }
    }
}

fn seals(conversation: ConversationId, key: &str, secure: pb::SecureContent) -> pb::SendMessageRequest {
    let content = Some(pb::Content { kind: Some(Kind::Secure(secure)), ..Default::default() });
    pb::SendMessageRequest { content, ..keyed(conversation, "", key) }
}

fn unsigned() -> pb::SecureContent {
    pb::SecureContent { ciphertext: vec![1], algorithm: "none".to_owned(), ..Default::default() }
}

#[track_caller]
fn assert_signature_invalid<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let fault = Fault::of(&outcome.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_SIGNATURE_INVALID"));
    assert_eq!(fault.fields()[0].0, "content.secure.signature");
}

#[tokio::test]
async fn without_keys_it_is_relayed_as_it_comes_and_with_keys_it_must_be_signed() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(ann, 1).await;
    let secure = pb::SecureContent { signature: vec![7; 10], ..unsigned() };
    let sent = world.send(ann, seals(group, "", secure.clone())).await.unwrap().message.unwrap();
    assert_eq!(sent.content.unwrap().kind, Some(Kind::Secure(secure)));
    // The name of a key is a claim: a sender without keys names no other's.
    let claims = pb::SecureContent { device_key_id: Device::new(3).id.to_string(), ..unsigned() };
    assert_signature_invalid(world.send(ann, seals(group, "", claims.clone())).await);
    assert_signature_invalid(world.send(ann, checked(seals(group, "", claims))).await);

    let (device, foreign) = (Device::new(1), Device::new(2));
    world.others.set_device_key(ann, device.registered());
    world.others.set_device_key(bob, foreign.registered());
    let head = world.events(ann, group, 0).await.head_sequence;
    let right = device.signs(group, ann, "k", b"sealed");
    let other_group = world.group(&[ann, bob]);
    let wrong = [
        unsigned(),
        pb::SecureContent { signature: Vec::new(), ..right.clone() },
        pb::SecureContent { signature: vec![0; 64], ..right.clone() },
        pb::SecureContent { device_key_id: String::new(), ..right.clone() },
        pb::SecureContent { ciphertext: b"changed".to_vec(), ..right.clone() },
        pb::SecureContent { algorithm: "changed".to_owned(), ..right.clone() },
        device.signs(other_group, ann, "k", b"sealed"),
        device.signs(group, bob, "k", b"sealed"),
        device.signs(group, ann, "other", b"sealed"),
        foreign.signs(group, ann, "k", b"sealed"),
        pb::SecureContent { device_key_id: foreign.id.to_string(), ..right.clone() },
    ];
    for secure in wrong {
        assert_signature_invalid(world.send(ann, seals(group, "k", secure.clone())).await);
        assert_signature_invalid(world.send(ann, checked(seals(group, "k", secure))).await);
    }
    let nameless = device.signs(group, ann, "", b"sealed");
    let fault = Fault::of(&world.send(ann, seals(group, "", nameless)).await.unwrap_err());
    assert_eq!((fault.code(), fault.fields()[0].0.as_str()), (Code::InvalidArgument, "client_message_id"));
    assert_eq!(world.events(ann, group, 0).await.head_sequence, head);

    world.send(ann, checked(seals(group, "k", right.clone()))).await.unwrap();
    let sent = world.send(ann, seals(group, "k", right.clone())).await.unwrap();
    assert!(!sent.repeated);
    // Revoked means nothing new; what was sent is answered again.
    let revoked = DeviceKey { revoke_time: Some(world.clock.now().to_proto()), ..device.registered() };
    world.others.set_device_key(ann, revoked);
    let again = world.send(ann, seals(group, "k", right)).await.unwrap();
    assert_eq!((again.repeated, again.message), (true, sent.message));
    let new = device.signs(group, ann, "k2", b"sealed");
    assert_signature_invalid(world.send(ann, seals(group, "k2", new)).await);
}

#[tokio::test]
async fn when_auth_cannot_be_asked_nothing_secure_is_taken() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    world.others.set_down(true);
    let sent = world.send(ann, seals(group, "k", unsigned())).await;
    assert_eq!(sent.unwrap_err().code(), Code::Unavailable);
    world.others.set_down(false);
    assert!(!world.send(ann, seals(group, "k", unsigned())).await.unwrap().repeated);
}

#[tokio::test]
async fn an_edit_is_signed_anew_under_the_first_client_message_id() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let device = Device::new(1);
    world.others.set_device_key(ann, device.registered());
    let first = device.signs(group, ann, "k", b"one");
    let sent = world.send(ann, seals(group, "k", first.clone())).await.unwrap().message.unwrap();
    let edit = async |by: UserId, secure: pb::SecureContent| {
        let request = pb::EditMessageRequest {
            conversation_id: group.to_string(),
            message_id: sent.message_id.clone(),
            content: Some(pb::Content { kind: Some(Kind::Secure(secure)), ..Default::default() }),
            expected_version: 0,
        };
        world
            .messaging()
            .edit_message(by.says(request))
            .await
            .map(|answer| answer.into_inner().message.unwrap())
    };
    let old_signature = pb::SecureContent { ciphertext: b"two".to_vec(), ..first };
    assert_signature_invalid(edit(ann, old_signature).await);
    assert_signature_invalid(edit(ann, device.signs(group, ann, "k2", b"two")).await);
    assert_signature_invalid(edit(ann, unsigned()).await);
    let edited = edit(ann, device.signs(group, ann, "k", b"two")).await.unwrap();
    assert_eq!(edited.version, 2);
    let others = device.signs(group, bob, "k", b"two");
    assert_eq!(refusal(edit(bob, others.clone()).await), refused(Code::PermissionDenied, "NOT_AUTHOR"));
    world.others.set_device_key(bob, device.registered());
    assert_eq!(refusal(edit(bob, others).await), refused(Code::PermissionDenied, "NOT_AUTHOR"));
}

#[tokio::test]
async fn what_was_unsigned_before_is_signed_when_it_is_edited_in_a_secure_conversation() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let sent = world.send(ann, seals(group, "k", unsigned())).await.unwrap().message.unwrap();
    world.others.set_secure(group);
    let edit = |secure: pb::SecureContent| {
        let request = pb::EditMessageRequest {
            conversation_id: group.to_string(),
            message_id: sent.message_id.clone(),
            content: Some(pb::Content { kind: Some(Kind::Secure(secure)), ..Default::default() }),
            expected_version: 0,
        };
        ann.says(request)
    };
    let other = pb::SecureContent { ciphertext: vec![2], ..unsigned() };
    assert_signature_invalid(world.messaging().edit_message(edit(other)).await);
    let device = Device::new(1);
    world.others.set_device_key(ann, device.registered());
    let signed = edit(device.signs(group, ann, "k", b"two"));
    assert!(world.messaging().edit_message(signed).await.is_ok());
}

#[tokio::test]
async fn a_secure_conversation_takes_nothing_that_everybody_could_read() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let before = world.send(ann, keyed(group, "before", "k")).await.unwrap().message.unwrap();
    world.others.set_secure(group);
    let secure_only = refused(Code::FailedPrecondition, "SECURE_ONLY");
    assert_eq!(refusal(world.send(ann, to(group, "plain")).await), secure_only);
    assert_eq!(refusal(world.send(ann, checked(to(group, "plain"))).await), secure_only);
    let for_ann = Service("scheduling", Some(ann)).says(to(group, "plain"));
    assert_eq!(refusal(world.messaging().send_message(for_ann).await), secure_only);
    let edit = pb::EditMessageRequest {
        conversation_id: group.to_string(),
        message_id: before.message_id.clone(),
        content: content("after"),
        expected_version: 0,
    };
    assert_eq!(refusal(world.messaging().edit_message(ann.says(edit)).await), secure_only);
    // What was sent before it was secure is answered again.
    assert!(world.send(ann, keyed(group, "before", "k")).await.unwrap().repeated);

    // Nothing unsigned by another name: of a sender without keys, by no way.
    assert_signature_invalid(world.send(ann, seals(group, "s", unsigned())).await);
    assert_signature_invalid(world.send(ann, checked(seals(group, "s", unsigned()))).await);
    let for_ann = Service("scheduling", Some(ann)).says(seals(group, "s", unsigned()));
    assert_signature_invalid(world.messaging().send_message(for_ann).await);
    let device = Device::new(1);
    world.others.set_device_key(ann, device.registered());
    let signed = device.signs(group, ann, "s", b"sealed");
    let sent = world.send(ann, seals(group, "s", signed.clone())).await.unwrap();
    let revoked = DeviceKey { revoke_time: Some(world.clock.now().to_proto()), ..device.registered() };
    world.others.set_device_key(ann, revoked);
    let again = world.send(ann, seals(group, "s", signed)).await.unwrap();
    assert_eq!((again.repeated, again.message), (true, sent.message));
    let system = Kind::System(pb::SystemContent { text: "Bob came in".to_owned() });
    let content = Some(pb::Content { kind: Some(system), ..Default::default() });
    let request = pb::SendMessageRequest { content, ..to(group, "") };
    assert!(world.messaging().send_message(Service("scheduling", Some(ann)).says(request)).await.is_ok());
}
