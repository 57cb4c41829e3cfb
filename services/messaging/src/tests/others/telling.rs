//! What the double is told to be like, and what it tells: strangers and their requests, reviews, accounts that go.

use super::*;

impl Others {
    /// Gives it a title.
    pub fn set_title(&self, id: ConversationId, title: &str) {
        self.state().conversations.get_mut(&id).unwrap().title = title.to_owned();
    }

    /// Gives somebody a name that people see.
    pub fn set_display_name(&self, user: UserId, name: &str) {
        self.state().display_names.insert(user, name.to_owned());
    }

    /// A direct conversation of two, of whom the first has to ask before it writes.
    pub fn create_guarded(&self, stranger: UserId, other: UserId) -> ConversationId {
        let id = self.create(ConversationKind::Direct, &[stranger, other]);
        self.state().conversations.get_mut(&id).unwrap().strangers.insert(stranger, Stranger::Unknown);
        id
    }

    /// Somebody has to ask here from now on.
    pub fn make_stranger(&self, id: ConversationId, user: UserId) {
        self.state().conversations.get_mut(&id).unwrap().strangers.insert(user, Stranger::Unknown);
    }

    /// One of the two blocks the other from now on, or no longer. They do not hear which.
    pub fn set_blocked(&self, id: ConversationId, is_blocked: bool) {
        let mut state = self.state();
        let conversation = state.conversations.get_mut(&id).unwrap();
        conversation.strangers.retain(|_, stranger| !matches!(stranger, Stranger::Blocked));
        for user in conversation.members.keys().filter(|_| is_blocked) {
            conversation.strangers.insert(*user, Stranger::Blocked);
        }
    }

    /// Lets nobody make a message request any more.
    pub fn allow_no_more_requests(&self) {
        self.state().no_more_requests = true;
    }

    /// Makes conversation say of nobody where they are members, from now on or no longer.
    pub fn set_memberships_down(&self, is_down: bool) {
        self.state().memberships_are_down = is_down;
    }

    /// How often a message request was asked for.
    pub fn opened(&self) -> usize {
        self.state().opened
    }

    /// Keeps facts of conversations back from now on, or no longer.
    pub fn hold_facts(&self, is_held: bool) {
        self.state().facts_held = is_held;
    }

    /// Answers, or cancels, the message request that waits. Answers its id.
    pub fn settle(&self, id: ConversationId, from: UserId, outcome: pb::RequestState) -> String {
        let mut state = self.state();
        let conversation = state.conversations.get_mut(&id).unwrap();
        let Some(Stranger::Waits(asking)) = conversation.strangers.remove(&from) else {
            panic!("no request waits")
        };
        match outcome {
            pb::RequestState::Rejected => drop(conversation.strangers.insert(from, Stranger::Rejected)),
            pb::RequestState::Cancelled => drop(conversation.strangers.insert(from, Stranger::Unknown)),
            _ => {}
        }
        conversation.version += 1;
        let to = *conversation.members.keys().find(|member| **member != from).unwrap();
        let changed = pb::RequestChanged {
            request_id: asking.request_id.clone(),
            kind: pb::RequestKind::Message.into(),
            from_user_id: from.to_string(),
            to_user_id: to.to_string(),
            state: outcome.into(),
            version: 2,
            request_version: asking.request_version,
            only_user_id: String::new(),
        };
        self.tell(&mut state, id, Payload::RequestChanged(changed));
        asking.request_id
    }

    /// Tells of a connection request.
    pub fn connection(
        &self,
        request_id: &str,
        [from, to]: [UserId; 2],
        outcome: pb::RequestState,
        version: i64,
    ) {
        let mut state = self.state();
        let changed = pb::RequestChanged {
            request_id: request_id.to_owned(),
            kind: pb::RequestKind::Connection.into(),
            from_user_id: from.to_string(),
            to_user_id: to.to_string(),
            state: outcome.into(),
            version,
            request_version: 0,
            only_user_id: String::new(),
        };
        self.tell(&mut state, ConversationId::generate(), Payload::RequestChanged(changed));
        state.facts.last_mut().unwrap().conversation_id.clear();
    }

    /// Tells that an account is gone.
    pub fn delete_account(&self, user: UserId) {
        self.tell_of(user, Some(auth::user_fact::Payload::UserDeleted(auth::UserDeleted {})));
    }

    /// Tells what only the next release knows.
    pub fn tell_of_something_new(&self, user: UserId) {
        self.tell_of(user, None);
    }

    /// Puts a copy of auth back that was made when there were so many facts.
    pub fn is_restored_to(&self, facts: usize) {
        self.state().user_facts.truncate(facts);
    }

    /// Tells that a name or a picture changed.
    pub fn rename(&self, user: UserId) {
        self.tell_of(user, Some(auth::user_fact::Payload::UserUpdated(auth::UserUpdated {})));
    }

    /// Tells of a review.
    pub fn review(
        &self,
        [reviewer, user]: [UserId; 2],
        review_id: &str,
        change: auth::ReviewChange,
        version: i64,
    ) {
        let changed = auth::ReviewChanged {
            review_id: review_id.to_owned(),
            reviewer_user_id: reviewer.to_string(),
            change: change.into(),
            version,
        };
        self.tell_of(user, Some(auth::user_fact::Payload::ReviewChanged(changed)));
    }

    fn tell_of(&self, user: UserId, payload: Option<auth::user_fact::Payload>) {
        let mut state = self.state();
        let position = state.user_facts.len() as i64 + 1;
        state.user_facts.push(auth::UserFact {
            position,
            event_id: EventId::generate().to_string(),
            occur_time: Some(self.clock.now().to_proto()),
            user_id: user.to_string(),
            payload,
        });
    }
}
