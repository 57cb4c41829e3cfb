//! What the store promises about finding messages and about alerts.

use std::time::Duration;

use chassis::database::facts::Claim;
use proto::messaging::v1 as pb;
use proto::messaging::v1::AlertKind;
use proto::messaging::v1::content::Kind;

use super::*;
use crate::words::words;

promises! {
    a_message_is_found_by_each_of_its_words
    a_beginning_finds_only_as_the_last_word
    what_is_edited_is_found_by_what_it_says_now
    what_is_gone_is_not_found
    what_is_secure_is_not_found
    a_message_without_words_is_found_by_kind_and_sender
    times_bound_what_is_found
    only_the_conversations_asked_for_are_looked_at
    pages_follow_each_other_while_others_write
    nothing_of_a_deleted_conversation_is_found_or_alerts
    a_mention_alerts_once
    a_retry_alerts_nobody_again
    alerts_are_marked_all_or_none
    alerts_are_listed_by_last_change
    marking_and_alerting_never_wait_in_a_circle
}

fn earlier(millis: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() - millis)
}

fn letter(conversation: ConversationId, sender: UserId, content: Content) -> Letter {
    let draft = Draft {
        target: Target::Conversation(conversation),
        content,
        client_message_id: None,
        reply_to: None,
        lifetime: None,
        scheduled_time: None,
    };
    Letter::new(draft, conversation, sender)
}

fn of_kind(kind: Kind) -> Content {
    Content::parse(Some(pb::Content { kind: Some(kind), ..Default::default() }), NOW).unwrap()
}

async fn post(store: &Store, letter: &Letter, now: Timestamp) -> Message {
    let access = Access::member();
    store.append(&[Post { letter, access: &access }], now).await.unwrap().remove(0).unwrap().message
}

async fn send(store: &Store, conversation: ConversationId, sender: UserId, says: &str) -> Message {
    post(store, &letter(conversation, sender, Content::text(says)), NOW).await
}

async fn mention(store: &Store, conversation: ConversationId, by: UserId, users: &[UserId]) -> Appended {
    let mut letter = letter(conversation, by, Content::text("@you"));
    letter.details.mentions = users.to_vec();
    let access = Access::member();
    store.append(&[Post { letter: &letter, access: &access }], NOW).await.unwrap().remove(0).unwrap()
}

async fn revise(store: &Store, message: &Message, change: Change, mentions: Vec<UserId>) -> Revised {
    let Message { conversation, message_id, sender, .. } = *message;
    let revision = Revision { conversation, message_id, by: sender, change, mentions, is_signed: false };
    store.revise(&revision, &Access::member(), NOW).await.unwrap()
}

fn edit(says: &str) -> Change {
    Change::Edit { content: Content::text(says), expected_version: None }
}

fn looking(query: &str, conversations: &[ConversationId]) -> Search {
    Search {
        user: UserId::generate(),
        conversations: conversations.to_vec(),
        words: words(query),
        sender: None,
        kinds: BTreeSet::new(),
        after: None,
        before: None,
        older_than: None,
        limit: 100,
    }
}

async fn found(store: &Store, search: &Search) -> Vec<MessageId> {
    store.search(search).await.unwrap().into_iter().map(|message| message.message_id).collect()
}

async fn finds(store: &Store, query: &str, message: &Message) -> bool {
    found(store, &looking(query, &[message.conversation])).await.contains(&message.message_id)
}

async fn a_message_is_found_by_each_of_its_words(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let texts = [
        "Grüße aus Köln, STRASSE und Straße",
        "l'homme s'appelle O'Neill; don't",
        "你好，世界！ がぎ 한국어 हिन्दी",
        "👍🏽 👩‍👩‍👧 ❤️ 1️⃣ 🇩🇪",
        "AND OR NOT NEAR ( \"quoted\" ) * : ^ + - & | ! <-> \\ '",
        "it is \"the\" a an of", // Words that a dictionary would leave out.
        "https://example.com/path?q=1&r=2#x ann@example.com",
        "İstanbul ΟΔΟΣ ﬁne ①",
        &"wort ".repeat(3000),
        &"x".repeat(16_000),
        "{} [] % _ 100% $1 ? ?1",
    ];
    for text in texts {
        let message = send(&store, conversation, ann, text).await;
        let all = words(text);
        assert!(!all.is_empty());
        for word in &all {
            assert!(finds(&store, word, &message).await, "{text:?} by {word:?}");
            assert!(finds(&store, &word.to_uppercase(), &message).await, "{text:?} by {word:?}");
        }
        let backwards: Vec<_> = all.iter().rev().cloned().collect();
        assert!(finds(&store, &backwards.join(" "), &message).await, "{text:?}");
        assert!(!finds(&store, &format!("{} nowhere", all[0]), &message).await, "{text:?}");
    }
    let no_such = looking("\u{e000} wor nothing", &[conversation]);
    assert!(found(&store, &no_such).await.is_empty());
}

