//! Sending, editing, deleting and emptying: what a lane does with a batch of it.
//!
//! One question to conversation for the whole batch, one transaction for all messages in it, then the answers, then the
//! hints. The commit is the only acknowledgement: nobody is answered before it, and nothing after it can lose a message.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use chassis::clock::Clock;
use chassis::trace::{self, TraceContext, TraceId};
use futures_util::stream::{self, StreamExt as _};
use proto::id::{ConversationId, UserId};
use tracing::Span;

use crate::conversations::{Access, Conversations};
use crate::error::Error;
use crate::event::{Event, Happening};
use crate::expiry::ExpiryAlarm;
use crate::lane::{Answer, Job};
use crate::message::Letter;
use crate::preview::Previews;
use crate::publish::Publisher;
use crate::revision::Revision;
use crate::store::{Appended, Post, Purged, Revised, Store};

/// How many message requests are made at once.
const AT_ONCE: usize = 16;

/// What goes through a lane.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are sends")]
#[derive(Debug)]
pub enum Errand {
    /// A message is to be sent.
    Send(Sending),
    /// A message is to be changed.
    Revise(Revision, Answer<Revised>),
    /// A conversation is to be emptied.
    Purge {
        /// Which.
        conversation: ConversationId,
        /// Who wants it.
        by: UserId,
        /// Who waits.
        answer: Answer<Purged>,
    },
}

/// A message to be sent.
#[derive(Debug)]
pub struct Sending {
    /// What.
    pub letter: Letter,
    /// The trace of the request that brought it.
    pub trace: Option<TraceId>,
    /// Open until the message is committed or refused, for a collector of traces.
    _span: Span,
    /// Who waits.
    pub answer: Answer<Appended>,
}

impl Sending {
    /// A message to be sent for a request of this trace.
    pub fn new(letter: Letter, trace: Option<TraceContext>, answer: Answer<Appended>) -> Self {
        let span = trace::span_under(trace, "commit");
        Self { letter, trace: trace.map(|context| context.trace_id), _span: span, answer }
    }
}

impl Job for Errand {
    fn conversation(&self) -> ConversationId {
        match self {
            Self::Send(sending) => sending.letter.conversation,
            Self::Revise(revision, _) => revision.conversation,
            Self::Purge { conversation, .. } => *conversation,
        }
    }

    fn refuse(self, error: Error) {
        match self {
            Self::Send(sending) => settle(sending, Err(error)),
            Self::Revise(_, answer) => answer.give(Err(error)),
            Self::Purge { answer, .. } => answer.give(Err(error)),
        }
    }
}

impl Errand {
    fn question(&self) -> (ConversationId, UserId) {
        match self {
            Self::Send(sending) => (sending.letter.conversation, sending.letter.sender),
            Self::Revise(revision, _) => (revision.conversation, revision.by),
            Self::Purge { conversation, by, .. } => (*conversation, *by),
        }
    }
}

/// Writes batches into the log.
#[derive(Clone)]
pub struct Writer {
    /// Where the log is.
    pub store: Store,
    /// Whom we ask.
    pub conversations: Conversations,
    /// Tells the time.
    pub clock: Clock,
    /// Tells the others.
    pub publisher: Publisher,
    /// Finds out what links lead to.
    pub previews: Previews,
    /// Wakes whoever erases what expires.
    pub alarm: ExpiryAlarm,
}

impl Writer {
    /// Does a batch.
    pub async fn write(self: Arc<Self>, batch: Vec<Errand>) {
        let mut places = HashMap::new();
        let mut questions = Vec::new();
        for errand in &batch {
            let question = errand.question();
            places.entry(question).or_insert_with(|| {
                questions.push(question);
                questions.len() - 1
            });
        }
        let answers = match self.conversations.check(&questions).await {
            Ok(answers) => answers,
            Err(error) => return batch.into_iter().for_each(|errand| errand.refuse(error.clone())),
        };
        let (mut sendings, mut strangers) = (Vec::new(), Vec::new());
        let (mut revisions, mut purges) = (Vec::new(), Vec::new());
        for errand in batch {
            let access = answers[places[&errand.question()]];
            match errand {
                Errand::Send(sending) => match access.check_letter(&sending.letter) {
                    Ok(()) if access.request_needed => strangers.push(sending),
                    Ok(()) => sendings.push((sending, access)),
                    Err(error) => self.refuse_unless_sent(sending, error).await,
                },
                Errand::Revise(revision, answer) if access.is_member => {
                    revisions.push((revision, answer, access))
                }
                Errand::Revise(revision, answer) => {
                    answer.give(Err(Error::ConversationNotFound(revision.conversation)));
                }
                Errand::Purge { conversation, by, answer } => match access.check_owning(conversation) {
                    Ok(()) => purges.push((conversation, by, answer, access)),
                    Err(error) => answer.give(Err(error)),
                },
            }
        }
        self.send(sendings).await;
        // After the others: nobody waits for what strangers ask. Of one sender in one place they are all here.
        if !strangers.is_empty() {
            let introduced = self.introduce(strangers).await;
            self.send(introduced).await;
        }
        for (revision, answer, access) in revisions {
            self.revise(revision, answer, access).await;
        }
        for (conversation, by, answer, access) in purges {
            self.purge(conversation, by, answer, access).await;
        }
    }

