//! The people of the table, and the scenes in which they act.
//!
//! The still scene is where everything happens that must change nothing: reads, and what is refused. What changes
//! something gets a message, a poll or a whole conversation of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use proto::id::EventId;
use proto::messaging::v1::WriteUploadRequest;
use proto::messaging::v1::upload_service_client::UploadServiceClient;
use proto::placeholders;
use serde_json::{Value, json};
use tests::person::{PASSWORD, array, text};
use tests::waiting::from_now;
use tests::{Person, World};

use crate::between;
use crate::case::{Case, kinds};
use crate::dialects::sending::{Clients, Way};
use crate::door::{Door, Doors, Outcome};
use crate::role::{ROLES, Role};
use crate::rows;

/// The bytes of every file.
const FILE: [u8; 67] = [7; 67];

/// A world with its people on their places.
pub struct Stage {
    /// The ways in.
    pub doors: Doors,
    /// How many cells were looked at.
    pub cells: AtomicUsize,
    /// What stands in every message of the still scene, and is for its members only.
    pub marker: String,
    world: Arc<World>,
    people: HashMap<Role, Person>,
    targets: HashMap<Role, String>,
    others: Others,
    still: Scene,
    busy: String,
    clients: Clients,
    public_room: String,
    /// The direct conversations of the author: one in which nothing changes, and one for the rest.
    direct: [String; 2],
    /// How many slots of the calendar have been used.
    slots: AtomicUsize,
}

/// Those to whom things happen.
struct Others {
    member: Person,
    stranger: Person,
    banned: Person,
    /// The other person of the direct conversation in which nothing changes. No request names them.
    friend: Person,
}

/// A conversation, and what is in it.
#[derive(Default)]
struct Scene {
    conversation: String,
    /// By the title of the example that sent it.
    messages: HashMap<&'static str, String>,
    report: String,
    scheduled_message: String,
    upload: String,
}

/// Somebody who asks.
#[derive(Clone)]
pub struct Caller {
    /// What it is to the conversation.
    pub role: Role,
    /// Who it is; nobody when not signed in.
    pub person: Option<Person>,
}

impl Caller {
    /// What it shows.
    pub fn token(&self) -> Option<&str> {
        self.person.as_ref().map(|person| person.token.as_str())
    }
}

/// Which things a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Things {
    /// Those of the still scene.
    Still,
    /// New ones, which may be changed.
    New,
    /// None that there are.
    None,
}

fn id() -> String {
    EventId::generate().to_string()
}

impl Stage {
    /// Sets it up.
    pub async fn set(world: Arc<World>) -> anyhow::Result<Self> {
        let doors = Doors::open(world.clone()).await?;
        let signed_in = ROLES.iter().filter(|role| **role != Role::Anonymous);
        let people = join_all(signed_in.map(async |role| {
            let name = format!("{role:?}");
            let person = match role {
                Role::Guest => guest(&world).await,
                Role::External => world.external("authorization", &name).await,
                _ => world.person(&name).await,
            };
            (*role, person)
        }));
        let people: HashMap<Role, Person> = people.await.into_iter().collect();
        let [member, stranger, banned, friend] = world.people(["vic", "una", "bad", "pat"]).await;
        let mut targets = HashMap::new();
        for (role, person) in &people {
            // An external account keeps to those of its namespace.
            let others = if *role == Role::External { vec![] } else { vec![&member] };
            targets.insert(*role, person.starts_group_with(&others).await);
        }
        let mut stage = Self {
            doors,
            cells: AtomicUsize::new(0),
            marker: format!("for members only {}", id()),
            world,
            people,
            targets,
            others: Others { member, stranger, banned, friend },
            still: Scene::default(),
            busy: String::new(),
            clients: Clients::default(),
            public_room: String::new(),
            direct: [String::new(), String::new()],
            slots: AtomicUsize::new(0),
        };
        stage.busy = stage.conversation().await;
        stage.still = stage.scene().await?;
        stage.public_room = stage.opens_to_everyone().await;
        let (author, others) = (stage.author(), &stage.others);
        let direct = [
            author.starts_direct_with(&others.friend).await,
            author.starts_direct_with(&others.stranger).await,
        ];
        author.says(&direct[0], &stage.marker).await;
        others.friend.says(&direct[0], "hello").await;
        others.stranger.says(&direct[1], "hello").await;
        stage.direct = direct;
        Ok(stage)
    }

