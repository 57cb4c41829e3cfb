//! The inbox by what is unread, by where one writes most, and by keyword.

use proto::messaging::v1::InboxFilter;

use super::*;

impl World {
    async fn inbox_page(&self, by: UserId, request: pb::ListInboxRequest) -> pb::ListInboxResponse {
        self.sync().list_inbox(by.says(request)).await.unwrap().into_inner()
    }

    /// All of it, page by page.
    async fn filtered(&self, by: UserId, filter: InboxFilter, keyword: &str) -> Vec<ConversationId> {
        let mut request = pb::ListInboxRequest {
            filter: filter.into(),
            keyword: keyword.to_owned(),
            page_size: 2,
            ..Default::default()
        };
        let mut found = Vec::new();
        loop {
            let page = self.inbox_page(by, request.clone()).await;
            found.extend(page.entries.iter().map(id_of));
            if page.next_page_token.is_empty() {
                return found;
            }
            request.page_token = page.next_page_token;
        }
    }

    pub(super) async fn reads(&self, by: UserId, message: &pb::Message) {
        let request = pb::AdvanceWatermarkRequest {
            conversation_id: message.conversation_id.clone(),
            read_sequence: message.sequence,
            ..Default::default()
        };
        self.messaging().advance_watermark(by.says(request)).await.unwrap();
    }
}

fn id_of(entry: &pb::InboxEntry) -> ConversationId {
    ConversationId::parse(&entry.conversation.as_ref().unwrap().conversation_id).unwrap()
}

#[tokio::test]
async fn what_is_unread_comes_newest_first_and_goes_at_once() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let groups: Vec<_> = (0..5).map(|_| world.group(&[ann, bob])).collect();
    let mut last = Vec::new();
    for group in &groups {
        world.clock.advance(Duration::from_secs(1));
        last.push(world.says(bob, *group, "hello").await);
    }
    let newest: Vec<_> = groups.iter().rev().copied().collect();
    assert_eq!(world.filtered(ann, InboxFilter::Unread, "").await, newest);
    world.reads(ann, &last[4]).await;
    world.reads(ann, &last[1]).await;
    assert_eq!(world.filtered(ann, InboxFilter::Unread, "").await, [groups[3], groups[2], groups[0]]);
    // What one says oneself is no news.
    world.clock.advance(Duration::from_secs(1));
    world.says(ann, groups[4], "hi").await;
    assert_eq!(world.filtered(ann, InboxFilter::Unread, "").await, [groups[3], groups[2], groups[0]]);
    assert!(world.filtered(bob, InboxFilter::Unread, "").await == [groups[4]]);
    world.says(bob, groups[1], "again").await;
    assert_eq!(world.filtered(ann, InboxFilter::Unread, "").await[0], groups[1]);
    let request = pb::ListInboxRequest { filter: InboxFilter::Unread.into(), ..Default::default() };
    let page = world.inbox_page(ann, request).await;
    assert!(page.entries.iter().all(|entry| entry.unread_count == 1 && entry.last_message.is_some()));
}

#[tokio::test]
async fn where_one_writes_most_comes_first() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let groups: Vec<_> = (0..5).map(|_| world.group(&[ann, bob])).collect();
    world.says(ann, groups[0], "long ago").await;
    world.clock.advance(Duration::from_secs(30 * 24 * 3600));
    for (group, count) in [(1, 2), (2, 4), (3, 1)] {
        for n in 0..count {
            world.says(ann, groups[group], &n.to_string()).await;
        }
        world.says(bob, groups[group], "does not count").await;
    }
    world.says(bob, groups[4], "does not count").await;
    let by_count = [groups[2], groups[1], groups[3]];
    assert_eq!(world.filtered(ann, InboxFilter::Frequent, "").await, by_count);
    // At once.
    for n in 0..5 {
        world.says(ann, groups[3], &n.to_string()).await;
    }
    assert_eq!(world.filtered(ann, InboxFilter::Frequent, "").await, [groups[3], groups[2], groups[1]]);
    world.clock.advance(Duration::from_secs(30 * 24 * 3600));
    assert!(world.filtered(ann, InboxFilter::Frequent, "").await.is_empty());
}

