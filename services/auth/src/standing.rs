//! What somebody else has found out about a user, and when.

use chassis::clock::Timestamp;

/// What is known about a user that the user cannot simply say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// When it was shown that the owner reads the e-mail address in use; `None` when it was not.
    pub email_verify_time: Option<Timestamp>,
    /// Whether an address that had been verified was replaced. The ones that come after it count as little as any that
    /// somebody typed, until they are verified too.
    pub has_replaced_verified: bool,
    /// When a background check found the user clear; `None` when none has, or a later one found something.
    pub background_check_time: Option<Timestamp>,
}

impl Standing {
    /// Whether a code sent to the address in use may set a password.
    pub fn may_reset_password(&self) -> bool {
        self.email_verify_time.is_some() || !self.has_replaced_verified
    }
}