    /// The owner opens a room that everyone may read, and bans one person from it.
    async fn opens_to_everyone(&self) -> String {
        let body = json!({ "kind": "CONVERSATION_KIND_ROOM", "title": "open to all", "publicRead": true });
        let made = self.owner().post("/v1/conversations", body).await.ok();
        let room = text(&made["conversation"]["conversationId"]);
        let banned = &self.people[&Role::Banned].id;
        self.owner().put(&format!("/v1/conversations/{room}/bans/{banned}"), json!({})).await.ok();
        room
    }

    /// The room that everyone may read.
    pub fn public_room(&self) -> String {
        self.public_room.clone()
    }

    /// A direct conversation of the author, and a message in it that the other person wrote.
    pub async fn direct(&self, things: Things) -> [String; 2] {
        let (conversation, other) = match things {
            Things::Still => (&self.direct[0], &self.others.friend),
            Things::New => (&self.direct[1], &self.others.stranger),
            Things::None => return [id(), id()],
        };
        let path = format!("/v1/conversations/{conversation}/messages?pageSize=100");
        let page = other.get(&path).await.ok();
        let is_theirs = |message: &&Value| message["senderId"] == other.id.as_str();
        let message = array(&page["messages"]).iter().find(is_theirs).expect("a message of the other person");
        [conversation.clone(), text(&message["messageId"])]
    }

    /// The sequence of a message; 1 for one that is not there.
    pub async fn sequence(&self, conversation: &str, message: &str) -> String {
        let path = format!("/v1/conversations/{conversation}/messages/{message}");
        let answer = self.owner().get(&path).await;
        answer.body["message"]["sequence"].as_str().unwrap_or("1").to_owned()
    }

    /// Sends a request of a dialect with this token.
    pub async fn send(&self, way: Way, token: Option<&str>, request: &Value) -> anyhow::Result<Outcome> {
        self.clients.send(self.world.gateway(), way, token, request).await
    }

    /// The one who has a role.
    pub fn person(&self, role: Role) -> Option<&Person> {
        self.people.get(&role)
    }

    fn owner(&self) -> &Person {
        &self.people[&Role::Owner]
    }

    fn author(&self) -> &Person {
        &self.people[&Role::Author]
    }

    /// A conversation in which everybody has a place.
    async fn conversation(&self) -> String {
        let brought_in = [Role::Moderator, Role::Author, Role::Member, Role::Muted, Role::Banned, Role::Left];
        let mut members: Vec<&Person> = brought_in.iter().map(|role| &self.people[role]).collect();
        members.extend([&self.people[&Role::Guest], &self.others.member, &self.others.banned]);
        let (owner, conversation) = (self.owner(), self.owner().starts_group_with(&members).await);
        let path = format!("/v1/conversations/{conversation}");
        for (role, name) in [(Role::Moderator, "MODERATOR"), (Role::Muted, "MUTED")] {
            let body = json!({ "role": format!("MEMBER_ROLE_{name}") });
            owner.put(&format!("{path}/members/{}/role", self.people[&role].id), body).await.ok();
        }
        for person in [&self.people[&Role::Banned], &self.others.banned] {
            owner.put(&format!("{path}/bans/{}", person.id), json!({})).await.ok();
        }
        self.people[&Role::Left].post(&format!("{path}/leave"), json!({})).await.ok();
        conversation
    }

    /// A conversation with everything in it that requests can name.
    async fn scene(&self) -> anyhow::Result<Scene> {
        let mut scene = Scene { conversation: self.conversation().await, ..Scene::default() };
        let secret = self.author().says(&scene.conversation, &self.marker).await;
        scene.messages.insert("", text(&secret["messageId"]));
        scene.scheduled_message = self.schedules(&scene.conversation).await;
        for kind in kinds() {
            let message = self.sends(kind.title, &scene.conversation).await?;
            scene.messages.insert(kind.title, message);
        }
        scene.upload = self.uploads(self.author()).await;
        let media = json!({ "kind": "ATTACHMENT_KIND_IMAGE", "media": { "uploadId": scene.upload } });
        let body = json!({ "content": { "attachments": [media] } });
        let path = format!("/v1/conversations/{}/messages", scene.conversation);
        self.author().post(&path, body).await.ok();
        scene.report = self.reports(&scene.conversation, &scene.messages[""]).await;
        Ok(scene)
    }

