//! Files: a place to put bytes, an address to fetch them from, and who may.
//!
//! The rows say whose a file is and which messages refer to it (`store/uploads.rs`); the bytes are in a folder or in a
//! bucket (`depot`); a ticket says that somebody was let in a moment ago (`ticket`), so that bytes can come and go without
//! a session; what nothing refers to is swept away (`sweep`).

mod bounds;
mod config;
mod connector;
pub mod depot;
mod media;
mod pace;
mod sweep;
mod ticket;
mod writers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chassis::caller::{Caller, CallerKind};
use chassis::clock::{Clock, Timestamp};
use chassis::config::Secret;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use proto::id::{ConversationId, ObjectId, UploadId, UserId};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};

pub use bounds::{Bounds, Excess, day};
pub use config::{S3Config, UploadsConfig};
pub use sweep::Sweeper;

use crate::conversations::Conversations;
use crate::error::Error;
use crate::people::People;
use crate::store::Store;
use bounds::BoundsByKind;
use depot::Depot;
use media::{MediaType, MediaTypes, name};
use pace::Pace;
use ticket::{Grant, Holder, Key};
use writers::Writers;

/// How long a ticket to write holds.
const WRITING: Duration = Duration::from_secs(3600);

/// How long a ticket to read holds.
const READING: Duration = Duration::from_secs(300);

/// What no message refers to goes after this; and the bytes of an attempt that nobody finished.
const UNUSED: Duration = Duration::from_secs(24 * 3600);

/// The largest piece of a file in one message of a stream.
const PIECE: usize = 256 * 1024;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub upload_id: UploadId,
    /// Who uploaded it.
    pub user: UserId,
    /// Its name; may be empty.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// How many bytes it has.
    pub size: i64,
    /// When its place was made.
    pub create_time: Timestamp,
    /// Its bytes; `None` until they are there.
    pub bytes: Option<Bytes>,
}

/// The bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Where they are.
    pub object: ObjectId,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// What became of the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// These bytes are the file now.
    Complete,
    /// Others were faster.
    AlreadyComplete,
    /// The file is gone.
    Gone,
}

/// What somebody wants to upload.
#[derive(Clone, Debug)]
pub struct Plan {
    name: String,
    media_type: MediaType,
    size: i64,
}

impl Plan {
    /// Checks what the contract cannot declare; the error names the field and the rule.
    pub fn parse(name_: String, media_type: &str, size: i64) -> Result<Self, Error> {
        let invalid = |field| move |rule| Error::Invalid { field, rule };
        Ok(Self {
            name: name(name_).map_err(invalid("name"))?,
            media_type: MediaType::parse(media_type).map_err(invalid("media_type"))?,
            size,
        })
    }
}

/// The way to the bytes of a file.
#[derive(Clone, Debug)]
pub struct Way {
    /// The address.
    pub url: String,
    /// What it needs.
    pub ticket: String,
    /// Until when it holds.
    pub expire_time: Timestamp,
}

/// What one can do with files.
#[derive(Clone)]
pub struct Uploads {
    store: Store,
    conversations: Conversations,
    people: People,
    clock: Clock,
    depot: Depot,
    key: Key,
    writers: Writers,
    rules: Arc<Rules>,
}

/// What may be uploaded, and what addresses look like.
struct Rules {
    base_url: String,
    max_bytes: i64,
    media_types: MediaTypes,
    bounds: BoundsByKind,
    max_silence: Duration,
    min_bytes_per_second: u64,
}

impl Uploads {
    /// Opens the place of the bytes. The first process to start on a database draws the key of the tickets.
    pub async fn open(
        config: &UploadsConfig,
        store: Store,
        conversations: Conversations,
        people: People,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let rules = Rules {
            base_url: config.base_url.clone().unwrap_or_default().trim_end_matches('/').to_owned(),
            max_bytes: i64::try_from(config.max_bytes)?,
            media_types: MediaTypes::parse(&config.media_types)?,
            bounds: BoundsByKind::of(config)?,
            max_silence: config.max_silence,
            min_bytes_per_second: config.min_bytes_per_second,
        };
        let key = Secret::new(store.secret("upload_key", Secret::random()?.expose()).await?);
        Ok(Self {
            depot: Depot::open(config)?,
            key: Key::new(&key),
            writers: Writers::new(config.max_writers, config.max_writers_per_user),
            rules: Arc::new(rules),
            store,
            conversations,
            people,
            clock,
        })
    }

