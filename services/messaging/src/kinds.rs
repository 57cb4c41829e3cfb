//! What is asked about a content before it is written, where its own rules are not enough: whose card it is, whose
//! signature, and whether its picture or sound may come from there.

use proto::id::{ConversationId, UserId};
use proto::messaging::v1::SecureContent;
use proto::messaging::v1::content::Kind;

use crate::content::Content;
use crate::error::Error;
use crate::message::{ClientMessageId, Letter};
use crate::messaging::Messaging;
use crate::people::DeviceKey;
use crate::revision::{Change, Revision};
use crate::secure::Sealed;

impl Messaging {
    /// Refuses a letter that says what it may not say, and notes whether it is signed. What has been sent before stays sent:
    /// its retry passes, and gets the answer of the first time.
    pub async fn examine(&self, letter: &mut Letter) -> Result<(), Error> {
        let refusal = match self.examine_content(letter).await {
            Ok(is_signed) => {
                letter.is_signed = is_signed;
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        match self.store.earlier(letter).await? {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(refusal),
        }
    }

    /// Says whether a registered key has signed it.
    async fn examine_content(&self, letter: &Letter) -> Result<bool, Error> {
        self.check_media_host(&letter.content)?;
        match letter.content.kind() {
            Some(Kind::Profile(profile)) => {
                let user = UserId::parse(&profile.user_id).map_err(|_| Error::Internal)?;
                self.people.require(letter.sender, user).await?;
                Ok(false)
            }
            Some(Kind::Secure(secure)) => self.check_first_signature(letter, secure).await,
            _ => Ok(false),
        }
    }

    /// The same for a message that is to be changed.
    pub async fn examine_edit(&self, revision: &mut Revision) -> Result<(), Error> {
        let Change::Edit { content, .. } = &revision.change else { return Ok(()) };
        self.check_media_host(content)?;
        if let Some(Kind::Secure(secure)) = content.kind() {
            revision.is_signed = self.check_new_signature(revision, secure).await?;
        }
        Ok(())
    }

    fn check_media_host(&self, content: &Content) -> Result<(), Error> {
        match content.media_host() {
            Some((field, host)) if !self.media_hosts.is_empty() && !self.media_hosts.contains(&host) => {
                Err(Error::Invalid { field, rule: "must be on a host that is meant for media" })
            }
            _ => Ok(()),
        }
    }

    async fn check_first_signature(&self, letter: &Letter, secure: &SecureContent) -> Result<bool, Error> {
        let keys = self.people.device_keys(letter.sender).await?;
        if relays_unsigned(&keys, secure)? {
            return Ok(false);
        }
        // Without an id of its own a signed message could be sent a second time by whoever has seen it.
        let Some(id) = &letter.client_message_id else {
            return Err(Error::Invalid {
                field: "client_message_id",
                rule: "must be set for a signed message",
            });
        };
        let place = (letter.conversation, letter.sender);
        if sealed(place, Some(id), secure).is_signed_by(&keys) {
            Ok(true)
        } else {
            Err(Error::SignatureInvalid)
        }
    }

    /// A new content is signed under the client message id of the first one.
    async fn check_new_signature(&self, revision: &Revision, secure: &SecureContent) -> Result<bool, Error> {
        let message = self.message(revision.by, revision.conversation, revision.message_id).await?;
        if message.sender != revision.by {
            return Err(Error::NotAuthor(revision.message_id));
        }
        let keys = self.people.device_keys(revision.by).await?;
        if relays_unsigned(&keys, secure)? {
            return Ok(false);
        }
        let place = (revision.conversation, revision.by);
        let sealed = sealed(place, message.client_message_id.as_ref(), secure);
        if sealed.is_signed_by(&keys) { Ok(true) } else { Err(Error::SignatureInvalid) }
    }
}

/// Whether a secure message of an author with these keys is relayed without a signature, where the conversation takes that:
/// the author has never registered a key, and the message names none. A key that it named would be another's.
fn relays_unsigned(keys: &[DeviceKey], secure: &SecureContent) -> Result<bool, Error> {
    match (keys.is_empty(), secure.device_key_id.is_empty()) {
        (true, true) => Ok(true),
        (true, false) => Err(Error::SignatureInvalid),
        (false, _) => Ok(false),
    }
}

const fn sealed<'a>(
    (conversation, sender): (ConversationId, UserId),
    client_message_id: Option<&'a ClientMessageId>,
    content: &'a SecureContent,
) -> Sealed<'a> {
    Sealed { conversation, sender, client_message_id, content }
}
