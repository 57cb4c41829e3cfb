//! Who reads: follows all conversations from their beginning, comes back from where it was whenever it is cut off, and
//! notes every event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::messaging::v1::stream_events_response::Update;
use proto::messaging::v1::sync_service_client::SyncServiceClient;
use proto::messaging::v1::{Head, StreamEventsRequest};
use serde_json::{Value, json};
use tests::history::{Client, What};
use tests::person::{array, number, text};
use tests::socket::Place;
use tests::sse::{EventStream, Sent};
use tests::{Connection, Person};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::load::Shared;
use crate::settled;

/// How long it may take to be connected and to be told what follows.
const PATIENCE: Duration = Duration::from_secs(10);

/// After so many events a reader says how far it has read.
const READ_EVERY: u32 = 25;

/// Who reads.
pub struct Reader {
    /// What all know.
    pub shared: Arc<Shared>,
    /// Its number.
    pub client: Client,
    /// Who it is.
    pub person: Person,
}

/// Reads on sockets, at every gateway in turn.
pub async fn socket(reader: Reader) {
    let heads = reader.shared.conversations.iter().map(|id| (id.clone(), 0)).collect();
    let mut place = Place { heads, ..Place::default() };
    let mut turn = reader.client;
    loop {
        let gateway = reader.shared.gateways[turn % reader.shared.gateways.len()];
        turn += 1;
        if let Some(connection) = reader.takes_up(gateway, &mut place).await {
            let code = reader.listens(connection, &mut place).await;
            reader.shared.closed(code);
        }
        // Not all at once.
        sleep(Duration::from_millis(20 + 30 * (reader.client as u64 % 5))).await;
    }
}

impl Reader {
    async fn takes_up(&self, gateway: std::net::SocketAddr, place: &mut Place) -> Option<Connection> {
        let mut connection = match timeout(PATIENCE, Connection::try_open(gateway, &self.person.token)).await
        {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                if error.to_string().contains("UNAUTHENTICATED") {
                    self.shared.complain(format!("a reader with a good token was refused: {error}"));
                }
                return None;
            }
            Err(_) => {
                self.shared.complain(format!("{gateway} did not answer hello for {PATIENCE:?}"));
                return None;
            }
        };
        if place.epoch.is_empty() {
            place.epoch.clone_from(&connection.place.epoch);
        }
        self.shared.recorder.note(self.client, What::Resumed);
        let answer = timeout(PATIENCE, connection.try_resume(place.clone())).await.ok()?.ok()?;
        if answer["fullSyncRequired"] == json!(true) {
            self.shared.complain("a full sync was asked for".to_owned());
        }
        for gone in array(&answer["goneConversationIds"]) {
            place.heads.remove(gone.as_str().unwrap_or_default());
        }
        Some(connection)
    }

    /// Notes what comes until the connection ends; gives the close code.
    async fn listens(&self, mut connection: Connection, place: &mut Place) -> u16 {
        let mut heard = 0;
        loop {
            let frame = match connection.next_frame().await {
                Ok(frame) => frame,
                Err(closed) => return closed.code,
            };
            if let Some(event) = frame.get("event") {
                let (conversation, sequence, entry) = settled::of_json(event);
                self.shared.received(self.client, &conversation, sequence, entry);
                heard += 1;
                if heard % READ_EVERY == 0 {
                    let read =
                        json!({ "conversationId": conversation, "readSequence": sequence.to_string() });
                    let _ = connection.begins(json!({ "advanceWatermark": read })).await;
                }
                place.heads.insert(conversation, sequence);
            }
            if let Some(watermark) = frame
                .get("receipt")
                .or_else(|| frame.get("watermarkAdvanced").map(|answer| &answer["watermark"]))
            {
                self.has_read(watermark);
            }
        }
    }

    fn has_read(&self, watermark: &Value) {
        let (conversation, user) = (text(&watermark["conversationId"]), text(&watermark["userId"]));
        let sequence = number(&watermark["readSequence"]);
        self.shared.recorder.note(self.client, What::Read { conversation, user, sequence });
    }
}

