//! The last thing that is asked before a message goes to its lane: the operator's policy, where there is one.

use crate::content::Content;
use crate::details::Details;
use crate::error::Error;
use crate::message::{Letter, Message};
use crate::messaging::Messaging;
use crate::policy::{Policy, Question, Ruling, Trouble};
use crate::revision::{Change, Revision};

impl Messaging {
    /// Asks the policy about a letter that could be sent. What it says afterwards may be something else: the fingerprint
    /// stays that of what was asked for, so that a retry is still known as one. What was sent before stays sent, whatever
    /// the policy says by now.
    pub async fn ask_policy(&self, letter: &mut Letter) -> Result<(), Error> {
        let Some(policy) = &self.policy else { return Ok(()) };
        // Services do not ask for leave.
        if letter.content.of_services().is_some() {
            return Ok(());
        }
        match self.rule(policy, letter).await {
            Ok(None) => Ok(()),
            Ok(Some(content)) => {
                *letter = letter.saying(content);
                Ok(())
            }
            Err(refusal) => match self.store.earlier(letter).await? {
                Some(Ok(_)) => Ok(()),
                Some(Err(_)) | None => Err(refusal),
            },
        }
    }

    async fn rule(&self, policy: &Policy, letter: &Letter) -> Result<Option<Content>, Error> {
        // The policy hears only what could be sent. The lane asks again: this answer does not count any more by then.
        self.conversations.access(letter.conversation, letter.sender).await?.check_letter(letter)?;
        let question = Question {
            conversation: letter.conversation,
            sender: letter.sender,
            content: &letter.content,
            edits: None,
            forwarded: letter.details.origin.is_some(),
            now: self.clock.now(),
        };
        let mut ruling = policy.ask(question).await;
        if let Ok(Ruling::Replaced(content)) = &ruling
            && self.examine(&mut letter.saying((**content).clone())).await.is_err()
        {
            ruling = Err(Trouble::Nonsense("the replacement could not be sent"));
        }
        policy.conclude(ruling)
    }

    /// Asks the policy about an edit by somebody who may have it.
    pub async fn ask_policy_about_edit(&self, revision: &mut Revision) -> Result<(), Error> {
        let Some(policy) = &self.policy else { return Ok(()) };
        let Change::Edit { content, .. } = &revision.change else { return Ok(()) };
        let message = self.message(revision.by, revision.conversation, revision.message_id).await?;
        if message.sender != revision.by {
            return Err(Error::NotAuthor(revision.message_id));
        }
        let question = Question {
            conversation: revision.conversation,
            sender: revision.by,
            content,
            edits: Some(revision.message_id),
            forwarded: message.details.origin.is_some(),
            now: self.clock.now(),
        };
        let mut ruling = policy.ask(question).await;
        if let Ok(Ruling::Replaced(content)) = &ruling
            && !self.could_become(&message, revision, content).await
        {
            ruling = Err(Trouble::Nonsense("the message cannot be edited into the replacement"));
        }
        if let Some(instead) = policy.conclude(ruling)?
            && let Change::Edit { content, .. } = &mut revision.change
        {
            *content = instead;
        }
        Ok(())
    }

    async fn could_become(&self, message: &Message, revision: &Revision, instead: &Content) -> bool {
        let change = Change::Edit { content: instead.clone(), expected_version: None };
        let mut instead_of = Revision { change, ..revision.clone() };
        message.content.as_ref().is_some_and(|content| content.may_become(instead))
            && self.examine_edit(&mut instead_of).await.is_ok()
    }
}

impl Letter {
    /// The same letter with other words, which are not those of the origin of a copy any more.
    fn saying(&self, content: Content) -> Self {
        let details = Details { poll: content.new_poll(), origin: None, ..self.details.clone() };
        Self { content, details, ..self.clone() }
    }
}