#[tokio::test]
async fn pages_stand_still_while_one_writes() {
    let world = World::start().await;
    let [ann] = world.people();
    let groups: Vec<_> = (0..3).map(|_| world.group(&[ann])).collect();
    for (group, count) in [(0, 3), (1, 2), (2, 1)] {
        for n in 0..count {
            world.says(ann, groups[group], &n.to_string()).await;
        }
    }
    let request =
        pb::ListInboxRequest { filter: InboxFilter::Frequent.into(), page_size: 1, ..Default::default() };
    let first = world.inbox_page(ann, request.clone()).await;
    world.clock.advance(Duration::from_millis(1));
    for n in 0..9 {
        world.says(ann, groups[2], &n.to_string()).await;
    }
    let second = world
        .inbox_page(
            ann,
            pb::ListInboxRequest { page_token: first.next_page_token.clone(), ..request.clone() },
        )
        .await;
    let third = world
        .inbox_page(ann, pb::ListInboxRequest { page_token: second.next_page_token.clone(), ..request })
        .await;
    let pages = [&first, &second, &third];
    assert_eq!(pages.map(|page| id_of(&page.entries[0])), [groups[0], groups[1], groups[2]]);
    assert!(third.next_page_token.is_empty());
    let other = pb::ListInboxRequest { page_token: first.next_page_token, ..Default::default() };
    let refused = world.sync().list_inbox(ann.says(other)).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn conversations_are_found_by_title_and_by_the_other_one_s_names() {
    let world = World::start().await;
    let [ann, bob, cy] = ["ann", "bob.builder", "cyd"].map(|name| world.others.register_as(name));
    world.others.set_display_name(cy, "Zoë Lind");
    let group = world.group(&[ann, bob]);
    world.others.set_title(group, "Build a house");
    let [with_bob, with_cy] =
        [bob, cy].map(|other| world.others.create(ConversationKind::Direct, &[ann, other]));
    for conversation in [group, with_bob, with_cy] {
        world.clock.advance(Duration::from_secs(1));
        world.says(ann, conversation, "hello").await;
    }
    let found = async |keyword: &str| world.filtered(ann, InboxFilter::Unspecified, keyword).await;
    assert_eq!(found("BUILD").await, [with_bob, group]);
    assert_eq!(found("zoe l").await, [with_cy]);
    assert_eq!(found(" cyd ").await, [with_cy]);
    assert_eq!(found("").await.len(), 3);
    // Oneself is in all of them.
    assert!(found("ann").await.is_empty() && found("nothing").await.is_empty());
    assert_eq!(world.filtered(ann, InboxFilter::Frequent, "build").await, [with_bob, group]);
    assert!(world.filtered(ann, InboxFilter::Unread, "build").await.is_empty());
    assert_eq!(world.filtered(cy, InboxFilter::Unread, "ann").await, [with_cy]);
    world.others.set_auth_down(true);
    let request = pb::ListInboxRequest { keyword: "build".to_owned(), ..Default::default() };
    let refused = world.sync().list_inbox(ann.says(request)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_page_looks_at_a_thousand_and_says_that_there_is_more() {
    let world = World::start().await;
    let [ann] = world.people();
    let wanted = world.group(&[ann]);
    world.others.set_title(wanted, "needle");
    for _ in 0..1005 {
        world.clock.advance(Duration::from_millis(1));
        world.group(&[ann]);
    }
    world.has_heard(ann, 200).await;
    let request = pb::ListInboxRequest { keyword: "needle".to_owned(), ..Default::default() };
    let first = world.inbox_page(ann, request.clone()).await;
    assert!(first.entries.is_empty() && !first.next_page_token.is_empty());
    let next = pb::ListInboxRequest { page_token: first.next_page_token, ..request };
    let second = world.inbox_page(ann, next).await;
    assert_eq!(second.entries.iter().map(id_of).collect::<Vec<_>>(), [wanted]);
    assert!(second.next_page_token.is_empty());
}

#[tokio::test]
async fn the_inbox_is_listed_by_kind() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let make = |kind| world.others.create(kind, &[ann, bob]);
    let (direct, group, room) =
        (make(ConversationKind::Direct), make(ConversationKind::Group), make(ConversationKind::Room));
    for (n, conversation) in [direct, group, room, group].into_iter().enumerate() {
        world.clock.advance(Duration::from_secs(1));
        world.says(bob, conversation, &n.to_string()).await;
    }
    let of = async |kinds: &[ConversationKind], filter: InboxFilter, token: &str| {
        let request = pb::ListInboxRequest {
            filter: filter.into(),
            kinds: kinds.iter().map(|kind| i32::from(*kind)).collect(),
            page_size: 1,
            page_token: token.to_owned(),
            ..Default::default()
        };
        world.sync().list_inbox(ann.says(request)).await.map(tonic::Response::into_inner)
    };
    let all = InboxFilter::Unspecified;
    let page = of(&[ConversationKind::Direct, ConversationKind::Room], all, "").await.unwrap();
    assert_eq!(page.entries.iter().map(id_of).collect::<Vec<_>>(), [room]);
    // The order of the kinds does not matter to a token, and other kinds do.
    let kinds = [ConversationKind::Room, ConversationKind::Direct, ConversationKind::Room];
    let next = of(&kinds, all, &page.next_page_token).await.unwrap();
    assert_eq!(next.entries.iter().map(id_of).collect::<Vec<_>>(), [direct]);
    assert_eq!(next.next_page_token, "");
    let other = of(&[ConversationKind::Group], all, &page.next_page_token).await;
    assert_eq!(refusal(other), refused(Code::InvalidArgument, "INVALID_FIELD"));
    let unread = of(&[ConversationKind::Group], InboxFilter::Unread, "").await.unwrap();
    assert_eq!((unread.entries.len(), unread.entries[0].unread_count), (1, 2));
    assert!(of(&[ConversationKind::Channel], all, "").await.unwrap().entries.is_empty());
    let none = of(&[ConversationKind::Unspecified], all, "").await;
    assert_eq!(refusal(none).0, Code::InvalidArgument);
}

#[tokio::test]
async fn entries_are_got_by_conversation() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let (one, two, foreign) = (world.group(&[ann, bob]), world.group(&[ann, bob]), world.group(&[bob]));
    let room = world.others.create(ConversationKind::Room, &[bob]);
    world.others.set_public_read(room);
    for conversation in [one, foreign, room] {
        world.says(bob, conversation, "hello").await;
    }
    let get = async |ids: &[ConversationId]| {
        let conversation_ids = ids.iter().map(ToString::to_string).collect();
        let request = pb::BatchGetInboxEntriesRequest { conversation_ids };
        world.sync().batch_get_inbox_entries(ann.says(request)).await.map(tonic::Response::into_inner)
    };
    let found = get(&[two, foreign, one, two, ConversationId::generate(), room]).await.unwrap().entries;
    assert_eq!(found.iter().map(id_of).collect::<Vec<_>>(), [two, one]);
    let listed = world.inbox_page(ann, pb::ListInboxRequest::default()).await.entries;
    let same = |entry: &pb::InboxEntry| listed.iter().any(|listed| listed == entry);
    assert!(found.iter().all(same), "an entry is as in the list: {found:?} {listed:?}");
    assert_eq!((found[1].unread_count, found[0].last_message.clone()), (1, None));
    world.others.remove(one, ann);
    assert_eq!(get(&[one, two]).await.unwrap().entries.len(), 1);
    for ids in [vec![], vec![one; 101]] {
        assert_eq!(refusal(get(&ids).await).0, Code::InvalidArgument);
    }
}
