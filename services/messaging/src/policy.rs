//! The operator's say in what is sent: what we ask of the service that is named in the settings, in our words, over its
//! client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::config::TlsConfig;
use chassis::transport::Transport;
use proto::Incoming as _;
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1 as pb;
use proto::messaging::v1::check_message_response::Verdict;
use proto::messaging::v1::message_policy_service_client::MessagePolicyServiceClient;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Status};

use crate::content::Content;
use crate::error::Error;

/// The largest answer: a content has far less.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// The most characters of a reason.
const MAX_REASON: usize = 512;

/// The log hears of failures once in so long.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// The operator's own service that has a say in what is sent.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Where it serves `parlor.messaging.v1.MessagePolicyService`: `http://host:port`, or `https://` with `tls`.
    pub url: String,
    /// How long it may think about one message, such as `300ms`. The sender waits for it.
    #[serde(default = "default_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// What happens to a message about which it does not answer in time, or not in a way that makes sense: `refuse` or
    /// `allow`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// TLS towards it.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

/// What happens to a message when the policy does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing is sent without its word.
    #[default]
    Refuse,
    /// It is sent as it is.
    Allow,
}

const fn default_timeout() -> Duration {
    Duration::from_millis(300)
}

impl PolicyConfig {
    /// Refuses what cannot work.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.timeout.is_zero(), "service.policy.timeout must be more than nothing");
        match (self.url.split_once("://"), &self.tls) {
            (Some(("http", _)), None) | (Some(("https", _)), Some(_)) => Ok(()),
            (Some(("http", _)), Some(_)) => anyhow::bail!("service.policy.tls needs a url with https://"),
            (Some(("https", _)), None) => {
                anyhow::bail!("service.policy.url with https:// needs service.policy.tls")
            }
            _ => anyhow::bail!("service.policy.url must be http://host:port or https://host:port"),
        }
    }
}

/// What somebody wants to say.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub sender: UserId,
    /// What.
    pub content: &'a Content,
    /// The message that is edited; `None` for a new one.
    pub edits: Option<MessageId>,
    /// Whether it is a copy of another message.
    pub forwarded: bool,
    /// When.
    pub now: Timestamp,
}

/// The way to the operator's policy.
#[derive(Clone, Debug)]
pub struct Policy {
    client: MessagePolicyServiceClient<Transport>,
    timeout: Duration,
    on_failure: OnFailure,
    complaints: Arc<Complaints>,
}

/// What was decided.
#[derive(Clone, Debug)]
pub enum Ruling {
    /// It may be said as it is.
    Allowed,
    /// It may not be said, for this reason.
    Refused(String),
    /// This is said instead.
    Replaced(Box<Content>),
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// None in time.
    Late,
    /// Nobody is there, or refuses to say.
    Away(Code),
    /// One that makes no sense.
    Nonsense(&'static str),
}

impl Policy {
    /// Asks whom the settings name. Connects when it is first asked.
    pub fn new(config: &PolicyConfig) -> anyhow::Result<Self> {
        let transport = Transport::remote(std::slice::from_ref(&config.url), config.tls.as_ref())?;
        Ok(Self {
            client: MessagePolicyServiceClient::new(transport).max_decoding_message_size(MAX_ANSWER_BYTES),
            timeout: config.timeout,
            on_failure: config.on_failure,
            complaints: Arc::default(),
        })
    }

    /// Asks whether something may be said.
    pub async fn ask(&self, question: Question<'_>) -> Result<Ruling, Trouble> {
        let started = Instant::now();
        let verdict = self.verdict(question).await;
        metrics::histogram!("messaging_policy_seconds").record(started.elapsed().as_secs_f64());
        verdict
    }

    /// What comes of it: refused, or said as it is, or what is said instead.
    pub fn conclude(&self, ruling: Result<Ruling, Trouble>) -> Result<Option<Content>, Error> {
        let label = match &ruling {
            Ok(Ruling::Allowed) => "allowed",
            Ok(Ruling::Refused(_)) => "refused",
            Ok(Ruling::Replaced(_)) => "replaced",
            Err(Trouble::Late) => "late",
            Err(Trouble::Away(_)) => "away",
            Err(Trouble::Nonsense(_)) => "nonsense",
        };
        metrics::counter!("messaging_policy_verdicts_total", "verdict" => label).increment(1);
        match ruling {
            Ok(Ruling::Allowed) => Ok(None),
            Ok(Ruling::Refused(reason)) => Err(Error::MessageRefused(reason)),
            Ok(Ruling::Replaced(content)) => Ok(Some(*content)),
            Err(trouble) => {
                self.complaints.add(trouble, self.on_failure);
                match self.on_failure {
                    OnFailure::Refuse => Err(Error::PolicyUnavailable),
                    OnFailure::Allow => Ok(None),
                }
            }
        }
    }

