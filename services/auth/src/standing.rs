//! What somebody else has found out about a user, and when.

use chassis::clock::Timestamp;

/// What is known about a user that the user cannot simply say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// When it was shown that the owner reads the e-mail address in use; `None` when it was not.
    pub email_verify_time: Option<Timestamp>,
    /// When a background check found the user clear; `None` when none has, or a later one found something.
    pub background_check_time: Option<Timestamp>,
}
