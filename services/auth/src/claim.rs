//! Who has an e-mail address: one account that has verified it, or any number of accounts that claim it.

use crate::otp::Purpose;
use crate::user::User;
use crate::username::Username;

/// The account that a code for an address is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This account.
    Account(Box<User>),
    /// Several accounts claim the address, and the request names none of them.
    Several,
    /// No account.
    Nobody,
}

impl Holder {
    /// Picks the account out of the living registered accounts with the address, which may be cut after those that matter:
    /// the one that has verified it, the one that is named, and two more.
    pub fn of(users: Vec<User>, purpose: Purpose, named: Option<&Username>) -> Self {
        let is_verified = |user: &User| user.standing.email_verify_time.is_some();
        let is_taken = users.iter().any(is_verified);
        let counts = |user: &User| match purpose {
            Purpose::SignUp => false,
            Purpose::VerifyEmail => named.is_some() || is_verified(user) || !is_taken,
            // A claim gives way to a proof, whatever is named.
            Purpose::ResetPassword => (is_verified(user) || !is_taken) && user.standing.may_reset_password(),
        };
        let is_named = |user: &User| named.is_none_or(|name| user.username.as_ref() == Some(name));
        let mut users = users.into_iter().filter(|user| counts(user) && is_named(user));
        match (users.next(), users.next()) {
            (None, _) => Self::Nobody,
            (Some(user), None) => Self::Account(Box::new(user)),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

#[cfg(test)]
mod tests {
    use chassis::clock::Timestamp;
    use proto::id::UserId;

    use super::*;
    use crate::email::Email;
    use crate::profile::Profile;
    use crate::review::Rating;
    use crate::standing::Standing;
    use crate::user::{Bio, DisplayName, UserKind};

    fn user(name: &str, verified: bool) -> User {
        let now = Timestamp::from_millis(1);
        User {
            id: UserId::generate(),
            kind: UserKind::Registered,
            username: Some(Username::parse(name).unwrap()),
            display_name: DisplayName::parse("display_name", name).unwrap(),
            email: Some(Email::parse("email", "ann@example.org").unwrap()),
            bio: Bio::default(),
            picture: None,
            create_time: now,
            update_time: now,
            profile: Profile::default(),
            rating: Rating::default(),
            standing: Standing { email_verify_time: verified.then_some(now), ..Standing::default() },
            external: None,
        }
    }

    fn holder(users: &[&User], purpose: Purpose, named: &str) -> Holder {
        let named = Username::parse(named).ok();
        Holder::of(users.iter().map(|user| (*user).clone()).collect(), purpose, named.as_ref())
    }

    fn account(user: &User) -> Holder {
        Holder::Account(Box::new(user.clone()))
    }

    #[test]
    fn the_account_that_has_verified_an_address_has_it() {
        let (ann, eve) = (user("ann", true), user("eve", false));
        let both = [&ann, &eve];
        for purpose in [Purpose::VerifyEmail, Purpose::ResetPassword] {
            for named in ["", "ann"] {
                assert_eq!(holder(&both, purpose, named), account(&ann), "{purpose:?} {named}");
            }
            assert_eq!(holder(&both, purpose, "bob"), Holder::Nobody);
        }
        assert_eq!(holder(&both, Purpose::ResetPassword, "eve"), Holder::Nobody);
        // Verifying tells the reader of the mail that the address is taken.
        assert_eq!(holder(&both, Purpose::VerifyEmail, "eve"), account(&eve));
        assert_eq!(holder(&both, Purpose::SignUp, ""), Holder::Nobody);
    }

    #[test]
    fn of_several_claims_the_named_one_is_meant() {
        let (ann, eve) = (user("ann", false), user("eve", false));
        for purpose in [Purpose::VerifyEmail, Purpose::ResetPassword] {
            assert_eq!(holder(&[&eve, &ann], purpose, ""), Holder::Several);
            assert_eq!(holder(&[&eve, &ann], purpose, "ann"), account(&ann));
            assert_eq!(holder(&[&ann], purpose, ""), account(&ann));
            assert_eq!(holder(&[], purpose, ""), Holder::Nobody);
        }
        // One that took the place of a verified address resets nothing until it is verified.
        let replaced = Standing { has_replaced_verified: true, ..Standing::default() };
        let moved = User { standing: replaced, ..eve };
        assert_eq!(holder(&[&moved, &ann], Purpose::ResetPassword, ""), account(&ann));
        assert_eq!(holder(&[&moved], Purpose::ResetPassword, ""), Holder::Nobody);
        assert_eq!(holder(&[&moved], Purpose::VerifyEmail, ""), account(&moved));
    }
}
