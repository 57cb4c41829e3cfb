//! The part of the store for the further doors: codes, errands, links to providers, tickets for streams, background checks.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{BackgroundCheckId, SessionId, UserId};

use super::{NewAccount, Store};
use crate::background_check::{BackgroundCheck, End, NewCheck, State};
use crate::errand::{Errand, Kind};
use crate::error::Error;
use crate::external_account::{ExternalAccount, Namespace};
use crate::once::Once;
use crate::otp::{AddressVerification, Form, Issue, Slot, Tried};
use crate::password::PasswordHash;
use crate::providers::Link;
use crate::session::{Grant, Identified};
use crate::stream_ticket::{NewStreamTicket, StreamRedemption};
use crate::user::{User, UserKind, UserPage};
use crate::vault::Sum;

/// A code that was right, to be used for what it is good for.
#[derive(Clone, Copy, Debug)]
pub struct Redemption<'a> {
    /// Whose it is.
    pub user_id: UserId,
    /// The address it was sent to, folded; it does nothing for a user who has another one by now.
    pub email_key: &'a str,
    /// Where it is kept.
    pub slot: Slot,
    /// The flow that it was asked for in.
    pub flow: Sum,
    /// What is kept of it.
    pub sum: Sum,
    /// When.
    pub now: Timestamp,
}

/// The errands that send a code, of which one is kept.
#[derive(Clone, Copy, Debug)]
pub struct Letters<'a> {
    /// The one with the digits.
    pub digits: &'a Errand,
    /// The one with the token.
    pub token: &'a Errand,
}

impl<'a> Letters<'a> {
    /// The errand that sends this form.
    pub fn of(&self, form: Form) -> &'a Errand {
        match form {
            Form::Digits => self.digits,
            Form::Token => self.token,
        }
    }
}

impl Store {
    /// The secret of this name: the one that is kept, or else `drawn`, which is kept from then on.
    pub async fn service_key(&self, name: &str, drawn: &[u8]) -> Result<Vec<u8>, Error> {
        on!(self, store => store.service_key(name, drawn).await)
    }

    /// Keeps a code in place of the one that the flow had before, and the errand that sends it, and says which form the code
    /// has. Refuses one too many of the network that asks.
    pub async fn issue_code(&self, issue: &Issue, letters: Option<Letters<'_>>) -> Result<Form, Error> {
        on!(self, store => store.issue_code(issue, letters).await)
    }

    /// Counts a try of the code of a flow and returns what is kept of it; `None` when the flow has none that may be tried.
    pub async fn try_code(&self, slot: Slot, flow: Sum, now: Timestamp) -> Result<Option<Tried>, Error> {
        on!(self, store => store.try_code(slot, flow, now).await)
    }

    /// Uses a code to mark the address of a user as verified. `false` when the code is used or replaced, or the address
    /// is not the user's any more. Refuses an address that another account has verified.
    pub async fn verify_email(&self, redemption: &Redemption<'_>) -> Result<bool, Error> {
        on!(self, store => store.verify_email(redemption).await)
    }

    /// Uses a code to set a password, marks the address as verified and ends all sessions; the links to providers too,
    /// when the address was not verified before. `false` as above, and when the address does not count for it yet.
    pub async fn reset_password(
        &self,
        redemption: &Redemption<'_>,
        hash: &PasswordHash,
    ) -> Result<bool, Error> {
        on!(self, store => store.reset_password(redemption, hash).await)
    }

    /// Uses a code for signing up, and keeps the proof of the address. `false` when the code is used or replaced.
    pub async fn verify_address(&self, verification: &AddressVerification) -> Result<bool, Error> {
        on!(self, store => store.verify_address(verification).await)
    }

    /// Keeps a new account, its first session and the mail about its address, and returns the account: its address is
    /// verified when the proof counts, which is used up then. Otherwise the address is a claim, whoever has it. Refuses a
    /// name that is taken, a proven address that is verified by another account, and as `new` requires.
    pub async fn register(&self, new: NewAccount<'_>) -> Result<User, Error> {
        on!(self, store => store.register(new).await)
    }

    /// Removes proofs of addresses that have expired, at most `limit`, and returns how many.
    pub async fn sweep_address_proofs(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        on!(self, store => store.sweep_address_proofs(now, limit).await)
    }

    /// Keeps a ticket for an event stream of a session. Of more than `most` of the session the oldest goes. `false` when the
    /// session has ended.
    pub async fn create_stream_ticket(&self, new: &NewStreamTicket, most: i64) -> Result<bool, Error> {
        on!(self, store => store.create_stream_ticket(new, most).await)
    }

    /// The living session that a ticket stands for, and whether this was the first use, which binds the ticket to the key
    /// that was drawn. `None` when it stands for nothing.
    pub async fn redeem_stream_ticket(
        &self,
        redemption: &StreamRedemption,
    ) -> Result<Option<(Identified, bool)>, Error> {
        on!(self, store => store.redeem_stream_ticket(redemption).await)
    }

    /// The account of a name in another system.
    pub async fn find_external(&self, external: &ExternalAccount) -> Result<Option<UserId>, Error> {
        on!(self, store => store.find_external(external).await)
    }

    /// Keeps a new account of a name in another system and its first session. `false` when the name has an account.
    pub async fn create_external(
        &self,
        user: &User,
        external: &ExternalAccount,
        first: &Grant,
    ) -> Result<bool, Error> {
        on!(self, store => store.create_external(user, external, first).await)
    }

