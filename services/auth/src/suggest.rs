//! Names and passwords that one can remember: made of words.
//!
//! The list is the English one of BIP 39: 2,048 common words of three to eight letters, none of which begins like another
//! one for longer than three letters.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use crate::accounts::Accounts;
use crate::error::Error;
use crate::random;
use crate::username::Username;

/// How many words a password has. Each is worth 11 bits.
const PASSWORD_WORDS: usize = 6;

/// How many names are made up at once to find one that is free.
const CANDIDATES: usize = 8;

static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("words/english.txt").lines().collect());

/// Something to register with.
#[derive(Debug)]
pub struct Suggestion {
    /// A name that nobody has at the moment.
    pub username: Username,
    /// A password.
    pub password: Zeroizing<String>,
}

impl Accounts {
    /// Makes up a name that is free, and a password. Keeps neither.
    pub async fn suggest(&self) -> Result<Suggestion, Error> {
        let names = (0..CANDIDATES).map(|_| username()).collect::<anyhow::Result<Vec<_>>>();
        let names = names.map_err(Error::Internal)?;
        let taken = self.store.find_named(&names).await?;
        let is_free = |name: &Username| {
            !self.reserved.contains(name) && taken.iter().all(|user| user.username.as_ref() != Some(name))
        };
        let username = names.into_iter().find(is_free);
        let username = username.ok_or_else(|| Error::Internal(anyhow::anyhow!("there are no names left")))?;
        Ok(Suggestion { username, password: password().map_err(Error::Internal)? })
    }
}

/// A name such as `brave-otter-4821`.
pub fn username() -> anyhow::Result<Username> {
    let [first, second] = [word()?, word()?];
    Ok(Username::stored(format!("{first}-{second}-{:04}", random::below(10_000)?)))
}

/// A password of six words.
fn password() -> anyhow::Result<Zeroizing<String>> {
    let words = (0..PASSWORD_WORDS).map(|_| word()).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Zeroizing::new(words.join("-")))
}

fn word() -> anyhow::Result<&'static str> {
    let index = random::below(u32::try_from(WORDS.len())?)?;
    WORDS.get(usize::try_from(index)?).copied().ok_or_else(|| anyhow::anyhow!("there are no words"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::password::{NewPassword, Password};

    #[test]
    fn every_word_is_worth_eleven_bits() {
        let different: HashSet<&str> = WORDS.iter().copied().collect();
        assert_eq!((WORDS.len(), different.len()), (2048, 2048));
        let is_plain =
            |word: &&str| (3..=8).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase());
        assert!(WORDS.iter().all(is_plain));
    }

    #[test]
    fn what_is_suggested_may_be_used() {
        let reserved = crate::reserved::ReservedNames::new(&[]).unwrap();
        for _ in 0..200 {
            let (name, password) = (username().unwrap(), password().unwrap());
            assert_eq!(Username::parse(name.as_str()).unwrap(), name);
            assert!(!reserved.contains(&name), "{name}");
            assert_eq!(password.split('-').count(), PASSWORD_WORDS);
            NewPassword::choose("password", Password::presented(&password), &name).unwrap();
        }
    }
}