async fn a_beginning_finds_only_as_the_last_word(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let message = send(&store, conversation, ann, "Something wonderful happened").await;
    for (query, is_found) in [
        ("some", true),
        ("something wond", true),
        ("wond something", false),
        ("omething", false),
        ("w*", true),
    ] {
        assert_eq!(finds(&store, query, &message).await, is_found, "{query}");
    }
}

async fn what_is_edited_is_found_by_what_it_says_now(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let message = send(&store, conversation, ann, "before always").await;
    revise(&store, &message, edit("after always"), Vec::new()).await;
    assert!(!finds(&store, "before", &message).await);
    assert!(finds(&store, "after", &message).await && finds(&store, "always", &message).await);
    let to = |url: &str| of_kind(Kind::Link(pb::LinkContent { url: url.to_owned(), ..Default::default() }));
    let link = post(&store, &letter(conversation, ann, to("https://example.com")), NOW).await;
    let change = Change::Edit { content: to("https://elsewhere.org"), expected_version: None };
    revise(&store, &link, change, Vec::new()).await;
    assert!(!finds(&store, "example", &link).await && finds(&store, "elsewhere", &link).await);
    let links = Search { kinds: BTreeSet::from([MessageKind::Link]), ..looking("", &[conversation]) };
    assert_eq!(found(&store, &links).await, [link.message_id]);
}

async fn what_is_gone_is_not_found(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let message = send(&store, conversation, ann, "secret").await;
    assert!(finds(&store, "secret", &message).await);
    revise(&store, &message, Change::Delete(DeletionReason::Deleted), Vec::new()).await;
    assert!(!finds(&store, "secret", &message).await);
    let by_ann = Search { sender: Some(ann), ..looking("", &[conversation]) };
    assert!(found(&store, &by_ann).await.is_empty());

    let lifetime = Some(Duration::from_secs(5));
    let short = Letter { lifetime, ..letter(conversation, ann, Content::text("short")) };
    let there = post(&store, &short, earlier(4_999)).await;
    assert!(finds(&store, "short", &there).await);
    let short = Letter { message_id: MessageId::generate(), ..short };
    let over = post(&store, &short, earlier(5_000)).await;
    assert!(!finds(&store, "short", &over).await && finds(&store, "short", &there).await);
    assert_eq!(found(&store, &by_ann).await, [there.message_id]);
}

async fn what_is_secure_is_not_found(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let secure = pb::SecureContent {
        ciphertext: b"hello".to_vec(),
        algorithm: "hello".to_owned(),
        ..Default::default()
    };
    let secret = post(&store, &letter(conversation, ann, of_kind(Kind::Secure(secure.clone()))), NOW).await;
    assert!(!finds(&store, "hello", &secret).await);
    let by_ann = Search { sender: Some(ann), ..looking("", &[conversation]) };
    assert!(found(&store, &by_ann).await.is_empty());
    let again = pb::SecureContent { algorithm: "again".to_owned(), ..secure };
    let change = Change::Edit { content: of_kind(Kind::Secure(again)), expected_version: None };
    revise(&store, &secret, change, Vec::new()).await;
    assert!(found(&store, &by_ann).await.is_empty() && !finds(&store, "again", &secret).await);
}