    /// Opens a session of the account of a name in another system, and returns the user and the sessions that were too
    /// many. `None` when the account does not stand for the name any more. Refuses an account of another kind.
    pub async fn sign_in_external(
        &self,
        external: &ExternalAccount,
        kind: UserKind,
        grant: &Grant,
        most: u32,
    ) -> Result<Option<(User, Vec<SessionId>)>, Error> {
        on!(self, store => store.sign_in_external(external, kind, grant, most).await)
    }

    /// The external accounts of a namespace, oldest first. Guests are left out.
    pub async fn list_external(
        &self,
        namespace: &Namespace,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<UserPage, Error> {
        on!(self, store => store.list_external(namespace, after, limit).await)
    }

    /// Removes codes that do not count any more, at most so many, and says how many.
    pub async fn sweep_codes(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        on!(self, store => store.sweep_codes(now, limit).await)
    }

    /// Takes errands of a kind that are due, at most so many: nobody else takes them for the length of the lease.
    pub async fn claim_errands(
        &self,
        kind: Kind,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Errand>, Error> {
        on!(self, store => store.claim_errands(kind, now, lease, limit).await)
    }

    /// Removes an errand, unless somebody else has taken it meanwhile.
    pub async fn finish_errand(&self, errand: &Errand) -> Result<(), Error> {
        on!(self, store => store.finish_errand(errand).await)
    }

    /// Removes the errand of a background check and writes down what came of it, unless the check has ended.
    pub async fn finish_check_errand(&self, errand: &Errand, end: End, now: Timestamp) -> Result<(), Error> {
        on!(self, store => store.finish_check_errand(errand, end, now).await)
    }

    /// Puts an errand off, unless somebody else has taken it meanwhile.
    pub async fn postpone_errand(&self, errand: &Errand, due_time: Timestamp) -> Result<(), Error> {
        on!(self, store => store.postpone_errand(errand, due_time).await)
    }

    /// Removes errands that make no sense any more, at most so many, and says how many.
    pub async fn sweep_errands(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        on!(self, store => store.sweep_errands(now, limit).await)
    }

    /// Whose account an identity opens.
    pub async fn find_linked(&self, issuer: &str, subject: &str) -> Result<Option<UserId>, Error> {
        on!(self, store => store.find_linked(issuer, subject).await)
    }

    /// As [`Store::create`], for somebody who comes with an identity, and uses up the token that says so. Refuses an
    /// identity that opens an account already, and a token that was used.
    pub async fn create_linked(
        &self,
        user: &User,
        link: &Link,
        first: &Grant,
        once: &Once,
    ) -> Result<(), Error> {
        on!(self, store => store.create_with(user, None, first, Some((link, once))).await)
    }

    /// As [`Store::sign_in`], for an identity that opens the account, which is an issuer and a subject. Uses up the token
    /// that says so, and refuses one that was used. Returns the user too.
    pub async fn sign_in_linked(
        &self,
        identity: (&str, &str),
        grant: &Grant,
        most: u32,
        once: &Once,
    ) -> Result<(User, Vec<SessionId>), Error> {
        on!(self, store => store.sign_in_linked(identity, grant, most, once).await)
    }

    /// Keeps a link of a living user and returns it; or the one that was kept first when it is the same. Refuses an
    /// identity that opens another account, and a second one at the same provider. Uses up the token that says so, and
    /// refuses one that was used.
    pub async fn link(&self, link: &Link, once: &Once) -> Result<Link, Error> {
        on!(self, store => store.link(link, once).await)
    }

    /// Forgets tokens that have ended by themselves, at most `limit`, and returns how many marks of them.
    pub async fn sweep_used_tokens(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        on!(self, store => store.sweep_used_tokens(now, limit).await)
    }

    /// Forgets usernames of deleted accounts that are free again, at most `limit`, and returns how many.
    pub async fn sweep_usernames(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        on!(self, store => store.sweep_usernames(now, limit).await)
    }

    /// The links of a user, oldest first.
    pub async fn links_of(&self, user_id: UserId) -> Result<Vec<Link>, Error> {
        on!(self, store => store.links_of(user_id).await)
    }

    /// Removes a link of a living user. Refuses to remove the last way to sign in.
    pub async fn unlink(&self, user_id: UserId, provider: &str) -> Result<(), Error> {
        on!(self, store => store.unlink(user_id, provider).await)
    }

    /// Keeps a check of a living user and the errand that hands it in, if any, and returns it; or the one that the same request
    /// made. Refuses another request under the same id, a second check under way, and one too many.
    pub async fn request_check(
        &self,
        new: &NewCheck,
        errand: Option<&Errand>,
    ) -> Result<BackgroundCheck, Error> {
        on!(self, store => store.request_check(new, errand).await)
    }

    /// The latest check of a user.
    pub async fn latest_check(&self, user_id: UserId) -> Result<Option<BackgroundCheck>, Error> {
        on!(self, store => store.latest_check(user_id).await)
    }

    /// All checks of a user, newest first.
    pub async fn checks_of(&self, user_id: UserId) -> Result<Vec<BackgroundCheck>, Error> {
        on!(self, store => store.checks_of(user_id).await)
    }

    /// Ends a check, erases what the provider was to be told, and shows it on the user. `false` when it has ended so
    /// before; refuses when it has ended otherwise.
    pub async fn report_check(
        &self,
        id: BackgroundCheckId,
        end: State,
        reference: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        on!(self, store => store.report_check(id, end, reference, now).await)
    }

    /// Ends checks of which nothing came in time, at most so many, and says how many.
    pub async fn expire_checks(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        on!(self, store => store.expire_checks(now, limit).await)
    }
}