    /// Makes the message requests by which strangers write, and answers those who may write then. A retry asks for nothing: it
    /// gets the answer of the first time, whatever became of the request since.
    async fn introduce(&self, strangers: Vec<Sending>) -> Vec<(Sending, Access)> {
        let mut new = Vec::with_capacity(strangers.len());
        for sending in strangers {
            match self.store.earlier(&sending.letter).await {
                Ok(None) => new.push(sending),
                Ok(Some(first)) => settle(sending, first),
                Err(failure) => {
                    failure.log();
                    settle(sending, Err(Error::from(failure)));
                }
            }
        }
        let places: BTreeSet<_> =
            new.iter().map(|sending| (sending.letter.conversation, sending.letter.sender)).collect();
        let asking = places.into_iter().map(|(conversation, user)| async move {
            ((conversation, user), self.conversations.open_request(conversation, user).await)
        });
        let answers: HashMap<_, _> = stream::iter(asking).buffer_unordered(AT_ONCE).collect().await;
        let mut introduced = Vec::with_capacity(new.len());
        for sending in new {
            let conversation = sending.letter.conversation;
            let answer = answers.get(&(conversation, sending.letter.sender)).cloned();
            let access = answer.unwrap_or(Err(Error::Internal)).and_then(|access| {
                access.check_letter(&sending.letter)?;
                if access.request_needed { Err(Error::ContactNotAccepted(conversation)) } else { Ok(access) }
            });
            match access {
                Ok(access) => introduced.push((sending, access)),
                Err(error) => settle(sending, Err(error)),
            }
        }
        introduced
    }

    /// Refuses a sender who may not write, or may not any more. What was sent while that was allowed stays sent: its
    /// retry gets the answer of the first time.
    async fn refuse_unless_sent(&self, sending: Sending, refusal: Error) {
        let outcome = match self.store.earlier(&sending.letter).await {
            Ok(Some(Ok(first))) => Ok(first),
            Ok(Some(Err(_)) | None) => Err(refusal),
            Err(failure) => {
                failure.log();
                Err(Error::from(failure))
            }
        };
        settle(sending, outcome);
    }

    async fn send(&self, sendings: Vec<(Sending, Access)>) {
        if sendings.is_empty() {
            return;
        }
        let posts: Vec<_> =
            sendings.iter().map(|(sending, access)| Post { letter: &sending.letter, access }).collect();
        let started = Instant::now();
        let outcomes = self.store.append(&posts, self.clock.now()).await;
        metrics::histogram!("messaging_commit_seconds").record(started.elapsed().as_secs_f64());
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(failure) => {
                failure.log();
                let error = Error::from(failure);
                return sendings.into_iter().for_each(|(sending, _)| settle(sending, Err(error.clone())));
            }
        };
        let (mut events, mut alerts) = (Vec::with_capacity(sendings.len()), Vec::new());
        for ((sending, access), mut outcome) in sendings.into_iter().zip(outcomes) {
            if let Ok(Appended { message, repeated: false, alerts: raised }) = &mut outcome {
                alerts.append(raised);
                self.previews.want(message);
                if let Some(time) = message.expire_time {
                    self.alarm.expect(time);
                }
                events.push(Event {
                    conversation: message.conversation,
                    sequence: message.sequence,
                    membership_version: access.membership_version,
                    occur_time: message.create_time,
                    actor: Some(message.sender),
                    what: Happening::MessageCreated(message.clone()),
                });
            }
            settle(sending, outcome);
        }
        events.into_iter().for_each(|event| self.publisher.event(event));
        alerts.into_iter().for_each(|event| self.publisher.user_event(event));
    }

    async fn revise(&self, revision: Revision, answer: Answer<Revised>, access: Access) {
        let outcome = self.store.revise(&revision, &access, self.clock.now()).await;
        let (event, alerts) = match &outcome {
            Ok(revised) => (revised.event.clone(), revised.alerts.clone()),
            Err(_) => (None, Vec::new()),
        };
        if let Some(Event { what: Happening::MessageEdited(message), .. }) = &event {
            self.previews.want(message);
        }
        answer.give(outcome);
        if let Some(event) = event {
            self.publisher.event(event);
        }
        alerts.into_iter().for_each(|event| self.publisher.user_event(event));
    }

    async fn purge(&self, conversation: ConversationId, by: UserId, answer: Answer<Purged>, access: Access) {
        let outcome = self.store.purge(conversation, by, &access, self.clock.now()).await;
        let told = outcome.as_ref().map(|purged| (purged.event.clone(), purged.alerts.clone()));
        let (event, alerts) = told.unwrap_or_default();
        answer.give(outcome);
        if let Some(event) = event {
            self.publisher.event(event);
        }
        alerts.into_iter().for_each(|event| self.publisher.user_event(event));
    }
}

/// Answers a sender, and leaves a trace of it.
fn settle(sending: Sending, outcome: Result<Appended, Error>) {
    let label = match &outcome {
        Ok(Appended { repeated: false, .. }) => "sent",
        Ok(Appended { repeated: true, .. }) => "repeated",
        Err(error) => error.label(),
    };
    metrics::counter!("messaging_sends_total", "outcome" => label).increment(1);
    if let Ok(Appended { message, .. }) = &outcome {
        tracing::debug!(
            trace.id = sending.trace.map(tracing::field::display),
            message.id = %message.message_id,
            conversation.id = %message.conversation,
            user.id = %message.sender,
            "{label} message {} as number {}",
            message.message_id,
            message.sequence,
        );
    }
    sending.answer.give(outcome);
}