async fn a_message_without_words_is_found_by_kind_and_sender(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let place = pb::LocationContent { latitude: 1.0, longitude: 2.0, ..Default::default() };
    let place = post(&store, &letter(conversation, ann, of_kind(Kind::Location(place))), NOW).await;
    let poll = pb::PollContent {
        question: "Where to?".to_owned(),
        options: vec!["Rome".to_owned(), "Oslo".to_owned()],
        ..Default::default()
    };
    let poll = post(&store, &letter(conversation, bob, of_kind(Kind::Poll(poll))), NOW).await;
    let text = send(&store, conversation, bob, "Rome").await;
    let search = |query, kinds: &[MessageKind], sender| Search {
        kinds: kinds.iter().copied().collect(),
        sender,
        ..looking(query, &[conversation])
    };
    let [place, poll, text] = [place, poll, text].map(|message| message.message_id);
    use MessageKind::{Location, Poll, Sticker, Text};
    assert_eq!(found(&store, &search("", &[Location], None)).await, [place]);
    assert_eq!(found(&store, &search("", &[Location, Poll, Text], None)).await, [text, poll, place]);
    assert_eq!(found(&store, &search("rome", &[], None)).await, [text, poll]);
    assert_eq!(found(&store, &search("rome oslo", &[], None)).await, [poll]);
    assert_eq!(found(&store, &search("rome", &[Poll, Sticker], None)).await, [poll]);
    assert_eq!(found(&store, &search("", &[], Some(bob))).await, [text, poll]);
    assert_eq!(found(&store, &search("", &[Text], Some(ann))).await, []);
}

async fn times_bound_what_is_found(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let mut sent = Vec::new();
    for millis in [3000, 2000, 1000] {
        let letter = letter(conversation, ann, Content::text("hello"));
        sent.push(post(&store, &letter, earlier(millis)).await.message_id);
    }
    let search = |after: Option<i64>, before: Option<i64>| Search {
        after: after.map(earlier),
        before: before.map(earlier),
        ..looking("hello", &[conversation])
    };
    assert_eq!(found(&store, &search(Some(2000), None)).await, [sent[2], sent[1]]);
    assert_eq!(found(&store, &search(None, Some(2000))).await, [sent[0]]);
    assert_eq!(found(&store, &search(Some(2000), Some(1000))).await, [sent[1]]);
    assert_eq!(found(&store, &search(Some(1000), Some(2000))).await, []);
}

async fn only_the_conversations_asked_for_are_looked_at(store: Store) {
    let ann = UserId::generate();
    let conversations: Vec<_> = (0..100).map(|_| ConversationId::generate()).collect();
    let mut sent = Vec::new();
    for conversation in &conversations {
        sent.push(send(&store, *conversation, ann, "hello there").await.message_id);
    }
    sent.reverse();
    let newest = |count: usize| sent[100 - count..].to_vec();
    // Around the place where the index is no longer asked for the conversations, and a lone one.
    for count in [1, 2, 63, 64, 65, 100] {
        let search = Search { limit: 1000, ..looking("hello", &conversations[..count]) };
        assert_eq!(found(&store, &search).await, newest(count));
        let by_ann = Search { words: Vec::new(), sender: Some(ann), ..search };
        assert_eq!(found(&store, &by_ann).await, newest(count));
    }
    assert_eq!(found(&store, &looking("hello", &[])).await, []);
    assert_eq!(found(&store, &looking("hello", &[ConversationId::generate()])).await, []);
}

async fn pages_follow_each_other_while_others_write(store: Store) {
    let (conversation, ann) = (ConversationId::generate(), UserId::generate());
    let mut sent = Vec::new();
    for _ in 0..25 {
        sent.push(send(&store, conversation, ann, "hello").await);
    }
    sent.reverse();
    let mut search = Search { limit: 7, ..looking("hello", &[conversation]) };
    let mut seen = Vec::new();
    loop {
        let page = found(&store, &search).await;
        let Some(last) = page.last() else { break };
        search.older_than = Some(*last);
        seen.extend(page);
        send(&store, conversation, ann, "hello meanwhile").await;
    }
    assert_eq!(seen, sent.iter().map(|message| message.message_id).collect::<Vec<_>>());
}

async fn nothing_of_a_deleted_conversation_is_found_or_alerts(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let [gone, kept] = [ConversationId::generate(), ConversationId::generate()];
    for conversation in [gone, kept] {
        mention(&store, conversation, ann, &[bob]).await;
    }
    let fact = Fact {
        conversation: gone,
        membership_version: 2,
        occur_time: NOW,
        actor: None,
        kind: FactKind::Deleted,
        payload: Vec::new(),
        gained: Vec::new(),
        lost: vec![(bob, 1)],
    };
    store.apply(&Claim::forward("conversation", 0, 1), &[fact], &[]).await.unwrap().unwrap();
    let search = Search { sender: Some(ann), ..looking("you", &[gone, kept]) };
    assert_eq!(store.search(&search).await.unwrap()[0].conversation, kept);
    assert_eq!(found(&store, &search).await.len(), 1);
    let left = store.alerts(&all_of(bob)).await.unwrap();
    assert_eq!(left.iter().map(|alert| alert.conversation).collect::<Vec<_>>(), [Some(kept)]);
    assert_eq!(store.unread_alerts(bob, &BTreeSet::new(), 1000).await.unwrap(), 1);
}

