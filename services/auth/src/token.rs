//! Session tokens: what a client holds, what is kept of it, and how one token follows another.
//!
//! A token is the base64url text of 48 random bytes: 16 that stand for the session as long as it lives (the family) and
//! 32 that change at each refresh (the secret). Kept are only the SHA-256 sums of both, so that a copy of the database
//! opens nothing. The family makes a token that was replaced long ago recognisable without keeping every old one.
//!
//! A refresh must give two tabs that come with the same token the same new one, although the new one is kept nowhere.
//! So the new secret is made out of the old one and of a random salt: SHA-256(label, old secret, salt). Who has the old
//! token and comes in time is given it again; who has the old token alone, or the database alone, cannot make it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::random;

const FAMILY: usize = 16;
const SECRET: usize = 32;

/// Keeps this use of SHA-256 apart from every other.
const SUCCESSOR: &[u8] = b"parlor.auth.v1 successor of a session token";

/// A bearer token.
#[derive(Clone)]
pub struct Token {
    family: [u8; FAMILY],
    secret: Zeroizing<[u8; SECRET]>,
}

impl Token {
    /// The first token of a new session.
    pub fn generate() -> anyhow::Result<Self> {
        Ok(Self { family: random::bytes()?, secret: Zeroizing::new(random::bytes()?) })
    }

    /// Reads a token; `None` when the text can be none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        // Decoding stops at the length of a token: nobody makes us work on more.
        let mut bytes = Zeroizing::new([0; FAMILY + SECRET]);
        let length = URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
        let (family, secret) = bytes.get(..length)?.split_at_checked(FAMILY)?;
        Some(Self { family: family.try_into().ok()?, secret: Zeroizing::new(secret.try_into().ok()?) })
    }

    /// The text that the client sends.
    pub fn text(&self) -> String {
        let bytes = Zeroizing::new([self.family.as_slice(), self.secret.as_slice()].concat());
        URL_SAFE_NO_PAD.encode(bytes.as_slice())
    }

    /// What is kept of the part that stands for the session.
    pub fn family_hash(&self) -> Hash {
        Hash::of(&self.family)
    }

    /// What is kept of the part that opens it.
    pub fn secret_hash(&self) -> Hash {
        Hash::of(self.secret.as_slice())
    }

    /// The token that replaces this one.
    pub fn successor(&self, salt: &Salt) -> Self {
        // All three parts have a fixed length, so no two of them run into each other.
        let sum =
            Sha256::new().chain_update(SUCCESSOR).chain_update(self.secret.as_slice()).chain_update(salt.0);
        Self { family: self.family, secret: Zeroizing::new(sum.finalize().into()) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The SHA-256 sum of a part of a token. Compared in constant time.
#[derive(Clone, Copy, Debug)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The sum of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// A sum that is in the database; `None` when it has not the length of one.
    pub(crate) fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes of the sum.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Eq for Hash {}

impl PartialEq for Hash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The random part of making a successor.
#[derive(Clone, Debug)]
pub struct Salt([u8; 32]);

impl Salt {
    /// A new one.
    pub fn generate() -> anyhow::Result<Self> {
        random::bytes().map(Self)
    }

    /// A salt that is in the database; `None` when it has not the length of one.
    pub(crate) fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let token = Token::generate().unwrap();
        let text = token.text();
        assert_eq!(text.len(), 64);
        let read = Token::parse(&text).unwrap();
        assert_eq!(read.text(), text);
        assert!(read.family_hash() == token.family_hash() && read.secret_hash() == token.secret_hash());
    }

    #[test]
    fn what_is_no_token_is_none() {
        let text = Token::generate().unwrap().text();
        for wrong in [
            "",
            "x",
            &text[1..],
            &format!("{text}A"),
            &format!("{text}AAAA"),
            &"=".repeat(64),
            &"ä".repeat(32),
        ] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn two_tabs_make_the_same_successor_and_a_new_salt_makes_another() {
        let (token, salt) = (Token::generate().unwrap(), Salt::generate().unwrap());
        let next = token.successor(&salt);
        assert_eq!(next.text(), Token::parse(&token.text()).unwrap().successor(&salt).text());
        assert!(next.family_hash() == token.family_hash());
        assert!(next.secret_hash() != token.secret_hash());
        assert_ne!(next.text(), token.successor(&Salt::generate().unwrap()).text());
    }

    #[test]
    fn a_token_is_never_shown() {
        assert_eq!(format!("{:?}", Token::generate().unwrap()), "Token(***)");
    }
}
