//! What links lead to, for those who want to know before they follow them. Off unless the settings say otherwise.
//!
//! After a message was stored its first link waits in a queue of this process, a few workers fetch pages, and what they
//! find is added to the message if that is still there and still has the link. Nobody waits for it, and nobody promises
//! it: a full queue, a page that does not answer, and a process that ends leave a message without a preview.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chassis::clock::Clock;
use chassis::tasks::{Shutdown, Tasks};
use futures_util::FutureExt as _;
use outbound::{Fetcher, Summary, WebAddress};
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1 as pb;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};

use crate::content::Content;
use crate::conversations::Conversations;
use crate::details::Details;
use crate::message::Message;
use crate::publish::Publisher;
use crate::store::Store;

/// Previews of links.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreviewConfig {
    /// Whether there are any. They tell the servers behind links that somebody wrote them.
    pub enabled: bool,
    /// How many links may wait. Further ones get no preview.
    pub max_waiting: usize,
    /// How many are fetched at a time.
    pub workers: usize,
    /// How they are fetched.
    pub fetch: outbound::Config,
}

impl Default for PreviewConfig {
    fn default() -> Self {
        Self { enabled: false, max_waiting: 256, workers: 4, fetch: outbound::Config::default() }
    }
}

impl PreviewConfig {
    /// Refuses what cannot work.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.max_waiting >= 1, "service.previews.max_waiting must be at least 1");
        anyhow::ensure!(
            (1..=64).contains(&self.workers),
            "service.previews.workers must be between 1 and 64"
        );
        Ok(())
    }
}

/// What the link of a message leads to.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where the message is.
    pub conversation: ConversationId,
    /// The message.
    pub message_id: MessageId,
    /// The membership version under which it is told.
    pub membership_version: i64,
    /// What was found. Its address is the link, as the message has it.
    pub preview: pb::LinkPreview,
}

impl Found {
    /// The message with the preview; `None` when it is gone, has another link by now, or shows the same already.
    pub fn apply(&self, message: &Message) -> Option<Message> {
        let is_new = message.details.preview.as_ref() != Some(&self.preview);
        if !is_new || wanted(message) != Some(&self.preview.url) {
            return None;
        }
        let details = Details { preview: Some(self.preview.clone()), ..message.details.clone() };
        Some(Message { details, ..message.clone() })
    }
}

/// The link of a message that a preview may be for. What nobody here can read and what is to leave no trace has none.
fn wanted(message: &Message) -> Option<&str> {
    if message.deletion.is_some() || message.is_confidential() {
        return None;
    }
    message.content.as_ref()?.first_link()
}

impl Details {
    /// What is left when a message is edited into this: a preview goes with its link.
    #[must_use]
    pub fn of_edit(&self, content: &Content) -> Self {
        let mut details = self.clone();
        details.preview = details.preview.filter(|preview| content.first_link() == Some(&preview.url));
        details
    }
}

/// The way to previews, if there are any.
#[derive(Clone, Debug, Default)]
pub struct Previews(Option<mpsc::Sender<Wanted>>);

/// A link that is to be looked at.
#[derive(Debug)]
struct Wanted {
    conversation: ConversationId,
    message_id: MessageId,
    sender: UserId,
    link: String,
}

impl Previews {
    /// Asks for the preview of a message that was stored or edited, if it has a link and shows no preview of it.
    pub fn want(&self, message: &Message) {
        let Some(queue) = &self.0 else { return };
        let Some(link) = wanted(message) else { return };
        if message.details.preview.as_ref().is_some_and(|preview| preview.url == link) {
            return;
        }
        let wanted = Wanted {
            conversation: message.conversation,
            message_id: message.message_id,
            sender: message.sender,
            link: link.to_owned(),
        };
        if queue.try_send(wanted).is_err() {
            count("dropped");
        }
    }
}

/// Looks at links.
#[derive(Clone)]
pub struct Previewer {
    /// Where the messages are.
    pub store: Store,
    /// Whom we ask.
    pub conversations: Conversations,
    /// Tells the time.
    pub clock: Clock,
    /// Tells the others.
    pub publisher: Publisher,
}

impl Previewer {
    /// Starts as many workers as the settings say: none when previews are off.
    pub fn start(self, config: &PreviewConfig, tasks: &Tasks) -> anyhow::Result<Previews> {
        if !config.enabled {
            return Ok(Previews::default());
        }
        if !config.fetch.allow_networks.is_empty() {
            tracing::warn!(
                "previews.fetch.allow_networks: people who write links reach the machines of {:?}",
                config.fetch.allow_networks
            );
        }
        let fetcher = Fetcher::new(&config.fetch)?;
        let (entrance, queue) = mpsc::channel(config.max_waiting);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..config.workers {
            let (previewer, fetcher, queue) = (self.clone(), fetcher.clone(), Arc::clone(&queue));
            tasks.spawn("preview", move |shutdown| previewer.work(fetcher, queue, shutdown));
        }
        Ok(Previews(Some(entrance)))
    }

