//! A session: one signed-in client, how long it lives, and what a presented token does to it.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{SessionId, UserId};

use crate::error::Error;
use crate::token::{Hash, Salt, Token};
use crate::user::{UserKind, line};

/// How long after a refresh the replaced token is still given the new one, for two tabs that refresh at once.
pub const TWO_TABS: Duration = Duration::from_secs(10);

/// A use is written down when the one written last is at least this old.
pub const USE_GRAIN: Duration = Duration::from_secs(60);

/// A signed-in client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id: no secret, grants nothing.
    pub id: SessionId,
    /// The user who is signed in.
    pub user_id: UserId,
    /// What the client called its device.
    pub device_name: DeviceName,
    /// When it was signed in.
    pub create_time: Timestamp,
    /// When it was last used, to within [`USE_GRAIN`].
    pub last_use_time: Timestamp,
    /// When it ends unless it is used before.
    pub expire_time: Timestamp,
}

impl Session {
    /// A session that begins now.
    pub fn begin(user_id: UserId, device_name: DeviceName, lifetime: Lifetime, now: Timestamp) -> Self {
        let expire_time = lifetime.end(now, now);
        Self {
            id: SessionId::generate(),
            user_id,
            device_name,
            create_time: now,
            last_use_time: now,
            expire_time,
        }
    }

    /// Whether it still stands.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now < self.expire_time
    }

    /// The use that is worth writing down, if this one is.
    pub fn use_at(&self, now: Timestamp, lifetime: Lifetime) -> Option<Use> {
        let is_news = now.since(self.last_use_time) >= USE_GRAIN;
        let expire_time = lifetime.end(self.create_time, now);
        is_news.then_some(Use { user_id: self.user_id, session_id: self.id, time: now, expire_time })
    }
}

/// What a client calls its device: at most 64 characters in one line, possibly none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceName(String);

impl DeviceName {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        line("device_name", text, 64).map(Self)
    }

    /// A text that is in the database because it was parsed before.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How long sessions live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// Without being used.
    pub idle: Duration,
    /// In all.
    pub absolute: Duration,
}

impl Lifetime {
    /// When a session ends that was made and last used at these times.
    pub fn end(self, create_time: Timestamp, last_use_time: Timestamp) -> Timestamp {
        last_use_time.plus(self.idle).min(create_time.plus(self.absolute))
    }
}

/// That a session was used, and what that does to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Whose session.
    pub user_id: UserId,
    /// Which.
    pub session_id: SessionId,
    /// When.
    pub time: Timestamp,
    /// When it ends now.
    pub expire_time: Timestamp,
}

/// A session and whose it is: what a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The session.
    pub session: Session,
    /// What kind of account the user has.
    pub kind: UserKind,
}

/// A session together with the token that stands for it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The token. Shown to the client once.
    pub token: Token,
    /// The session.
    pub session: Session,
}

/// A secret that a refresh has replaced, while it may still be traded for its successor.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The sum of the replaced secret.
    pub secret_hash: Hash,
    /// Makes the successor out of the replaced token.
    pub salt: Salt,
    /// When it was replaced.
    pub time: Timestamp,
}

/// What a token is worth at a refresh of its session.
#[derive(Debug)]
pub enum Refresh {
    /// It is the one that opens the session: replace it.
    Rotate,
    /// It was replaced a moment ago: give out the one that opens the session now.
    Repeat(Token),
    /// It was replaced and should be nowhere any more: somebody stole it, or somebody stole its successor.
    Reused,
}

impl Refresh {
    /// Judges a token of the family: `current` is the sum of the secret that opens the session, `recent` are the
    /// secrets replaced lately, in any order.
    pub fn judge(presented: &Token, current: Hash, recent: &[Rotation], now: Timestamp) -> Self {
        if presented.secret_hash() == current {
            return Self::Rotate;
        }
        // Three tabs may be two refreshes apart: whoever comes in time is led on to the token that works.
        let mut token = presented.clone();
        for _ in 0..recent.len() {
            let hash = token.secret_hash();
            let replaced =
                |rotation: &&Rotation| rotation.secret_hash == hash && now.since(rotation.time) < TWO_TABS;
            let Some(rotation) = recent.iter().find(replaced) else { break };
            token = token.successor(&rotation.salt);
            if token.secret_hash() == current {
                return Self::Repeat(token);
            }
        }
        Self::Reused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const LIFETIME: Lifetime = Lifetime { idle: DAY, absolute: Duration::from_secs(3 * 86_400) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn session() -> Session {
        Session::begin(UserId::generate(), DeviceName::default(), LIFETIME, at(0))
    }

    #[test]
    fn use_moves_the_end_but_not_beyond_the_absolute_one() {
        let session = session();
        assert_eq!(session.expire_time, at(86_400));
        assert!(session.is_alive(at(86_399)) && !session.is_alive(at(86_400)));
        assert_eq!(session.use_at(at(1000), LIFETIME).unwrap().expire_time, at(87_400));
        assert_eq!(session.use_at(at(3 * 86_400 - 1), LIFETIME).unwrap().expire_time, at(3 * 86_400));
    }

    #[test]
    fn a_use_is_news_once_a_minute() {
        let session = session();
        assert_eq!(session.use_at(at(59), LIFETIME), None);
        assert!(session.use_at(at(60), LIFETIME).is_some());
    }

    /// Three tokens, each the successor of the one before, replaced at 0 s and at 5 s.
    fn chain() -> ([Token; 3], Vec<Rotation>) {
        let (first, salts) =
            (Token::generate().unwrap(), [Salt::generate().unwrap(), Salt::generate().unwrap()]);
        let second = first.successor(&salts[0]);
        let third = second.successor(&salts[1]);
        let rotation = |token: &Token, salt: &Salt, time| Rotation {
            secret_hash: token.secret_hash(),
            salt: salt.clone(),
            time,
        };
        let recent = vec![rotation(&second, &salts[1], at(5)), rotation(&first, &salts[0], at(0))];
        ([first, second, third], recent)
    }

    #[test]
    fn the_token_in_use_is_replaced() {
        let ([_, _, third], recent) = chain();
        assert!(matches!(Refresh::judge(&third, third.secret_hash(), &recent, at(6)), Refresh::Rotate));
    }

    #[test]
    fn who_comes_in_time_gets_the_token_in_use() {
        let ([first, second, third], recent) = chain();
        for tab in [&first, &second] {
            match Refresh::judge(tab, third.secret_hash(), &recent, at(9)) {
                Refresh::Repeat(token) => assert_eq!(token.text(), third.text()),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn who_comes_late_has_a_stolen_token() {
        let ([first, second, third], recent) = chain();
        let judge = |token, now| Refresh::judge(token, third.secret_hash(), &recent, now);
        assert!(matches!(judge(&first, at(10)), Refresh::Reused));
        assert!(matches!(judge(&second, at(10)), Refresh::Repeat(_)));
        assert!(matches!(judge(&second, at(15)), Refresh::Reused));
        assert!(matches!(judge(&second.successor(&Salt::generate().unwrap()), at(6)), Refresh::Reused));
    }
}
