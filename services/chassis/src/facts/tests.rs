//! A producer with an outbox, and a consumer whose effects are counted, on either database.

use std::sync::Mutex;

use axum::Router;
use axum::routing::post;
use prost::Message;
use proto::auth::v1 as pb;
use proto::auth::v1::user_fact::Payload;
use proto::codec::Codec;
use proto::id::EventId;
use tonic::{Request, Response, Status};
use tower::service_fn;

use super::*;
use crate::clock::Timestamp;
use crate::database::facts::History;
use crate::database::testing::{self, Scratch};
use crate::database::{postgres, sqlite};
use crate::identity::ServiceCredential;
use crate::transport::Transport;

const FEED: Feed = Feed { name: "auth", task: "test", subject: "facts", page: 100 };

/// The same text for either database.
macro_rules! on {
    ($database:expr, $module:ident, $pool:ident => $body:expr) => {
        match $database {
            Database::Sqlite($pool) => {
                use sqlite as $module;
                $body
            }
            Database::Postgres($pool) => {
                use postgres as $module;
                $body
            }
        }
    };
}

/// A fact without a position: it gets one in the outbox.
fn fact(user: &str, time: i64, payload: Option<Payload>) -> pb::UserFact {
    pb::UserFact {
        event_id: EventId::generate().to_string(),
        occur_time: Some(Timestamp::from_millis(time).to_proto()),
        user_id: user.to_owned(),
        payload,
        ..pb::UserFact::default()
    }
}

fn deleted(user: &str, time: i64) -> pb::UserFact {
    fact(user, time, Some(Payload::UserDeleted(pb::UserDeleted {})))
}

fn reviewed(user: &str, time: i64) -> pb::UserFact {
    fact(user, time, Some(Payload::ReviewChanged(pb::ReviewChanged::default())))
}

/// A service with facts.
#[derive(Clone)]
struct Producer {
    database: Database,
    _scratch: Arc<Scratch>,
    is_away: Arc<Mutex<bool>>,
    /// It says nothing of its history, as the release before.
    is_old: bool,
}

impl Producer {
    async fn tells(&self, facts: &[pb::UserFact]) {
        let facts: Vec<_> = facts.iter().map(Message::encode_to_vec).collect();
        on!(&self.database, kind, pool => {
            let mut tx = pool.begin().await.unwrap();
            kind::outbox::append_all(&mut tx, &facts, 1).await.unwrap();
            tx.commit().await.unwrap();
        });
    }

    /// Puts a copy back that was made when there were so many facts.
    async fn is_restored_to(&self, facts: i64) {
        on!(&self.database, kind, pool => {
            let mut tx: kind::Tx = pool.begin().await.unwrap();
            for text in ["DELETE FROM outbox WHERE position > $1", "UPDATE outbox_head SET position = $1"] {
                sqlx::query(text).bind(facts).execute(&mut *tx).await.unwrap();
            }
            tx.commit().await.unwrap();
        });
    }

    /// Puts the database of another installation in its place.
    async fn is_replaced(&self) {
        on!(&self.database, kind, pool => {
            let mut tx: kind::Tx = pool.begin().await.unwrap();
            sqlx::query("UPDATE outbox_history SET epoch = 'another'").execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        });
    }

    async fn answer(
        self,
        request: Request<pb::ListUserFactsRequest>,
    ) -> Result<Response<pb::ListUserFactsResponse>, Status> {
        if *self.is_away.lock().unwrap() {
            return Err(Status::unavailable("away"));
        }
        let pb::ListUserFactsRequest { after_position, limit } = request.into_inner();
        let facts = on!(&self.database, kind, pool => kind::outbox::list(pool, after_position, limit.into()).await.unwrap());
        let read = |(position, payload): (i64, Vec<u8>)| pb::UserFact {
            position,
            ..pb::UserFact::decode(payload.as_slice()).unwrap()
        };
        let facts = facts.into_iter().map(read).collect();
        if self.is_old {
            return Ok(Response::new(pb::ListUserFactsResponse { facts, ..Default::default() }));
        }
        let History { epoch, head, fact } = self.database.history(after_position).await.unwrap();
        let after_event_id = fact.map(|fact| event_id(&fact)).unwrap_or_default();
        Ok(Response::new(pb::ListUserFactsResponse { facts, epoch, head_position: head, after_event_id }))
    }