fn all_of(user: UserId) -> Alerts {
    Alerts { user, only_unread: false, kinds: BTreeSet::new(), before: None, limit: 1000 }
}

/// The alerts in a user's log.
async fn told(store: &Store, user: UserId) -> Vec<pb::Alert> {
    let events = store.user_events(user, Sequence::NONE, 10_000).await.unwrap();
    let sequences: Vec<_> = events.iter().map(|event| event.sequence.get()).collect();
    assert_eq!(sequences, (1..=events.len() as i64).collect::<Vec<_>>(), "the log has no gap");
    let alert = |event: UserEvent| match event.what {
        UserHappening::AlertChanged(alert) => Some(*alert),
        _ => None,
    };
    events.into_iter().filter_map(alert).collect()
}

async fn a_mention_alerts_once(store: Store) {
    let (conversation, [ann, bob, cy]) = (ConversationId::generate(), [(); 3].map(|()| UserId::generate()));
    let appended = mention(&store, conversation, ann, &[bob]).await;
    assert_eq!(appended.alerts.iter().map(|event| event.user).collect::<Vec<_>>(), [bob]);
    let message = appended.message;
    let alerts = store.alerts(&all_of(bob)).await.unwrap();
    let [alert] = alerts.as_slice() else { panic!("{alerts:?}") };
    assert_eq!(
        (alert.kind, alert.actor, alert.conversation),
        (AlertKind::Mention, Some(ann), Some(conversation))
    );
    assert_eq!((alert.message, alert.read_time), (Some(message.message_id), None));
    assert_eq!(told(&store, bob).await, [pb::Alert::from(alert)]);

    let revised = revise(&store, &message, edit("@you again"), vec![cy, bob]).await;
    assert_eq!(revised.alerts.iter().map(|event| event.user).collect::<Vec<_>>(), [cy]);
    assert_eq!(revised.message.details.mentions, [cy, bob]);
    let revised = revise(&store, &message, edit("nobody"), Vec::new()).await;
    let settled: BTreeSet<_> = revised.alerts.iter().map(|event| event.user).collect();
    assert_eq!((settled, revised.message.details.mentions), (BTreeSet::from([bob, cy]), Vec::new()));
    let revised = revise(&store, &message, edit("@you once more"), vec![bob]).await;
    assert!(revised.alerts.is_empty(), "the same subject");
    let read = store.alerts(&all_of(bob)).await.unwrap();
    assert!(read.len() == 1 && read[0].alert_id == alert.alert_id && read[0].read_time.is_some(), "{read:?}");
    assert_eq!((told(&store, bob).await.len(), told(&store, cy).await.len()), (2, 2));
}

async fn a_retry_alerts_nobody_again(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let mut sent = letter(conversation, ann, Content::text("@you"));
    sent.client_message_id = ClientMessageId::parse("k".to_owned()).unwrap();
    sent.details.mentions = vec![bob];
    let access = Access::member();
    for repeated in [false, true, true] {
        let letter = Letter { message_id: MessageId::generate(), ..sent.clone() };
        let appended =
            store.append(&[Post { letter: &letter, access: &access }], NOW).await.unwrap().remove(0);
        let appended = appended.unwrap();
        assert_eq!((appended.repeated, appended.alerts.is_empty()), (repeated, repeated));
    }
    assert_eq!((store.alerts(&all_of(bob)).await.unwrap().len(), told(&store, bob).await.len()), (1, 1));
    let search = looking("you", &[conversation]);
    assert_eq!(found(&store, &search).await.len(), 1);
}

