//! Reviews through the door.

use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::review_service_client::ReviewServiceClient;
use proto::auth::v1::user_fact::Payload;

use super::*;

/// That two people are connected, or are so no longer.
pub(super) fn connection(
    one: &Person,
    other: &Person,
    is_there: bool,
    version: i64,
) -> pb::RecordAcquaintanceRequest {
    pb::RecordAcquaintanceRequest {
        user_ids: [one, other].map(|person| person.user.user_id.clone()).to_vec(),
        kind: pb::AcquaintanceKind::Connection.into(),
        ended: !is_there,
        version,
    }
}

fn call(one: &Person, other: &Person) -> pb::RecordAcquaintanceRequest {
    pb::RecordAcquaintanceRequest {
        kind: pb::AcquaintanceKind::Call.into(),
        ..connection(one, other, true, 1)
    }
}

impl World {
    fn reviews(&self) -> ReviewServiceClient<Transport> {
        ReviewServiceClient::new(Transport::local(self.unit.grpc.clone().unwrap()))
    }

    fn conversation(&self) -> ServiceCredential {
        ServiceCredential::new("conversation", &Secret::new("the secret of the gateway")).unwrap()
    }

    pub(super) async fn record(&self, request: pb::RecordAcquaintanceRequest) -> Result<(), Status> {
        let request = as_service(request, &self.conversation(), None);
        self.reviews().record_acquaintance(request).await.map(drop)
    }

    pub(super) async fn put(
        &self,
        reviewer: &Person,
        about: &Person,
        rating: i32,
        text: &str,
    ) -> Result<pb::PutReviewResponse, Status> {
        let user_id = about.user.user_id.clone();
        let request = reviewer.asks(pb::PutReviewRequest { user_id, rating, text: text.to_owned() });
        Ok(self.reviews().put_review(request).await?.into_inner())
    }

    async fn delete(&self, reviewer: &Person, about: &Person) -> Result<pb::Rating, Status> {
        let request = reviewer.asks(pb::DeleteReviewRequest { user_id: about.user.user_id.clone() });
        Ok(self.reviews().delete_review(request).await?.into_inner().rating.unwrap())
    }