    /// The author sends the example with this title; gives the message's id.
    async fn sends(&self, title: &str, conversation: &str) -> anyhow::Result<String> {
        let send = proto::policy::of("/parlor.messaging.v1.MessagingService/SendMessage").expect("a policy");
        let case = Case::all_of(send).into_iter().find(|case| case.title == title).expect("an example");
        let author = Caller { role: Role::Author, person: Some(self.author().clone()) };
        let reply = match case.has("message") {
            true => text(&self.author().says(conversation, "what do you say?").await["messageId"]),
            false => String::new(),
        };
        let mut values = HashMap::from([("conversation", conversation.to_owned()), ("message", reply)]);
        for name in ["user", "upload", "unused_id"].into_iter().filter(|name| case.has(name)) {
            let value = Box::pin(self.value(name, &case, &author, Things::New, "")).await?;
            values.insert(name, value);
        }
        let request = filled(&case, &values)?;
        let sent = self.doors.call(Door::Rest, &case.rpc, author.token(), &request).await?;
        anyhow::ensure!(sent.code == "OK", "the author cannot send {title}: {}", sent.said);
        let sent: Value = serde_json::from_str(&sent.said)?;
        Ok(text(&sent["message"]["messageId"]))
    }

    async fn schedules(&self, conversation: &str) -> String {
        let body = json!({ "content": { "text": self.marker }, "sendTime": in_an_hour() });
        let path = format!("/v1/conversations/{conversation}/scheduled-messages");
        text(&self.author().post(&path, body).await.ok()["scheduledMessage"]["scheduledMessageId"])
    }

    async fn reports(&self, conversation: &str, message: &str) -> String {
        let path = format!("/v1/conversations/{conversation}/messages/{message}/reports");
        let body = json!({ "reason": "REPORT_REASON_SPAM" });
        text(&self.people[&Role::Member].post(&path, body).await.ok()["report"]["reportId"])
    }

    async fn uploads(&self, person: &Person) -> String {
        let body = json!({ "name": "one.png", "mediaType": "image/png", "size": FILE.len().to_string() });
        let made = person.post("/v1/uploads", body).await.ok();
        let upload_id = text(&made["upload"]["uploadId"]);
        let piece = WriteUploadRequest {
            upload_id: upload_id.clone(),
            ticket: text(&made["ticket"]),
            data: FILE.to_vec(),
        };
        let mut uploads = UploadServiceClient::new(self.doors.channel("messaging"));
        let answer = uploads.write_upload(tokio_stream::once(piece)).await.expect("a stream");
        answer.into_inner().message().await.expect("the bytes are taken");
        upload_id
    }

    /// Half an hour that nobody has anything in.
    fn slot(&self) -> [String; 2] {
        let hours = 2 + u32::try_from(self.slots.fetch_add(1, Ordering::Relaxed)).expect("a number of hours");
        let half = Duration::from_secs(1800);
        [from_now(half * 2 * hours), from_now(half * (2 * hours + 1))]
    }

    /// The one who asks this in this role: when the account itself is changed, somebody new of the same kind.
    pub async fn caller(&self, role: Role, case: &Case) -> Caller {
        let person = match self.person(role) {
            Some(_) if case.changes_account() && role == Role::Guest => Some(guest(&self.world).await),
            Some(_) if case.changes_account() && role == Role::External => {
                Some(self.world.external("authorization", "fresh").await)
            }
            Some(_) if case.changes_account() => Some(self.world.person("fresh").await),
            known => known.cloned(),
        };
        Caller { role, person }
    }

    /// The request with everything in its places.
    pub async fn request(&self, case: &Case, caller: &Caller, things: Things) -> anyhow::Result<Value> {
        let instead = rows::instead(case, caller.role);
        let instead = instead.map(|request| Case { request: request.to_owned(), ..case.clone() });
        self.request_with(instead.as_ref().unwrap_or(case), caller, things, HashMap::new()).await
    }