/// Reads server-sent events, at every gateway in turn. It hears what happens from when it first comes.
pub async fn events(reader: Reader) {
    let (mut turn, mut last, mut followed) = (reader.client, None, BTreeSet::new());
    loop {
        let gateway = reader.shared.gateways[turn % reader.shared.gateways.len()];
        turn += 1;
        reader.shared.recorder.note(reader.client, What::Resumed);
        let opening = EventStream::try_open(gateway, &reader.person.token, last.as_deref());
        match timeout(PATIENCE, opening).await {
            Ok(Ok(mut stream)) => {
                while let Ok(sent) = stream.next().await {
                    reader.takes(&sent, &mut followed);
                    if !sent.id.is_empty() {
                        last = Some(sent.id);
                    }
                }
            }
            Ok(Err(error)) if error.to_string().contains("UNAUTHENTICATED") => {
                reader.shared.complain(format!("a reader with a good token was refused: {error}"));
            }
            Ok(Err(_)) => {}
            Err(_) => reader.shared.complain(format!("{gateway} did not open a stream for {PATIENCE:?}")),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

impl Reader {
    fn takes(&self, sent: &Sent, followed: &mut BTreeSet<String>) {
        let Some(event) = sent.data.get("event") else { return };
        let (conversation, sequence, entry) = settled::of_json(event);
        if followed.insert(conversation.clone()) {
            let (conversation, after) = (conversation.clone(), sequence - 1);
            self.shared.recorder.note(self.client, What::Follows { conversation, after });
        }
        self.shared.received(self.client, &conversation, sequence, entry);
    }
}

/// Reads on gRPC streams, at every messaging service in turn.
pub async fn stream(reader: Reader) {
    let mut heads: BTreeMap<String, i64> =
        reader.shared.conversations.iter().map(|id| (id.clone(), 0)).collect();
    let mut turn = reader.client;
    loop {
        let address = reader.shared.messaging[turn % reader.shared.messaging.len()];
        turn += 1;
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
        if let Ok(Ok(channel)) = timeout(PATIENCE, endpoint.connect()).await {
            reader.follows(channel, &mut heads).await;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

impl Reader {
    async fn follows(&self, channel: Channel, heads: &mut BTreeMap<String, i64>) {
        let head =
            |(id, sequence): (&String, &i64)| Head { conversation_id: id.clone(), sequence: *sequence };
        let mut request = Request::new(StreamEventsRequest { heads: heads.iter().map(head).collect() });
        let token = format!("Bearer {}", self.person.token).parse().expect("a header");
        request.metadata_mut().insert("authorization", token);
        self.shared.recorder.note(self.client, What::Resumed);
        let mut updates =
            match timeout(PATIENCE, SyncServiceClient::new(channel).stream_events(request)).await {
                Ok(Ok(answer)) => answer.into_inner(),
                Ok(Err(status)) => return self.was_refused(&status),
                Err(_) => return self.shared.complain(format!("a stream did not begin for {PATIENCE:?}")),
            };
        loop {
            match updates.message().await {
                Ok(Some(answer)) => {
                    if let Some(Update::Event(event)) = answer.update {
                        let (conversation, sequence, entry) = settled::of_proto(event);
                        self.shared.received(self.client, &conversation, sequence, entry);
                        heads.insert(conversation, sequence);
                    }
                }
                Ok(None) => return,
                Err(status) => return self.was_refused(&status),
            }
        }
    }

    fn was_refused(&self, status: &tonic::Status) {
        if [Code::Unauthenticated, Code::NotFound, Code::PermissionDenied, Code::Internal]
            .contains(&status.code())
        {
            self.shared.complain(format!("a stream of a member was refused: {status}"));
        }
    }
}