    async fn work(self, fetcher: Fetcher, queue: Arc<Mutex<mpsc::Receiver<Wanted>>>, shutdown: Shutdown) {
        let working = async {
            while let Some(wanted) = next(&queue).await {
                // A page that we trip over costs its own preview only.
                let outcome = AssertUnwindSafe(self.look(&fetcher, wanted)).catch_unwind().await;
                count(outcome.unwrap_or_else(|_| {
                    tracing::error!("a preview panicked");
                    "failed"
                }));
            }
        };
        tokio::select! {
            () = working => {}
            () = shutdown.wait() => {}
        }
    }

    /// Looks at a link, and adds what it leads to to its message. Says what came of it, in a word for metrics.
    async fn look(&self, fetcher: &Fetcher, wanted: Wanted) -> &'static str {
        let Ok(address) = WebAddress::parse(&wanted.link) else { return "refused" };
        let page = match fetcher.page(&address).await {
            Ok(page) => page,
            Err(failure) => return failure.label(),
        };
        let Some(Summary { title, description }) = Summary::of(&page.bytes) else { return "no_title" };
        let Wanted { conversation, message_id, sender, link } = wanted;
        // Told under the membership of now: who is out by now does not hear of it.
        let membership_version = match self.conversations.check(&[(conversation, sender)]).await.as_deref() {
            Ok([access]) => access.membership_version,
            Ok(_) | Err(_) => return "failed",
        };
        let preview = pb::LinkPreview { url: link, title, description };
        let found = Found { conversation, message_id, membership_version, preview };
        match self.store.preview(&found, self.clock.now()).await {
            Ok(Some(event)) => {
                self.publisher.event(event);
                "shown"
            }
            Ok(None) => "late",
            Err(failure) => {
                failure.log();
                "failed"
            }
        }
    }
}

async fn next(queue: &Mutex<mpsc::Receiver<Wanted>>) -> Option<Wanted> {
    queue.lock().await.recv().await
}

fn count(outcome: &'static str) {
    metrics::counter!("messaging_previews_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chassis::clock::Timestamp;
    use proto::messaging::v1::DeletionReason;

    use super::*;
    use crate::message::{Deletion, Draft, Letter, Sequence, Target};

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn message(says: &str, lifetime: Option<Duration>) -> Message {
        let conversation = ConversationId::generate();
        let draft = Draft {
            target: Target::Conversation(conversation),
            content: Content::text(says),
            client_message_id: None,
            reply_to: None,
            lifetime,
            scheduled_time: None,
        };
        Letter::new(draft, conversation, UserId::generate()).posted(Sequence::new(1), NOW)
    }

    fn found(message: &Message, link: &str) -> Found {
        let preview =
            pb::LinkPreview { url: link.to_owned(), title: "A page".to_owned(), description: String::new() };
        let (conversation, message_id) = (message.conversation, message.message_id);
        Found { conversation, message_id, membership_version: 1, preview }
    }

    #[test]
    fn a_preview_comes_to_a_message_that_has_its_link() {
        let plain = message("see https://a.example", None);
        let found = found(&plain, "https://a.example");
        let shown = found.apply(&plain).unwrap();
        assert_eq!(shown.details.preview.as_ref(), Some(&found.preview));
        assert_eq!(found.apply(&shown), None, "it is there already");
        let other = Message { content: Some(Content::text("https://b.example")), ..plain.clone() };
        assert_eq!(found.apply(&other), None);
        let deletion = Deletion { time: NOW, by: None, reason: DeletionReason::Deleted };
        assert_eq!(found.apply(&plain.tombstone(deletion)), None);
    }

    #[test]
    fn a_preview_goes_with_its_link() {
        let plain = message("see https://a.example", None);
        let shown = found(&plain, "https://a.example").apply(&plain).unwrap();
        assert!(shown.details.of_edit(&Content::text("look: https://a.example")).preview.is_some());
        assert!(
            shown.details.of_edit(&Content::text("https://b.example https://a.example")).preview.is_none()
        );
    }

    #[test]
    fn what_is_secure_or_will_expire_is_never_looked_at() {
        assert!(wanted(&message("https://a.example", None)).is_some());
        assert!(wanted(&message("https://a.example", Some(Duration::from_secs(5)))).is_none());
        let mut secure = message("x", None);
        let kind = pb::content::Kind::Secure(pb::SecureContent {
            ciphertext: b"https://a.example".to_vec(),
            algorithm: "x".to_owned(),
            ..pb::SecureContent::default()
        });
        let content = pb::Content { kind: Some(kind), ..pb::Content::default() };
        secure.content = Some(Content::parse(Some(content), NOW).unwrap());
        assert!(wanted(&secure).is_none());
    }

    #[test]
    fn a_full_queue_takes_no_more_and_nobody_waits() {
        let (entrance, mut queue) = mpsc::channel(1);
        let previews = Previews(Some(entrance));
        for _ in 0..3 {
            previews.want(&message("https://a.example", None));
        }
        assert!(queue.try_recv().is_ok() && queue.try_recv().is_err());
        previews.want(&message("no link", None));
        let shown = message("https://a.example", None);
        previews.want(&found(&shown, "https://a.example").apply(&shown).unwrap());
        assert!(queue.try_recv().is_err());
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        assert!(PreviewConfig::default().check().is_ok() && !PreviewConfig::default().enabled);
        assert!(PreviewConfig { workers: 0, ..PreviewConfig::default() }.check().is_err());
        assert!(PreviewConfig { max_waiting: 0, ..PreviewConfig::default() }.check().is_err());
    }
}