    /// The same, with some values given.
    pub async fn request_with(
        &self,
        case: &Case,
        caller: &Caller,
        things: Things,
        mut values: HashMap<&str, String>,
    ) -> anyhow::Result<Value> {
        let conversation = match things {
            Things::Still => self.still.conversation.clone(),
            Things::New if case.changes_conversation() => self.conversation().await,
            Things::New => self.busy.clone(),
            Things::None => id(),
        };
        if case.has("slot_start") {
            let [start, end] = self.slot();
            values.extend([("slot_start", start), ("slot_end", end)]);
        }
        for (name, _) in placeholders::SAMPLES {
            if case.has(name) && !values.contains_key(name) {
                values.insert(*name, self.value(name, case, caller, things, &conversation).await?);
            }
        }
        filled(case, &values)
    }

    async fn value(
        &self,
        name: &str,
        case: &Case,
        caller: &Caller,
        things: Things,
        conversation: &str,
    ) -> anyhow::Result<String> {
        let kind = case.kind.unwrap_or_default();
        Ok(match (name, things) {
            ("conversation", _) => conversation.to_owned(),
            ("message" | "poll" | "report" | "scheduled_message" | "room", Things::None) => id(),
            ("message", Things::Still) => self.still.messages[kind].clone(),
            ("message", Things::New) if kind.is_empty() => {
                text(&self.author().says(conversation, "hello").await["messageId"])
            }
            ("message", Things::New) => self.sends(kind, conversation).await?,
            ("poll", Things::Still) => self.still.messages["poll"].clone(),
            ("poll", Things::New) => self.sends("poll", conversation).await?,
            ("report", Things::Still) => self.still.report.clone(),
            ("report", Things::New) => {
                let message = self.author().says(conversation, "spam, spam, spam").await;
                self.reports(conversation, &text(&message["messageId"])).await
            }
            ("scheduled_message", Things::Still) => self.still.scheduled_message.clone(),
            ("scheduled_message", Things::New) => self.schedules(conversation).await,
            // What is fetched is the scene's; what is sent is one's own.
            ("upload", Things::None) if case.service() == "UploadService" => id(),
            ("upload", _) if case.service() == "UploadService" => self.still.upload.clone(),
            ("upload", _) => match &caller.person {
                Some(person) => self.uploads(person).await,
                None => id(),
            },
            ("room", _) => self.others.member.opens_room("open house").await,
            ("target", _) => self.targets.get(&caller.role).cloned().unwrap_or_else(id),
            ("member", _) => self.others.member.id.clone(),
            ("user", _) => self.others.stranger.id.clone(),
            ("banned", _) => self.others.banned.id.clone(),
            (own, _) if case.own() == Some(own) => match &caller.person {
                Some(_) if case.is_foreign && case.changes_account() => {
                    self.own(own, &self.world.person("somebody").await).await
                }
                Some(_) if case.is_foreign => self.own(own, &self.others.stranger).await,
                Some(person) => self.own(own, person).await,
                None => id(),
            },
            ("acquaintance", _) => match &caller.person {
                Some(person) => between::acquaintance(&self.world, person).await.unwrap_or_else(id),
                None => id(),
            },
            ("login", _) => match caller.person.as_ref().filter(|person| !person.username.is_empty()) {
                Some(person) => person.username.clone(),
                None => self.world.person("somebody").await.username,
            },
            ("password", _) => PASSWORD.to_owned(),
            ("token", _) => self.world.person("refresher").await.token,
            ("unused_name", _) => format!("new-{}", &EventId::generate().uuid().simple().to_string()[12..]),
            ("unused_id", _) => id(),
            ("unused_email", _) => format!("{}@example.org", EventId::generate().uuid().simple()),
            ("soon", _) => in_an_hour(),
            ("local_date", _) => in_an_hour()[..10].to_owned(),
            (other, _) => anyhow::bail!("nothing stands in the place ${other}"),
        })
    }

