//! The last thing before a message goes to its lane: the operator's policy is asked, where there is one.

use crate::error::Error;
use crate::message::Letter;
use crate::messaging::Messaging;
use crate::policy::{Policy, Question, is_of_a_service};
use crate::revision::{Change, Revision};

impl Messaging {
    /// Asks the policy about a letter that could be sent. What is said afterwards may be something else: the fingerprint
    /// stays that of what was asked for, so that a retry is still known as one. What was sent before stays sent, whatever
    /// the policy says by now.
    pub async fn ask_policy(&self, letter: &mut Letter) -> Result<(), Error> {
        let Some(policy) = &self.policy else { return Ok(()) };
        // Services do not ask for leave.
        if is_of_a_service(&letter.content) {
            return Ok(());
        }
        match self.rule(policy, letter).await {
            Ok(()) => Ok(()),
            Err(refusal) => match self.store.earlier(letter).await? {
                Some(Ok(_)) => Ok(()),
                Some(Err(_)) | None => Err(refusal),
            },
        }
    }

    async fn rule(&self, policy: &Policy, letter: &mut Letter) -> Result<(), Error> {
        // The policy hears only what could be sent. The lane asks again: this one does not count any more by then.
        self.conversations.require_writer(letter.conversation, letter.sender).await?;
        let question = Question {
            conversation: letter.conversation,
            sender: letter.sender,
            content: &letter.content,
            edits: None,
            forwarded: letter.details.origin.is_some(),
        };
        if let Some(content) = policy.check(question).await? {
            letter.content = content;
        }
        Ok(())
    }

    /// Asks the policy about an edit by somebody who may have it.
    pub async fn ask_policy_about_edit(&self, revision: &mut Revision) -> Result<(), Error> {
        let Some(policy) = &self.policy else { return Ok(()) };
        let Revision { conversation, message_id, by, .. } = *revision;
        let Change::Edit { content, .. } = &mut revision.change else { return Ok(()) };
        let message = self.message(by, conversation, message_id).await?;
        if message.sender != by {
            return Err(Error::NotAuthor(message_id));
        }
        let question = Question {
            conversation,
            sender: by,
            content,
            edits: Some(message_id),
            forwarded: message.details.origin.is_some(),
        };
        if let Some(instead) = policy.check(question).await? {
            *content = instead;
        }
        Ok(())
    }
}