    async fn reviews_of(
        &self,
        reader: &Person,
        about: &Person,
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListUserReviewsResponse, Status> {
        let (user_id, page_token) = (about.user.user_id.clone(), page_token.to_owned());
        let request = reader.asks(pb::ListUserReviewsRequest { user_id, page_size, page_token });
        Ok(self.reviews().list_user_reviews(request).await?.into_inner())
    }

    /// What was told about reviews: of whom, by whom, what became of it, its version.
    async fn told(&self) -> Vec<(String, String, pb::ReviewChange, i64)> {
        let request = as_service(pb::ListUserFactsRequest::default(), &self.conversation(), None);
        let mut auth = AuthServiceClient::new(Transport::local(self.unit.grpc.clone().unwrap()));
        let facts = auth.list_user_facts(request).await.unwrap().into_inner().facts;
        let read = |fact: pb::UserFact| match fact.payload {
            Some(Payload::ReviewChanged(review)) => {
                Some((fact.user_id, review.reviewer_user_id.clone(), review.change(), review.version))
            }
            _ => None,
        };
        facts.into_iter().filter_map(read).collect()
    }
}

fn rating(count: i32, sum: i64, mean: f64) -> pb::Rating {
    pb::Rating { count, sum, mean }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    a_review(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    a_review(database).await;
}

async fn a_review(database: Database) {
    let mut world = World::start(database, config()).await;
    let (ann, bob, cid) =
        (world.register("ann").await, world.register("bob").await, world.register("cid").await);
    let fault =
        assert_refused(world.put(&ann, &bob, 5, "").await, Code::FailedPrecondition, "NOT_ACQUAINTED");
    assert_eq!(fault.metadata()["user_id"], bob.user.user_id);

    // They talk; each thinks something of it.
    let (mut hints, _subscription) = world.hints(subject::AUTH_FACTS).await;
    world.record(call(&bob, &ann)).await.unwrap();
    let written = world.put(&ann, &bob, 2, " A\u{308}tsch! \n").await.unwrap();
    hints.recv().await.unwrap();
    let review = written.review.unwrap();
    assert!(written.created);
    assert_eq!((review.rating, review.text.as_str()), (2, "Ätsch!"));
    assert_eq!((&review.reviewer_user_id, &review.user_id), (&ann.user.user_id, &bob.user.user_id));
    assert_eq!(review.create_time, Some(START.to_proto()));
    assert_eq!(written.rating, Some(rating(1, 2, 2.0)));
    world.clock.advance(Duration::from_secs(1));
    let again = world.put(&ann, &bob, 2, "Ätsch!").await.unwrap();
    assert!(!again.created);
    assert_eq!(again.review, Some(review.clone()));
    let changed = world.put(&ann, &bob, 5, "Sorry\nwas in a bad mood").await.unwrap();
    assert!(!changed.created);
    assert_eq!(changed.rating, Some(rating(1, 5, 5.0)));
    let changed = changed.review.unwrap();
    assert_eq!((&changed.review_id, changed.create_time), (&review.review_id, review.create_time));
    assert_eq!(changed.update_time, Some(world.clock.now().to_proto()));

    world.record(connection(&cid, &bob, true, 1)).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.put(&cid, &bob, 4, "").await.unwrap().rating, Some(rating(2, 9, 4.5)));
    let page = world.reviews_of(&cid, &bob, 0, "").await.unwrap();
    let by: Vec<_> = page.reviews.iter().map(|review| review.reviewer_user_id.clone()).collect();
    assert_eq!(by, [cid.user.user_id.clone(), ann.user.user_id.clone()]);
    assert_eq!((page.rating, page.own_review), (Some(rating(2, 9, 4.5)), Some(page.reviews[0].clone())));
    let get = ann.asks(pb::GetUserRequest { user_id: bob.user.user_id.clone() });
    let seen = world.users.get_user(get).await.unwrap().into_inner().user.unwrap();
    assert_eq!(seen.rating, Some(rating(2, 9, 4.5)));

    assert_eq!(world.delete(&ann, &bob).await.unwrap(), rating(1, 4, 4.0));
    let fault = assert_refused(world.delete(&ann, &bob).await, Code::NotFound, "REVIEW_NOT_FOUND");
    assert_eq!(fault.metadata()["user_id"], bob.user.user_id);
    let page = world.reviews_of(&ann, &bob, 0, "").await.unwrap();
    assert_eq!((page.reviews.len(), page.own_review), (1, None));

    // Cid goes, and with it what it wrote.
    let delete = cid.asks(pb::DeleteUserRequest { password: PASSWORD.to_owned() });
    world.users.delete_user(delete).await.unwrap();
    let page = world.reviews_of(&ann, &bob, 0, "").await.unwrap();
    assert_eq!((page.reviews.len(), page.rating), (0, Some(pb::Rating::default())));
    assert_refused(world.reviews_of(&ann, &cid, 0, "").await, Code::NotFound, "USER_NOT_FOUND");
    let of_bob =
        |by: &Person, change, version| (bob.user.user_id.clone(), by.user.user_id.clone(), change, version);
    assert_eq!(
        world.told().await,
        [
            of_bob(&ann, pb::ReviewChange::Written, 1),
            of_bob(&ann, pb::ReviewChange::Updated, 2),
            of_bob(&cid, pb::ReviewChange::Written, 1),
            of_bob(&ann, pb::ReviewChange::Deleted, 3),
            of_bob(&cid, pb::ReviewChange::Deleted, 2),
        ]
    );
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn what_is_no_review_is_refused() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob, guest) = (world.register("ann").await, world.register("bob").await, world.guest().await);
    for other in [&bob, &guest] {
        world.record(call(&ann, other)).await.unwrap();
    }
    for (rating, text, field) in
        [(0, "", "rating"), (6, "", "rating"), (3, "a\0b", "text"), (3, &"ä".repeat(2001), "text")]
    {
        let refused = world.put(&ann, &bob, rating, text).await;
        let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fault.fields()[0].0, field);
    }
    let refused = world.put(&ann, &ann, 5, "great").await;
    assert_eq!(assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD").fields()[0].0, "user_id");
    let mut nobody = bob.clone();
    nobody.user.user_id = UserId::generate().to_string();
    assert_refused(world.put(&ann, &nobody, 5, "").await, Code::NotFound, "USER_NOT_FOUND");
    assert_refused(world.reviews_of(&ann, &nobody, 0, "").await, Code::NotFound, "USER_NOT_FOUND");
    assert_refused(world.delete(&ann, &nobody).await, Code::NotFound, "REVIEW_NOT_FOUND");

    // A guest is reviewed, reads, and writes nothing.
    world.put(&ann, &guest, 5, "").await.unwrap();
    assert_refused(world.put(&guest, &ann, 5, "").await, Code::FailedPrecondition, "GUEST_ACCOUNT");
    assert_refused(world.delete(&guest, &ann).await, Code::FailedPrecondition, "GUEST_ACCOUNT");
    assert_eq!(world.reviews_of(&guest, &guest, 0, "").await.unwrap().reviews.len(), 1);
    let anonymous = pb::ListUserReviewsRequest { user_id: ann.user.user_id.clone(), ..Default::default() };
    let refused = world.reviews().list_user_reviews(anonymous).await;
    assert_refused(refused, Code::Unauthenticated, "UNAUTHENTICATED");
    assert_eq!(world.told().await.len(), 1);
}