    fn source(&self) -> Source {
        let producer = self.clone();
        let route = post(move |request: axum::extract::Request| {
            let producer = producer.clone();
            async move {
                let handler = service_fn(move |request| producer.clone().answer(request));
                tonic::server::Grpc::new(
                    Codec::<pb::ListUserFactsResponse, pb::ListUserFactsRequest>::default(),
                )
                .unary(handler, request)
                .await
                .map(axum::body::Body::new)
            }
        });
        let routes = Router::new().route("/parlor.auth.v1.AuthService/ListUserFacts", route);
        let credential = ServiceCredential::new("test", &"secret".to_owned().into()).unwrap();
        Source::auth(Transport::local(routes), credential)
    }
}

/// Keeps the users of facts in the outbox of the consumer, which serves as a list of effects.
struct Recorded {
    database: Database,
    /// Whether this release knows every kind of fact.
    knows_all: bool,
    /// Effects that fail at this moment, and for ever.
    busy: Arc<Mutex<&'static str>>,
    refused: &'static str,
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Effect for Recorded {
    type Fact = pb::UserFact;

    const BATCH: usize = 3;

    fn read(&self, bytes: &[u8]) -> anyhow::Result<Option<pb::UserFact>> {
        let fact = pb::UserFact::decode(bytes)?;
        match fact.payload {
            Some(Payload::UserUpdated(_)) => Ok(None),
            None if !self.knows_all => anyhow::bail!("not known yet"),
            _ => Ok(Some(fact)),
        }
    }

    fn is_repeatable(fact: &pb::UserFact) -> bool {
        matches!(fact.payload, Some(Payload::UserDeleted(_)))
    }

    async fn apply(&self, claim: &Claim, facts: Vec<pb::UserFact>) -> Result<bool, Refusal> {
        self.batches.lock().unwrap().push(facts.len());
        on!(&self.database, kind, pool => {
            let mut tx = pool.begin().await.unwrap();
            if !kind::feeds::claim(&mut tx, claim).await.unwrap() {
                return Ok(false);
            }
            for fact in facts {
                if fact.user_id == *self.busy.lock().unwrap() {
                    return Err(Refusal::Transient(anyhow::anyhow!("busy")));
                }
                if fact.user_id == self.refused {
                    return Err(Refusal::Permanent(anyhow::anyhow!("refused")));
                }
                kind::outbox::append(&mut tx, fact.user_id.as_bytes(), 1).await.unwrap();
            }
            tx.commit().await.unwrap();
        });
        Ok(true)
    }
}

/// A consumer of a producer.
struct World {
    producer: Producer,
    database: Database,
    _scratch: Scratch,
    clock: Clock,
    busy: Arc<Mutex<&'static str>>,
    batches: Arc<Mutex<Vec<usize>>>,
}

impl World {
    fn new((producer, kept): (Database, Scratch), (database, scratch): (Database, Scratch)) -> Self {
        let producer =
            Producer { database: producer, _scratch: Arc::new(kept), is_away: Arc::default(), is_old: false };
        let clock = Clock::manual(Timestamp::from_millis(1_000_000));
        Self { producer, database, _scratch: scratch, clock, busy: Arc::default(), batches: Arc::default() }
    }

    /// A start of the consumer.
    fn reader(&self, knows_all: bool, refused: &'static str) -> Reader<Recorded> {
        let effect = Recorded {
            database: self.database.clone(),
            knows_all,
            busy: Arc::clone(&self.busy),
            refused,
            batches: Arc::clone(&self.batches),
        };
        Reader::new(FEED, self.producer.source(), self.database.clone(), self.clock.clone(), effect)
    }

    /// The users that facts had an effect on, in their order.
    async fn effects(&self) -> Vec<String> {
        let facts = on!(&self.database, kind, pool => kind::outbox::list(pool, 0, 1000).await.unwrap());
        facts.into_iter().map(|(_, user)| String::from_utf8(user).unwrap()).collect()
    }