    /// Something that is somebody's own.
    async fn own(&self, name: &str, owner: &Person) -> String {
        match name {
            "asking" | "asked" | "writing" | "written" | "reviewed" | "schedule" | "call"
            | "accepted_call" => between::own(&self.world, name, owner).await.unwrap_or_else(id),
            "session" => text(&owner.get("/v1/sessions").await.ok()["sessions"][0]["sessionId"]),
            "device_key" => {
                let body = json!({ "publicKey": PUBLIC_KEY, "name": "a device" });
                let answer = owner.post("/v1/me/device-keys", body).await;
                // A guest has none.
                if answer.status == 200 { text(&answer.body["deviceKey"]["deviceKeyId"]) } else { id() }
            }
            _ => self.alert(owner).await,
        }
    }

    /// Somebody is mentioned; gives the alert. There is none for one who has no name.
    async fn alert(&self, owner: &Person) -> String {
        if owner.username.is_empty() {
            return id();
        }
        let lounge = self.others.member.starts_group_with(&[owner]).await;
        let message = self.others.member.says(&lounge, &format!("look, @{}", owner.username)).await;
        tests::waiting::until("an alert", async || {
            let alerts = owner.get("/v1/alerts").await.ok();
            let found =
                array(&alerts["alerts"]).iter().find(|alert| alert["messageId"] == message["messageId"]);
            found.map(|alert| text(&alert["alertId"]))
        })
        .await
    }

    /// All that can be seen of the still scene, and of what is the stranger's.
    pub async fn state(&self) -> Value {
        let (owner, stranger) = (self.owner(), &self.others.stranger);
        let path = format!("/v1/conversations/{}", self.still.conversation);
        let mut state = vec![];
        for (person, path) in [
            (owner, path.clone()),
            (owner, format!("{path}/members?pageSize=100")),
            (owner, format!("{path}/bans")),
            (owner, format!("{path}/messages?pageSize=100")),
            (owner, format!("{path}/events?limit=200")),
            (owner, format!("{path}/reports")),
            (owner, format!("{path}/pins")),
            (self.author(), format!("/v1/scheduled-messages?conversationId={}", self.still.conversation)),
            (self.author(), format!("/v1/conversations/{}/messages?pageSize=100", self.direct[0])),
            (stranger, "/v1/me".to_owned()),
        ] {
            state.push(person.get(&path).await.ok());
        }
        // When it was used last changes with every look.
        let sessions = stranger.get("/v1/sessions").await.ok();
        let sessions = array(&sessions["sessions"]).iter().map(|session| session["sessionId"].clone());
        state.push(sessions.collect());
        state.into()
    }

    /// Messages that are not in the busy scene: of a conversation in which neither owner nor author is, of another one
    /// of the caller, and none at all.
    pub async fn elsewhere(&self, caller: Role) -> [String; 3] {
        let Others { member, stranger, .. } = &self.others;
        let foreign = stranger.starts_group_with(&[member]).await;
        let foreign = stranger.says(&foreign, "not for you").await;
        let own = self.people[&caller].says(&self.targets[&caller], "elsewhere").await;
        [text(&foreign["messageId"]), text(&own["messageId"]), id()]
    }

    /// Counts a cell.
    pub fn count(&self) {
        self.cells.fetch_add(1, Ordering::Relaxed);
    }
}

/// A valid Ed25519 key (RFC 8032, 7.1, test 1).
const PUBLIC_KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

fn filled(case: &Case, values: &HashMap<&str, String>) -> anyhow::Result<Value> {
    let filled = placeholders::fill(&case.request, |name| values.get(name).cloned());
    let filled = filled.map_err(|name| anyhow::anyhow!("{} leaves ${name} open", case.name()))?;
    Ok(serde_json::from_str(&filled)?)
}

async fn guest(world: &World) -> Person {
    let host = world.person("host").await;
    let answer = host.post("/v1/auth/guest", json!({ "displayName": "Guest" })).await.ok();
    let mut guest = host.with_token(&text(&answer["grant"]["sessionToken"]));
    guest.id = text(&answer["user"]["userId"]);
    guest.username = String::new();
    guest
}

fn in_an_hour() -> String {
    from_now(Duration::from_secs(3600))
}