#[tokio::test]
async fn only_services_say_who_knows_whom() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob) = (world.register("ann").await, world.register("bob").await);
    let refused = world.reviews().record_acquaintance(ann.asks(call(&ann, &bob))).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let request = as_service(call(&ann, &bob), &world.messaging, None);
    let refused = world.reviews().record_acquaintance(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);

    let good = call(&ann, &bob);
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let (anns, bobs) = (ann.user.user_id.as_str(), bob.user.user_id.as_str());
    let mixed = anns.to_uppercase();
    for (request, field) in [
        (pb::RecordAcquaintanceRequest { user_ids: ids(&[anns]), ..good.clone() }, "user_ids"),
        (pb::RecordAcquaintanceRequest { user_ids: ids(&[anns, anns]), ..good.clone() }, "user_ids"),
        (pb::RecordAcquaintanceRequest { user_ids: ids(&[anns, &mixed]), ..good.clone() }, "user_ids"),
        (pb::RecordAcquaintanceRequest { user_ids: ids(&[anns, "x"]), ..good.clone() }, "user_ids"),
        (pb::RecordAcquaintanceRequest { kind: 0, ..good.clone() }, "kind"),
        (pb::RecordAcquaintanceRequest { version: 0, ..good.clone() }, "version"),
    ] {
        let fault = assert_refused(world.record(request).await, Code::InvalidArgument, "INVALID_FIELD");
        assert!(fault.fields()[0].0.starts_with(field), "{:?}", fault.fields());
    }
    // That a call was not had after all is nothing to write down; one that was had stays.
    let not_had = pb::RecordAcquaintanceRequest { ended: true, version: 9, ..good.clone() };
    world.record(not_had.clone()).await.unwrap();
    assert_refused(world.put(&ann, &bob, 5, "").await, Code::FailedPrecondition, "NOT_ACQUAINTED");
    for request in [good.clone(), good, not_had] {
        world.record(request).await.unwrap();
    }
    world.put(&ann, &bob, 5, "").await.unwrap();
    let nobody = UserId::generate().to_string();
    let unknown = pb::RecordAcquaintanceRequest { user_ids: ids(&[bobs, &nobody]), ..call(&ann, &bob) };
    world.record(unknown).await.unwrap();
}

#[tokio::test]
async fn reviews_are_paged_and_a_token_fits_no_other_list() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    let mut others = Vec::new();
    for name in ["bob", "cid", "dee"] {
        let other = world.register(name).await;
        world.record(call(&ann, &other)).await.unwrap();
        world.clock.advance(Duration::from_secs(1));
        world.put(&ann, &other, 3, name).await.unwrap();
        world.put(&other, &ann, 4, name).await.unwrap();
        others.push(other);
    }
    let first = world.reviews_of(&ann, &ann, 2, "").await.unwrap();
    let second = world.reviews_of(&ann, &ann, 2, &first.next_page_token).await.unwrap();
    let texts: Vec<_> = first.reviews.iter().chain(&second.reviews).map(|review| &*review.text).collect();
    assert_eq!((texts, second.next_page_token.as_str()), (vec!["dee", "cid", "bob"], ""));
    assert_eq!(first.own_review, None);

    let mine = async |page_token: &str| {
        let request = ann.asks(pb::ListMyReviewsRequest { page_size: 2, page_token: page_token.to_owned() });
        Ok::<_, Status>(world.reviews().list_my_reviews(request).await?.into_inner())
    };
    let page = mine("").await.unwrap();
    assert_eq!(page.reviews.iter().map(|review| &*review.text).collect::<Vec<_>>(), ["dee", "cid"]);
    assert_eq!(mine(&page.next_page_token).await.unwrap().reviews[0].text, "bob");
    for refused in [
        mine(&first.next_page_token).await.map(drop),
        world.reviews_of(&ann, &others[0], 2, &first.next_page_token).await.map(drop),
        world.reviews_of(&ann, &ann, 2, "nonsense").await.map(drop),
    ] {
        let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fault.fields()[0].0, "page_token");
    }
}

#[tokio::test]
async fn reviews_are_got_by_their_ids_by_those_they_concern() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob, cid) =
        (world.register("ann").await, world.register("bob").await, world.register("cid").await);
    for (one, other) in [(&ann, &bob), (&bob, &cid)] {
        world.record(call(one, other)).await.unwrap();
    }
    let anns = world.put(&ann, &bob, 4, "kind").await.unwrap().review.unwrap();
    let bobs = world.put(&bob, &cid, 2, "late").await.unwrap().review.unwrap();
    let unknown = UserId::generate().to_string();
    let ids = [&bobs.review_id, &unknown, &anns.review_id, &bobs.review_id];
    let got = async |person: &Person| {
        let review_ids = ids.map(Clone::clone).to_vec();
        let request = person.asks(pb::BatchGetReviewsRequest { review_ids });
        world.reviews().batch_get_reviews(request).await.unwrap().into_inner().reviews
    };
    assert_eq!(got(&ann).await, std::slice::from_ref(&anns));
    assert_eq!(got(&bob).await, [bobs.clone(), anns.clone()]);
    assert_eq!(got(&cid).await, std::slice::from_ref(&bobs));
    for review_ids in [vec![], vec!["nonsense".to_owned()], vec![unknown.clone(); 101]] {
        let refused =
            world.reviews().batch_get_reviews(ann.asks(pb::BatchGetReviewsRequest { review_ids })).await;
        assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    }
}
