//! What becomes of somebody's wish to call, when one of the two may be in a call already.

use proto::id::UserId;

use super::{Call, Device, Media, Stage};

/// What is to become of somebody's wish to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It rings.
    Ring,
    /// The other is in another call.
    Busy,
    /// The other calls at this moment: that call is accepted.
    Meet,
    /// This device has begun that call before. `met` when it was the other's.
    Again {
        /// Whether the other had called.
        met: bool,
    },
    /// The one who wants to call is in a call already.
    Refused,
}

/// Decides about a wish to call, by the live calls of the two: none whose time is over.
pub fn wish(from: Device, to: UserId, media: Media, own: Option<&Call>, others: Option<&Call>) -> Wish {
    let Some(own) = own else {
        return if others.is_some() { Wish::Busy } else { Wish::Ring };
    };
    let (is_theirs, is_mine) =
        (own.caller.user == to && own.callee == from.user, own.caller == from && own.callee == to);
    match &own.stage {
        Stage::Ringing if is_theirs => Wish::Meet,
        Stage::Ringing if is_mine && own.media == media => Wish::Again { met: false },
        Stage::Accepted(talk) if is_theirs && talk.session == from.session => Wish::Again { met: true },
        Stage::Ringing | Stage::Accepted(_) | Stage::Over(_) => Wish::Refused,
    }
}