    /// What takes away what is not needed any more.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper { store: self.store.clone(), depot: self.depot.clone(), clock: self.clock.clone() }
    }

    /// Makes a place for a file.
    pub async fn create(&self, caller: &Caller, plan: Plan) -> Result<(Upload, Way), Error> {
        if !self.rules.media_types.allow(&plan.media_type) {
            return Err(Error::Invalid { field: "media_type", rule: "must be one that is allowed here" });
        }
        if plan.size > self.rules.max_bytes {
            return Err(Error::Invalid { field: "size", rule: "must not be larger than files may be here" });
        }
        let holder = Holder::of(caller)?;
        let now = self.clock.now();
        let upload = Upload {
            upload_id: UploadId::generate(),
            user: caller.user_id,
            name: plan.name,
            media_type: plan.media_type.into_string(),
            size: plan.size,
            create_time: now,
            bytes: None,
        };
        let bounds = self.rules.bounds.for_kind(caller.kind);
        // What was begun before can be written no more.
        let writable_from = now.minus(WRITING);
        if let Some(excess) =
            self.store.create_upload(&upload, now.plus(UNUSED), writable_from, bounds).await?
        {
            return Err(bounds.refusal(excess, now));
        }
        let grant = Grant::Write { is_guest: caller.kind == CallerKind::Guest };
        let way = self.way(&upload, grant, holder, now.plus(WRITING));
        Ok((upload, way))
    }

    /// A file, and the way to its bytes when they are there.
    pub async fn get(&self, caller: &Caller, id: UploadId) -> Result<(Upload, Option<Way>), Error> {
        let (user, holder) = (caller.user_id, Holder::of(caller)?);
        let upload = self.find(id).await?;
        let reader = if upload.user == user { None } else { Some(self.conversation_for(user, id).await?) };
        let until = self.clock.now().plus(READING);
        let way = upload.bytes.map(|_| self.way(&upload, Grant::Read(reader), holder, until));
        Ok((upload, way))
    }

    /// A conversation that the user may read and that has a message with this file.
    async fn conversation_for(&self, user: UserId, id: UploadId) -> Result<ConversationId, Error> {
        let own: BTreeSet<_> = self.conversations.memberships(user).await?.ids().collect();
        let found = self.store.conversations_with_upload(id).await?;
        // Only members read. What is remembered of them may be old, so that they are asked about all the same.
        let questions: Vec<_> =
            found.into_iter().filter(|found| own.contains(found)).map(|found| (found, user)).collect();
        let answers = self.conversations.check(&questions).await?;
        let readable = questions.iter().zip(answers).find(|(_, access)| access.may_read);
        readable.map(|((conversation, _), _)| *conversation).ok_or(Error::UploadNotFound(id))
    }

    /// Takes the bytes of a file. What goes wrong leaves the file as it was, to be tried again.
    pub async fn write(
        &self,
        id: UploadId,
        ticket: &str,
        bytes: impl Stream<Item = Result<bytes::Bytes, Error>> + Send,
    ) -> Result<Upload, Error> {
        let Some((Grant::Write { is_guest }, holder)) = self.key.open(ticket, id, self.clock.now()) else {
            return Err(Error::TicketInvalid);
        };
        self.check_session(holder).await?;
        let mut upload = self.find(id).await?;
        if upload.bytes.is_some() {
            return Err(Error::UploadComplete(id));
        }
        let _writing = self.writers.enter(id, upload.user)?;
        let (object, now) = (ObjectId::generate(), self.clock.now());
        let bounds = self.rules.bounds.for_guest(is_guest);
        if let Some(excess) = self.store.begin_object(&upload, object, now, now.plus(UNUSED), bounds).await? {
            return Err(bounds.refusal(excess, now));
        }
        let outcome = match self.take(&upload, object, bytes).await {
            Ok(sha256) => self.complete(id, Bytes { object, sha256 }).await,
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            // What cannot be removed now is left to the sweeper.
            if self.depot.remove(object).await.is_ok() {
                self.store.forget_object(object).await.unwrap_or_else(|failure| failure.log());
            }
        }
        upload.bytes = Some(outcome?);
        Ok(upload)
    }

    /// Waits for what comes first, as long as bytes may take.
    pub async fn first<T>(&self, coming: impl Future<Output = T> + Send) -> Result<T, Error> {
        timeout(self.rules.max_silence, coming).await.map_err(|_| self.rules.too_slow())
    }

    async fn complete(&self, id: UploadId, bytes: Bytes) -> Result<Bytes, Error> {
        match self.store.complete_upload(id, &bytes).await? {
            Completion::Complete => Ok(bytes),
            Completion::AlreadyComplete => Err(Error::UploadComplete(id)),
            Completion::Gone => Err(Error::UploadNotFound(id)),
        }
    }

    /// Puts bytes into an object, exactly as many as were said. Answers their sum.
    async fn take(
        &self,
        upload: &Upload,
        object: ObjectId,
        bytes: impl Stream<Item = Result<bytes::Bytes, Error>> + Send,
    ) -> Result<[u8; 32], Error> {
        let mut writer = self.depot.writer(object, upload.size);
        let mut pace = Pace::new(self.rules.max_silence, self.rules.min_bytes_per_second);
        let mut left = usize::try_from(upload.size).unwrap_or(usize::MAX);
        let mut sum = Sha256::new();
        let mut bytes = std::pin::pin!(bytes);
        let outcome = loop {
            let waiting = Instant::now();
            let next = match timeout(pace.patience(), bytes.next()).await {
                Ok(next) => next.transpose(),
                Err(_) => Err(self.rules.too_slow()),
            };
            if let Ok(Some(piece)) = &next {
                pace.note(waiting.elapsed(), piece.len());
            }
            match next {
                Ok(Some(piece)) => match left.checked_sub(piece.len()) {
                    Some(rest) => {
                        left = rest;
                        sum.update(&piece);
                        if let Err(error) = writer.write(piece).await {
                            break Err(error);
                        }
                    }
                    None => break Err(Error::UploadIncomplete(upload.upload_id)),
                },
                Ok(None) if left > 0 => break Err(Error::UploadIncomplete(upload.upload_id)),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match outcome {
            Ok(()) => writer.finish().await?,
            Err(error) => {
                writer.abort().await;
                return Err(error);
            }
        }
        Ok(sum.finalize().into())
    }

    /// The bytes of a file from an offset on, all or so many.
    pub async fn read(
        &self,
        id: UploadId,
        ticket: &str,
        offset: u64,
        length: u64,
    ) -> Result<(Upload, BoxStream<'static, Result<bytes::Bytes, Error>>), Error> {
        let Some((Grant::Read(from), holder)) = self.key.open(ticket, id, self.clock.now()) else {
            return Err(Error::TicketInvalid);
        };
        self.check_session(holder).await?;
        let upload = self.find(id).await?;
        if let Some(conversation) = from {
            self.check_reading(id, conversation, holder.user).await?;
        }
        let Some(Bytes { object, .. }) = upload.bytes else { return Err(Error::UploadNotFound(id)) };
        let size = u64::try_from(upload.size).unwrap_or_default();
        let end = if length == 0 { size } else { offset.saturating_add(length).min(size) };
        let depot = self.depot.clone();
        // Who only wants to know what it is costs the depot nothing.
        let pieces = stream::once(async move {
            let pieces = match offset < end {
                true => depot.read(id, object, offset..end).await?,
                false => stream::empty().boxed(),
            };
            Ok::<_, Error>(pieces)
        });
        let pieces = pieces.try_flatten().map_ok(|bytes| stream::iter(pieces_of(bytes).map(Ok)));
        Ok((upload, pieces.try_flatten().boxed()))
    }

    /// All bytes of a file, for its owner; none while they have not come.
    pub fn content(&self, upload: &Upload) -> BoxStream<'static, Result<bytes::Bytes, Error>> {
        let (depot, id) = (self.depot.clone(), upload.upload_id);
        let size = u64::try_from(upload.size).unwrap_or_default();
        let Some(Bytes { object, .. }) = upload.bytes.filter(|_| size > 0) else {
            return stream::empty().boxed();
        };
        stream::once(async move { depot.read(id, object, 0..size).await }).try_flatten().boxed()
    }

    /// Refuses a ticket whose session has ended: the user signed out, or the account is gone.
    async fn check_session(&self, holder: Holder) -> Result<(), Error> {
        match self.people.has_session(holder.user, holder.session).await? {
            true => Ok(()),
            false => Err(Error::TicketInvalid),
        }
    }

    /// Refuses one who is not in the conversation any more, and a file whose message there has gone.
    async fn check_reading(
        &self,
        id: UploadId,
        conversation: ConversationId,
        user: UserId,
    ) -> Result<(), Error> {
        let access = self.conversations.access(conversation, user).await?;
        match access.is_member && self.store.has_upload(conversation, id).await? {
            true => Ok(()),
            false => Err(Error::UploadNotFound(id)),
        }
    }

    async fn find(&self, id: UploadId) -> Result<Upload, Error> {
        self.store.uploads(&[id]).await?.pop().ok_or(Error::UploadNotFound(id))
    }

    fn way(&self, upload: &Upload, grant: Grant, holder: Holder, expire_time: Timestamp) -> Way {
        let id = upload.upload_id;
        let ticket = self.key.ticket(grant, holder, id, expire_time);
        let url = format!("{}/v1/uploads/{id}/content?ticket={ticket}", self.rules.base_url);
        Way { url, ticket, expire_time }
    }
}

impl Holder {
    /// A caller with a session of its own.
    fn of(caller: &Caller) -> Result<Self, Error> {
        let session = caller.session_id.ok_or(Error::SessionEnded)?;
        Ok(Self { user: caller.user_id, session })
    }
}

impl Rules {
    const fn too_slow(&self) -> Error {
        Error::UploadTooSlow { least: self.min_bytes_per_second }
    }
}

/// Cuts bytes to what one message may hold.
fn pieces_of(mut bytes: bytes::Bytes) -> impl Iterator<Item = bytes::Bytes> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(PIECE.min(bytes.len()))))
}