    async fn verdict(&self, question: Question<'_>) -> Result<Ruling, Trouble> {
        let mut request = Request::new(pb::CheckMessageRequest {
            conversation_id: question.conversation.to_string(),
            sender_id: question.sender.to_string(),
            content: (!question.content.is_secure()).then(|| question.content.wire().clone()),
            message_id: question.edits.map(|id| id.to_string()).unwrap_or_default(),
            forwarded: question.forwarded,
        });
        request.set_timeout(self.timeout);
        let mut client = self.client.clone();
        let response = timeout(self.timeout, client.check_message(request)).await;
        let response = response.map_err(|_| Trouble::Late)?.map_err(|status| Trouble::of(&status))?;
        match response.into_inner().verdict {
            Some(Verdict::Allow(pb::Allow {})) => Ok(Ruling::Allowed),
            Some(Verdict::Refuse(refuse)) => Ok(Ruling::Refused(presentable(&refuse.reason))),
            Some(Verdict::Replace(content)) => {
                replacement(question.content, content, question.now).map(Box::new).map(Ruling::Replaced)
            }
            None => Err(Trouble::Nonsense("there is no verdict in it")),
        }
    }
}

impl Trouble {
    fn of(status: &Status) -> Self {
        match status.code() {
            Code::DeadlineExceeded => Self::Late,
            Code::Internal => Self::Nonsense("it cannot be read, or something went wrong there"),
            code => Self::Away(code),
        }
    }
}

/// What is said instead. It follows the rules of everything that is said, and speaks for nobody else: nothing stands in
/// for what only the receivers can read, only services write in the name of services, and files are the sender's.
fn replacement(asked: &Content, content: pb::Content, now: Timestamp) -> Result<Content, Trouble> {
    let nonsense = |what| Err(Trouble::Nonsense(what));
    if asked.is_secure() {
        return nonsense("a secure message cannot be replaced");
    }
    let request = pb::CheckMessageRequest { content: Some(content), ..pb::CheckMessageRequest::default() };
    if !request.check().is_empty() {
        return nonsense("the replacement breaks a rule of the contract");
    }
    let Ok(content) = Content::parse(request.content, now) else {
        return nonsense("the replacement breaks a rule of content");
    };
    if content.is_secure() || content.of_services().is_some() {
        return nonsense("the replacement is of a kind that it cannot be");
    }
    if !content.uploads().all(|id| asked.uploads().any(|own| own == id)) {
        return nonsense("the replacement names a file that the message does not");
    }
    Ok(content)
}

/// A reason as it can be shown: one line, and not long.
fn presentable(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

/// What goes wrong, told now and then: a policy that is away fails with every message.
#[derive(Debug, Default)]
struct Complaints(Mutex<(Option<Instant>, u64)>);

impl Complaints {
    fn add(&self, trouble: Trouble, on_failure: OnFailure) {
        let Some(count) = self.due(Instant::now()) else { return };
        let outcome = match on_failure {
            OnFailure::Refuse => "messages are refused",
            OnFailure::Allow => "messages go through",
        };
        tracing::warn!(
            failures = count,
            ?trouble,
            "the policy for messages does not answer as it should: {outcome}"
        );
    }

    /// How many failures there are to tell of; `None` when it is too early to tell.
    fn due(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        if state.0.is_some_and(|last| now.duration_since(last) < COMPLAIN_EVERY) {
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use proto::messaging::v1::content::Kind;
    use proto::messaging::v1::media::Source;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn config(url: &str) -> PolicyConfig {
        PolicyConfig {
            url: url.to_owned(),
            timeout: default_timeout(),
            on_failure: OnFailure::default(),
            tls: None,
        }
    }

    #[tokio::test]
    async fn settings_that_cannot_work_are_refused() {
        let try_out = |config: &PolicyConfig| config.check().and_then(|()| Policy::new(config));
        assert!(try_out(&config("http://127.0.0.1:1")).is_ok());
        for bad in ["", "127.0.0.1:1", "https://127.0.0.1:1", "ftp://a.example", "http://", "http://a b"] {
            assert!(try_out(&config(bad)).is_err(), "{bad}");
        }
        let hasty = PolicyConfig { timeout: Duration::ZERO, ..config("http://127.0.0.1:1") };
        assert!(try_out(&hasty).is_err());
    }

    fn attached(id: &str) -> pb::Content {
        let media = pb::Media { source: Some(Source::UploadId(id.to_owned())) };
        let kind = pb::AttachmentKind::File.into();
        let attachment = pb::Attachment { kind, media: Some(media), ..pb::Attachment::default() };
        pb::Content { kind: None, attachments: vec![attachment] }
    }

    #[test]
    fn a_replacement_follows_the_rules_and_speaks_for_nobody_else() {
        const MINE: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
        const THEIRS: &str = "01890a5d-ac96-774b-bcce-b302099a8058";
        let text =
            |says: &str| pb::Content { kind: Some(Kind::Text(says.to_owned())), ..pb::Content::default() };
        let asked = Content::parse(Some(attached(MINE)), NOW).unwrap();
        assert_eq!(replacement(&asked, text("e\u{301}"), NOW), Ok(Content::text("é")));
        assert_eq!(replacement(&asked, attached(MINE), NOW), Ok(asked.clone()));
        let system = Kind::System(pb::SystemContent { text: "x".to_owned() });
        let secure = Kind::Secure(pb::SecureContent {
            ciphertext: vec![1],
            algorithm: "x".to_owned(),
            ..pb::SecureContent::default()
        });
        let kind = |kind: &Kind| pb::Content { kind: Some(kind.clone()), ..pb::Content::default() };
        for bad in [
            text(""),
            text("a\0b"),
            text(&"x".repeat(70_000)),
            pb::Content::default(),
            attached(THEIRS),
            attached("no id"),
            kind(&system),
            kind(&secure),
        ] {
            assert!(matches!(replacement(&asked, bad, NOW), Err(Trouble::Nonsense(_))));
        }
        let asked = Content::parse(Some(kind(&secure)), NOW).unwrap();
        assert!(replacement(&asked, text("x"), NOW).is_err());
    }

    #[test]
    fn failures_are_told_now_and_then_with_their_number() {
        let (complaints, now) = (Complaints::default(), Instant::now());
        assert_eq!(complaints.due(now), Some(1));
        assert_eq!(complaints.due(now), None);
        assert_eq!(complaints.due(now + COMPLAIN_EVERY / 2), None);
        assert_eq!(complaints.due(now + COMPLAIN_EVERY), Some(3));
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(presentable("a\r\nb"), "ab");
        assert_eq!(presentable(&"ä".repeat(600)).chars().count(), MAX_REASON);
    }
}
