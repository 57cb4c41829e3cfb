//! Whom a message mentions: the people whose names it calls, as far as they may read it.

use proto::id::{ConversationId, UserId};
use proto::messaging::v1::content::Kind;

use crate::content::Content;
use crate::error::Error;
use crate::mention;
use crate::message::Letter;
use crate::messaging::Messaging;
use crate::revision::{Change, Revision};

impl Messaging {
    /// Finds whom a letter mentions. Nobody is asked where nobody is called.
    pub async fn resolve_mentions(&self, letter: &mut Letter) -> Result<(), Error> {
        letter.details.mentions = self.mentioned(letter.conversation, letter.sender, &letter.content).await?;
        Ok(())
    }

    /// Finds whom the new content of a message mentions.
    pub async fn resolve_new_mentions(&self, revision: &mut Revision) -> Result<(), Error> {
        if let Change::Edit { content, .. } = &revision.change {
            revision.mentions = self.mentioned(revision.conversation, revision.by, content).await?;
        }
        Ok(())
    }

    async fn mentioned(
        &self,
        conversation: ConversationId,
        by: UserId,
        content: &Content,
    ) -> Result<Vec<UserId>, Error> {
        let names = content.calls().map(mention::names).unwrap_or_default();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut people = self.people.named(by, names).await?;
        people.retain(|user| *user != by);
        let questions: Vec<_> = people.iter().map(|user| (conversation, *user)).collect();
        let answers = self.conversations.check(&questions).await?;
        // Where everybody may read, a mention still reaches members only.
        let members = people.into_iter().zip(answers).filter(|(_, access)| access.is_member);
        Ok(members.map(|(user, _)| user).collect())
    }
}

impl Content {
    /// Where people can be called by name. Not in what is secure: nobody here looks into it.
    fn calls(&self) -> Option<&str> {
        match self.kind()? {
            Kind::Text(text) => Some(text),
            Kind::Voice(voice) => Some(&voice.caption),
            _ => None,
        }
    }
}