async fn alerts_are_marked_all_or_none(store: Store) {
    let (conversation, [ann, bob, cy]) = (ConversationId::generate(), [(); 3].map(|()| UserId::generate()));
    for _ in 0..3 {
        mention(&store, conversation, ann, &[bob, cy]).await;
    }
    let ids = async |user| {
        let alerts = store.alerts(&all_of(user)).await.unwrap();
        alerts.into_iter().map(|alert| alert.alert_id).collect::<Vec<_>>()
    };
    let (mine, theirs) = (ids(bob).await, ids(cy).await);
    let mark = async |these: &[AlertId], read| {
        let which = Marked::These(these.iter().copied().collect());
        store.mark_alerts(&Marking { user: bob, which, read }, NOW).await.map(|events| events.len())
    };
    let unread = async || store.unread_alerts(bob, &BTreeSet::new(), 1000).await.unwrap();
    let foreign = mark(&[mine[0], theirs[0]], true).await;
    assert!(matches!(foreign, Err(Error::AlertNotFound(id)) if id == theirs[0]));
    let unknown = mark(&[mine[0], AlertId::generate()], true).await;
    assert!(matches!(unknown, Err(Error::AlertNotFound(_))));
    assert_eq!((unread().await, told(&store, bob).await.len()), (3, 3));
    assert_eq!(mark(&mine[..2], true).await.unwrap(), 2);
    assert_eq!(mark(&mine, true).await.unwrap(), 1, "what was read changes no more");
    assert_eq!((unread().await, told(&store, bob).await.len()), (0, 6));
    assert_eq!(mark(&mine[1..2], false).await.unwrap(), 1);
    assert_eq!((unread().await, store.unread_alerts(cy, &BTreeSet::new(), 1000).await.unwrap()), (1, 3));
    assert_eq!(store.unread_alerts(cy, &BTreeSet::new(), 2).await.unwrap(), 2);
    let only_unread = Alerts { only_unread: true, ..all_of(bob) };
    assert_eq!(store.alerts(&only_unread).await.unwrap()[0].alert_id, mine[1]);

    let some = |user, since, limit| Marking { user, which: Marked::Some { since, limit }, read: true };
    assert!(store.mark_alerts(&some(cy, earlier(1), 10), NOW).await.unwrap().is_empty(), "they are newer");
    assert_eq!(store.mark_alerts(&some(cy, NOW, 2), NOW).await.unwrap().len(), 2);
    assert_eq!(store.mark_alerts(&some(cy, NOW, 2), NOW).await.unwrap().len(), 1);
    assert_eq!(store.mark_alerts(&some(cy, NOW, 2), NOW).await.unwrap().len(), 0);
}

async fn alerts_are_listed_by_last_change(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let mut messages = Vec::new();
    for _ in 0..9 {
        messages.push(mention(&store, conversation, ann, &[bob]).await.message.message_id);
    }
    messages.reverse();
    let (mut listed, mut before) = (Vec::new(), None);
    loop {
        let page = store.alerts(&Alerts { before, limit: 4, ..all_of(bob) }).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.update_time, last.alert_id));
        listed.extend(page.iter().filter_map(|alert| alert.message));
    }
    assert_eq!(listed, messages);
    let wanted = [(conversation, messages[0]), (ConversationId::generate(), messages[1])];
    let found = store.messages_for(bob, &wanted).await.unwrap();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [messages[0]]);
}

async fn marking_and_alerting_never_wait_in_a_circle(store: Store) {
    let (ann, users) = (UserId::generate(), [(); 4].map(|()| UserId::generate()));
    let mut work = JoinSet::new();
    for lane in 0..4 {
        let store = store.clone();
        work.spawn(async move {
            let conversation = ConversationId::generate();
            for turn in 0..15 {
                let mut users = users;
                users.rotate_left((lane + turn) % 4);
                mention(&store, conversation, ann, &users).await;
                let which = Marked::Some { since: NOW, limit: 7 };
                let marking = Marking { user: users[0], which, read: turn % 3 != 0 };
                store.mark_alerts(&marking, NOW).await.unwrap();
            }
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    for user in users {
        assert_eq!(store.alerts(&all_of(user)).await.unwrap().len(), 60);
        let last: HashMap<_, _> =
            told(&store, user).await.into_iter().map(|alert| (alert.alert_id.clone(), alert)).collect();
        for alert in store.alerts(&all_of(user)).await.unwrap() {
            assert_eq!(last[&alert.alert_id.to_string()], pb::Alert::from(&alert), "the log says what is");
        }
    }
}
