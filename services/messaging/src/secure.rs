//! The signature of a secure message: what exactly is signed, and by whose key. What is inside nobody here can read.

use ed25519_dalek::{Signature, VerifyingKey};
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::SecureContent;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::message::ClientMessageId;
use crate::people::DeviceKey;

/// What the signed bytes begin with, so that they are good for nothing else.
const CONTEXT: &[u8] = b"chat.secure.v1";

/// A secure message, with everything that its signature binds together.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// Where it goes: nobody can show it elsewhere as the sender's.
    pub conversation: ConversationId,
    /// Who sends it.
    pub sender: UserId,
    /// The sender's own id for it: sent again, it is the same message.
    pub client_message_id: Option<&'a ClientMessageId>,
    /// What the sender's device has made.
    pub content: &'a SecureContent,
}

impl Sealed<'_> {
    /// Whether one of these keys has signed it that may still sign.
    pub fn is_signed_by(&self, keys: &[DeviceKey]) -> bool {
        let Ok(id) = Uuid::try_parse(&self.content.device_key_id) else { return false };
        keys.iter().any(|key| key.id == id && !key.is_revoked && self.fits(key))
    }

    fn fits(&self, key: &DeviceKey) -> bool {
        let public_key = <&[u8; 32]>::try_from(key.public_key.as_slice()).ok();
        let Some(public_key) = public_key.and_then(|bytes| VerifyingKey::from_bytes(bytes).ok()) else {
            return false;
        };
        let Ok(signature) = Signature::from_slice(&self.content.signature) else { return false };
        public_key.verify_strict(&self.canonical(key.id), &signature).is_ok()
    }

    /// The bytes that are signed. Each part says how long it is: no two messages have the same.
    fn canonical(&self, key: Uuid) -> Vec<u8> {
        let (conversation, sender) = (self.conversation.uuid(), self.sender.uuid());
        let digest = Sha256::digest(&self.content.ciphertext);
        let parts: [&[u8]; 6] = [
            conversation.as_bytes(),
            sender.as_bytes(),
            key.as_bytes(),
            self.client_message_id.map_or("", ClientMessageId::as_str).as_bytes(),
            self.content.algorithm.as_bytes(),
            &digest,
        ];
        let mut bytes = CONTEXT.to_vec();
        for part in parts {
            // None is longer than a few hundred bytes.
            bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by another implementation, from the secret key 00 01 02 ... 1f.
    const PUBLIC_KEY: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
    const CANONICAL: &str = "636861742e7365637572652e7631\
        0000001001890a5dac96774bbcceb302099a8057\
        0000001001890a5dac96774bbcceb302099a8058\
        0000001001890a5dac96774bbcceb302099a8059\
        000000036d2d31\
        000000107832353531392d786368616368613230\
        0000002070fd1f88c43a159886b1355fee5942bce69b3027a8766b9447e850383b4cbda7";
    const SIGNATURE: &str = "1c585cd17343727f71ab361529080dc5abb180a0b9962fde8e91e7543f4d047e\
        82af798b7b731a72fe3e38f5daf38c196d98b3109ffb2d8eb587813aa5630e06";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn id(last: char) -> Uuid {
        Uuid::try_parse(&format!("01890a5d-ac96-774b-bcce-b302099a805{last}")).unwrap()
    }

    fn key() -> DeviceKey {
        DeviceKey { id: id('9'), public_key: bytes(PUBLIC_KEY), is_revoked: false }
    }

    fn content() -> SecureContent {
        SecureContent {
            ciphertext: b"what only bob reads".to_vec(),
            algorithm: "x25519-xchacha20".to_owned(),
            signature: bytes(SIGNATURE),
            device_key_id: id('9').to_string(),
        }
    }

    fn client_id(text: &str) -> ClientMessageId {
        ClientMessageId::stored(text.to_owned())
    }

    fn sealed<'a>(content: &'a SecureContent, client_message_id: &'a ClientMessageId) -> Sealed<'a> {
        let (conversation, sender) = (ConversationId::from(id('7')), UserId::from(id('8')));
        Sealed { conversation, sender, client_message_id: Some(client_message_id), content }
    }

    #[test]
    fn what_is_signed_is_the_documented_form_and_nothing_else() {
        let (content, m1) = (content(), client_id("m-1"));
        let sealed = sealed(&content, &m1);
        assert_eq!(sealed.canonical(id('9')), bytes(CANONICAL));
        assert!(sealed.is_signed_by(&[key()]));
        assert!(sealed.is_signed_by(&[DeviceKey { id: id('1'), ..key() }, key()]));
    }

    #[test]
    fn a_signature_holds_for_each_part_of_one_message_only() {
        let (right, m1) = (content(), client_id("m-1"));
        let is_signed = |sealed: Sealed<'_>| sealed.is_signed_by(&[key()]);
        assert!(!is_signed(Sealed { conversation: id('8').into(), ..sealed(&right, &m1) }));
        assert!(!is_signed(Sealed { sender: id('7').into(), ..sealed(&right, &m1) }));
        assert!(!is_signed(Sealed { client_message_id: None, ..sealed(&right, &m1) }));
        assert!(!is_signed(sealed(&right, &client_id("m-2"))));
        for place in 0..right.signature.len() {
            let mut signature = right.signature.clone();
            signature[place] ^= 1;
            assert!(!is_signed(sealed(&SecureContent { signature, ..content() }, &m1)), "{place}");
        }
        let wrong = [
            SecureContent { ciphertext: b"what only bob read".to_vec(), ..content() },
            SecureContent { algorithm: "x25519-xchacha2".to_owned(), ..content() },
            SecureContent { signature: Vec::new(), ..content() },
            SecureContent { signature: vec![0; 64], ..content() },
            SecureContent { signature: [bytes(SIGNATURE), vec![0]].concat(), ..content() },
            SecureContent { device_key_id: id('1').to_string(), ..content() },
            SecureContent { device_key_id: String::new(), ..content() },
        ];
        for content in wrong {
            assert!(!is_signed(sealed(&content, &m1)), "{content:?}");
        }
    }

    #[test]
    fn a_part_cannot_be_moved_into_its_neighbour() {
        let m1 = client_id("m-1x25519-xchacha20");
        let content = SecureContent { algorithm: String::new(), ..content() };
        assert!(!sealed(&content, &m1).is_signed_by(&[key()]));
    }

    #[test]
    fn a_key_that_is_another_s_or_revoked_or_none_signs_nothing() {
        let (content, m1) = (content(), client_id("m-1"));
        let keys = [
            DeviceKey { is_revoked: true, ..key() },
            DeviceKey { id: id('1'), ..key() },
            DeviceKey { public_key: vec![7; 32], ..key() },
            DeviceKey { public_key: bytes(PUBLIC_KEY)[..31].to_vec(), ..key() },
        ];
        for key in keys {
            assert!(!sealed(&content, &m1).is_signed_by(std::slice::from_ref(&key)), "{key:?}");
        }
        assert!(!sealed(&content, &m1).is_signed_by(&[]));
    }

    #[test]
    fn a_key_of_small_order_signs_nothing_though_it_would_fit_everything() {
        // The neutral element as the key and as the signature's point: R = s·B - h·A holds whatever is signed.
        let neutral = [vec![1], vec![0; 31]].concat();
        let key = DeviceKey { public_key: neutral.clone(), ..key() };
        let content = SecureContent { signature: [neutral, vec![0; 32]].concat(), ..content() };
        assert!(!sealed(&content, &client_id("m-1")).is_signed_by(&[key]));
    }
}