    async fn waiting(&self) -> i64 {
        self.database.count_aside(FEED.name).await.unwrap()
    }
}

async fn read_all(reader: &Reader<Recorded>) {
    while reader.step().await.unwrap() {}
}

/// Runs each rule on both databases.
macro_rules! rules {
    ($($rule:ident),* $(,)?) => {
        mod on_sqlite {
            use super::*;
            $(#[tokio::test]
            async fn $rule() {
                let producer = testing::sqlite(testing::no_migrations(), "producer").await;
                let consumer = testing::sqlite(testing::no_migrations(), "consumer").await;
                super::$rule(World::new(producer, consumer)).await;
            })*
        }
        mod on_postgres {
            use super::*;
            $(#[tokio::test]
            async fn $rule() {
                let Some(producer) = testing::postgres(testing::no_migrations(), "producer").await else { return };
                let Some(consumer) = testing::postgres(testing::no_migrations(), "consumer").await else { return };
                super::$rule(World::new(producer, consumer)).await;
            })*
        }
    };
}

rules![
    facts_are_applied_in_batches_and_once,
    a_fact_that_cannot_be_read_is_put_aside_and_applied_by_the_start_that_can,
    a_fact_that_is_refused_is_put_aside_and_its_batch_is_applied,
    what_may_work_soon_is_never_put_aside,
    an_older_copy_of_the_producer_is_read_anew,
    an_older_copy_that_has_gone_on_beyond_the_cursor_is_read_anew,
    another_database_is_read_anew,
    a_consumer_that_was_just_brought_up_to_date_learns_where_it_is,
    a_producer_that_says_nothing_of_its_history_is_read_as_before,
];

async fn facts_are_applied_in_batches_and_once(world: World) {
    let updated = fact("nobody", 1, Some(Payload::UserUpdated(pb::UserUpdated {})));
    world.producer.tells(&[updated.clone(), deleted("a", 2), updated.clone(), deleted("b", 3)]).await;
    let timeless = pb::UserFact { occur_time: None, ..reviewed("e", 0) };
    world.producer.tells(&[deleted("c", 4), deleted("d", 5), updated, timeless]).await;
    let reader = world.reader(true, "-");
    read_all(&reader).await;
    assert_eq!(world.effects().await, ["a", "b", "c", "d", "e"]);
    assert_eq!(*world.batches.lock().unwrap(), [3, 2]);
    assert_eq!(world.database.feed_cursor(FEED.name).await.unwrap().position, 8);
    read_all(&world.reader(true, "-")).await;
    assert_eq!(world.effects().await.len(), 5);
}

async fn a_fact_that_cannot_be_read_is_put_aside_and_applied_by_the_start_that_can(world: World) {
    let unknown = |user| fact(user, 2, None);
    world.producer.tells(&[deleted("a", 1), unknown("b"), deleted("c", 3), unknown("d")]).await;
    let reader = world.reader(false, "-");
    read_all(&reader).await;
    assert_eq!(world.effects().await, ["a", "c"]);
    assert_eq!(world.waiting().await, 2);
    // The next start of the same release cannot read them either.
    read_all(&world.reader(false, "-")).await;
    assert_eq!((world.effects().await.len(), world.waiting().await), (2, 2));
    read_all(&world.reader(true, "-")).await;
    assert_eq!(world.effects().await, ["a", "c", "b", "d"]);
    assert_eq!(world.waiting().await, 0);
}

async fn a_fact_that_is_refused_is_put_aside_and_its_batch_is_applied(world: World) {
    world.producer.tells(&["a", "bad", "b", "c"].map(|user| deleted(user, 1))).await;
    let reader = world.reader(true, "bad");
    read_all(&reader).await;
    assert_eq!(world.effects().await, ["a", "b", "c"]);
    assert_eq!(world.waiting().await, 1);
    // Not before it is asked for, or the next start.
    read_all(&reader).await;
    assert_eq!(world.waiting().await, 1);
    let reader = world.reader(true, "-");
    *world.busy.lock().unwrap() = "bad";
    assert!(reader.step().await.is_err());
    assert_eq!(world.waiting().await, 1);
    *world.busy.lock().unwrap() = "";
    read_all(&reader).await;
    assert_eq!(world.effects().await, ["a", "b", "c", "bad"]);
    assert_eq!(world.waiting().await, 0);

    // On command, without another start.
    let reader = world.reader(true, "bad");
    world.producer.tells(&[deleted("bad", 1)]).await;
    read_all(&reader).await;
    let tries = world.batches.lock().unwrap().len();
    try_aside();
    read_all(&reader).await;
    // Another test may ask for it at the same time.
    let again = world.batches.lock().unwrap().len();
    assert!(again > tries, "it is tried on command");
    assert_eq!(world.waiting().await, 1);
}

async fn what_may_work_soon_is_never_put_aside(world: World) {
    world.producer.tells(&["a", "b", "c", "d"].map(|user| deleted(user, 1))).await;
    let reader = world.reader(true, "-");
    *world.producer.is_away.lock().unwrap() = true;
    assert!(reader.step().await.is_err());
    *world.producer.is_away.lock().unwrap() = false;
    *world.busy.lock().unwrap() = "d";
    assert!(reader.step().await.is_err());
    assert!(reader.step().await.is_err());
    assert_eq!(world.effects().await, ["a", "b", "c"]);
    *world.busy.lock().unwrap() = "";
    read_all(&reader).await;
    assert_eq!(world.effects().await, ["a", "b", "c", "d"]);
    assert_eq!(world.waiting().await, 0);
}

async fn an_older_copy_of_the_producer_is_read_anew(world: World) {
    let reader = world.reader(true, "-");
    world.producer.tells(&[deleted("a", 10), reviewed("b", 11), reviewed("c", 12), reviewed("d", 13)]).await;
    read_all(&reader).await;
    world.producer.is_restored_to(2).await;
    read_all(&reader).await;
    // What may be repeated is, and no review is told twice.
    assert_eq!(world.effects().await, ["a", "b", "c", "d", "a"]);
    world.producer.tells(&[deleted("e", 20), reviewed("f", 21)]).await;
    read_all(&reader).await;
    assert_eq!(world.effects().await[5..], ["e", "f"]);
    assert_eq!(world.database.feed_cursor(FEED.name).await.unwrap().position, 4);
}

async fn an_older_copy_that_has_gone_on_beyond_the_cursor_is_read_anew(world: World) {
    let reader = world.reader(true, "-");
    world.producer.tells(&[deleted("a", 10), reviewed("b", 11), reviewed("c", 12)]).await;
    read_all(&reader).await;
    world.producer.is_restored_to(2).await;
    world.producer.tells(&[deleted("d", 20), reviewed("e", 21), deleted("f", 22)]).await;
    read_all(&reader).await;
    assert_eq!(world.effects().await, ["a", "b", "c", "a", "d", "e", "f"]);
    read_all(&world.reader(true, "-")).await;
    assert_eq!(world.effects().await.len(), 7);
}

async fn another_database_is_read_anew(world: World) {
    let reader = world.reader(true, "-");
    world.producer.tells(&[reviewed("a", 10)]).await;
    read_all(&reader).await;
    world.producer.is_replaced().await;
    world.producer.tells(&[reviewed("b", 20)]).await;
    read_all(&reader).await;
    assert_eq!(world.effects().await, ["a", "b"]);
    assert_eq!(world.database.feed_cursor(FEED.name).await.unwrap().epoch, "another");
}

async fn a_consumer_that_was_just_brought_up_to_date_learns_where_it_is(world: World) {
    world.producer.tells(&[reviewed("a", 10), reviewed("b", 11)]).await;
    // The release before has read both, and kept a position only.
    on!(&world.database, kind, pool => {
        let mut tx: kind::Tx = pool.begin().await.unwrap();
        sqlx::query("INSERT INTO feed_cursors (name, position) VALUES ('auth', 2)").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    });
    let reader = world.reader(true, "-");
    read_all(&reader).await;
    let learned = world.database.feed_cursor(FEED.name).await.unwrap();
    assert!(learned.position == 2 && !learned.mark.is_empty() && !learned.epoch.is_empty(), "{learned:?}");
    assert!(world.effects().await.is_empty());
    world.producer.is_restored_to(1).await;
    world.producer.tells(&[deleted("c", 2_000_000), deleted("d", 2_000_001)]).await;
    read_all(&reader).await;
    assert_eq!(world.effects().await, ["c", "d"]);
}

async fn a_producer_that_says_nothing_of_its_history_is_read_as_before(world: World) {
    let old = Producer { is_old: true, ..world.producer.clone() };
    let world = World { producer: old, ..world };
    world.producer.tells(&[deleted("a", 1)]).await;
    read_all(&world.reader(true, "-")).await;
    world.producer.tells(&[deleted("b", 2)]).await;
    read_all(&world.reader(true, "-")).await;
    assert_eq!(world.effects().await, ["a", "b"]);
}
