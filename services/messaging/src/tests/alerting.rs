//! Mentions and the inbox of alerts, through the service's own routes.

use proto::conversation::v1::MemberRole;
use proto::id::AlertId;

use super::*;

impl World {
    pub(super) async fn list_alerts(
        &self,
        by: UserId,
        request: pb::ListAlertsRequest,
    ) -> pb::ListAlertsResponse {
        self.alerts.clone().list_alerts(by.says(request)).await.unwrap().into_inner()
    }

    pub(super) async fn alerts_of(&self, by: UserId) -> Vec<pb::Alert> {
        self.list_alerts(by, pb::ListAlertsRequest::default()).await.alerts
    }

    pub(super) async fn mark(&self, by: UserId, request: pb::MarkAlertsRequest) -> Result<i32, Status> {
        let answer = self.alerts.clone().mark_alerts(by.says(request)).await;
        answer.map(|answer| answer.into_inner().unread_count)
    }

    async fn edits_text(&self, by: UserId, message: &pb::Message, text: &str) -> Result<pb::Message, Status> {
        let request = pb::EditMessageRequest {
            conversation_id: message.conversation_id.clone(),
            message_id: message.message_id.clone(),
            content: content(text),
            ..Default::default()
        };
        let answer = self.messaging().edit_message(by.says(request)).await?;
        Ok(answer.into_inner().message.unwrap())
    }

    /// The alerts in somebody's log.
    pub(super) async fn told(&self, by: UserId) -> Vec<pb::Alert> {
        let alert = |event: pb::UserEvent| match event.payload {
            Some(pb::user_event::Payload::AlertChanged(alert)) => Some(alert),
            _ => None,
        };
        self.user_events(by).await.into_iter().filter_map(alert).collect()
    }
}

fn ids(alerts: &[pb::Alert]) -> Vec<String> {
    alerts.iter().map(|alert| alert.alert_id.clone()).collect()
}

#[tokio::test]
async fn who_is_called_by_name_is_alerted() {
    let world = World::start().await;
    let [ann, bob, cy, eve] = ["ann", "bob", "cyd", "eve"].map(|name| world.others.register_as(name));
    let group = world.group(&[ann, bob, cy]);
    let message = world.says(ann, group, "@Bob, (@cyd), @ann, @eve and @nobody: hello").await;
    assert_eq!(message.mentioned_user_ids, [bob.to_string(), cy.to_string()]);
    for user in [bob, cy] {
        let page = world.list_alerts(user, pb::ListAlertsRequest::default()).await;
        assert_eq!(page.unread_count, 1);
        let alert = &page.alerts[0];
        assert_eq!((alert.kind(), &alert.actor_user_id), (pb::AlertKind::Mention, &ann.to_string()));
        assert_eq!(alert.conversation_id, group.to_string());
        assert_eq!((&alert.message_id, alert.read_time), (&message.message_id, None));
        assert_eq!(alert.message.as_ref(), Some(&message));
        let told = world.told(user).await;
        assert_eq!(told, [pb::Alert { message: None, ..alert.clone() }]);
    }
    for user in [ann, eve] {
        assert!(world.alerts_of(user).await.is_empty() && world.told(user).await.is_empty());
    }
    // Who comes in later was not called; and nobody asks auth where nobody is called.
    let asked = world.others.lookups();
    world.says(ann, group, "ann@example.com is no call, nor is @x").await;
    assert_eq!(world.others.lookups(), asked);
    world.others.add(group, eve);
    assert!(world.alerts_of(eve).await.is_empty());
}

#[tokio::test]
async fn an_edit_alerts_whom_it_newly_mentions() {
    let world = World::start().await;
    let [ann, bob, cy] = ["ann", "bob", "cyd"].map(|name| world.others.register_as(name));
    let group = world.group(&[ann, bob, cy]);
    let message = world.says(ann, group, "@bob").await;
    let edited = world.edits_text(ann, &message, "@cyd and @bob").await.unwrap();
    assert_eq!(edited.mentioned_user_ids, [cy.to_string(), bob.to_string()]);
    assert_eq!((world.told(bob).await.len(), world.told(cy).await.len()), (1, 1));
    let edited = world.edits_text(ann, &message, "nobody").await.unwrap();
    assert!(edited.mentioned_user_ids.is_empty());
    world.edits_text(ann, &message, "@bob").await.unwrap();
    // Its mention was settled meanwhile, and does not become unread again: edits call nobody again and again.
    assert_eq!((world.alerts_of(bob).await.len(), world.told(bob).await.len()), (1, 2));
    // Somebody else's edit is refused and alerts nobody.
    assert_eq!(
        refusal(world.edits_text(bob, &message, "@cyd").await),
        refused(Code::PermissionDenied, "NOT_AUTHOR")
    );
    assert_eq!(world.told(cy).await.len(), 2);
}

#[tokio::test]
async fn a_mention_that_is_gone_counts_as_read() {
    let world = World::sweeping(ending::ALWAYS).await;
    let [ann, bob] = ["ann", "bob"].map(|name| world.others.register_as(name));
    let group = world.group(&[ann, bob]);
    world.others.set_role(group, ann, MemberRole::Owner);
    let unread = async || world.list_alerts(bob, pb::ListAlertsRequest::default()).await.unread_count;
    let settled = async |times: usize| {
        while unread().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let told = world.told(bob).await;
        assert!(
            told.len() == 2 * times && told.last().is_some_and(|alert| alert.read_time.is_some()),
            "{told:?}"
        );
    };

    let edited = world.says(ann, group, "@bob").await;
    assert_eq!(unread().await, 1);
    world.edits_text(ann, &edited, "no one").await.unwrap();
    settled(1).await;
    let unsent = world.says(ann, group, "@bob").await;
    world.unsend(ann, &unsent).await.unwrap();
    settled(2).await;
    let request = pb::SendMessageRequest {
        expire_after: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..keyed(group, "@bob", "brief")
    };
    world.send(ann, request).await.unwrap();
    assert_eq!(unread().await, 1);
    world.clock.advance(Duration::from_secs(1));
    settled(3).await;
    world.says(ann, group, "@bob").await;
    world.purge(ann, group).await.unwrap();
    settled(4).await;
    // A mention that was read stays as it was.
    let read = world.says(ann, group, "@bob").await;
    world.mark(bob, pb::MarkAlertsRequest { all: true, ..Default::default() }).await.unwrap();
    let told = world.told(bob).await.len();
    world.unsend(ann, &read).await.unwrap();
    assert_eq!(world.told(bob).await.len(), told);
}

#[tokio::test]
async fn nothing_is_sent_while_it_is_not_known_who_is_called() {
    let world = World::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| world.others.register_as(name));
    let group = world.group(&[ann, bob]);
    let message = world.says(ann, group, "hello").await;
    world.others.set_auth_down(true);
    let send = world.send(ann, keyed(group, "@bob", "k")).await;
    assert_eq!(send.unwrap_err().code(), Code::Unavailable);
    assert_eq!(world.edits_text(ann, &message, "@bob").await.unwrap_err().code(), Code::Unavailable);
    world.says(ann, group, "nobody is called").await;
    world.others.set_auth_down(false);
    assert!(world.alerts_of(bob).await.is_empty());
    let sent = world.send(ann, keyed(group, "@bob", "k")).await.unwrap();
    assert!(!sent.repeated);
    assert!(world.send(ann, keyed(group, "@bob", "k")).await.unwrap().repeated);
    assert_eq!((world.alerts_of(bob).await.len(), world.told(bob).await.len()), (1, 1));
}

#[tokio::test]
async fn an_alert_shows_its_message_as_it_stands_and_only_to_a_reader() {
    let world = World::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| world.others.register_as(name));
    let group = world.group(&[ann, bob]);
    let message = world.says(ann, group, "@bob one").await;
    world.edits_text(ann, &message, "@bob two").await.unwrap();
    assert_eq!(text_of(world.alerts_of(bob).await[0].message.as_ref().unwrap()), "@bob two");
    world.others.remove(group, bob);
    let alert = world.alerts_of(bob).await.remove(0);
    assert_eq!((alert.message_id, alert.message), (message.message_id.clone(), None));
    world.others.add(group, bob);
    assert!(world.alerts_of(bob).await[0].message.is_some());
    let delete = pb::DeleteMessageRequest {
        conversation_id: group.to_string(),
        message_id: message.message_id.clone(),
    };
    world.messaging().delete_message(ann.says(delete)).await.unwrap();
    let shown = world.alerts_of(bob).await.remove(0).message.unwrap();
    assert!(shown.content.is_none() && shown.mentioned_user_ids.is_empty());

    let short = pb::SendMessageRequest {
        expire_after: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..to(group, "@bob short")
    };
    world.send(ann, short).await.unwrap();
    assert_eq!(text_of(world.alerts_of(bob).await[0].message.as_ref().unwrap()), "@bob short");
    world.clock.advance(Duration::from_secs(5));
    assert!(world.alerts_of(bob).await[0].message.as_ref().unwrap().content.is_none());

    world.others.delete(group);
    eventually(async || world.alerts_of(bob).await.is_empty()).await;
}

#[tokio::test]
async fn one_who_may_only_read_is_called_all_the_same() {
    let world = World::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| world.others.register_as(name));
    let group = world.group(&[ann, bob]);
    world.others.set_role(group, bob, MemberRole::Muted);
    world.says(ann, group, "@bob").await;
    assert_eq!(world.alerts_of(bob).await.len(), 1);
}

#[tokio::test]
async fn alerts_are_marked_and_the_other_devices_hear_of_it() {
    let world = World::start().await;
    let [ann, bob, cy] = ["ann", "bob", "cyd"].map(|name| world.others.register_as(name));
    let group = world.group(&[ann, bob, cy]);
    for _ in 0..5 {
        world.says(ann, group, "@bob @cyd").await;
        world.clock.advance(Duration::from_secs(1));
    }
    let (mine, theirs) = (ids(&world.alerts_of(bob).await), ids(&world.alerts_of(cy).await));
    let these = |alert_ids: &[String], unread| pb::MarkAlertsRequest {
        alert_ids: alert_ids.to_vec(),
        unread,
        ..Default::default()
    };
    assert_eq!(world.mark(bob, these(&mine[..2], false)).await.unwrap(), 3);
    let told = world.told(bob).await;
    assert_eq!(told.len(), 7);
    assert!(told[5..].iter().all(|alert| alert.read_time.is_some() && mine[..2].contains(&alert.alert_id)));
    assert_eq!(world.mark(bob, these(&mine[..1], true)).await.unwrap(), 4);
    let only_unread = pb::ListAlertsRequest { only_unread: true, ..Default::default() };
    let unread = world.list_alerts(bob, only_unread).await;
    assert_eq!(unread.unread_count, 4);
    assert_eq!(ids(&unread.alerts), [&mine[..1], &mine[2..]].concat());

    let not_found = refused(Code::NotFound, "ALERT_NOT_FOUND");
    for other in [theirs[0].clone(), AlertId::generate().to_string()] {
        let mixed = [mine[2].clone(), other];
        assert_eq!(refusal(world.mark(bob, these(&mixed, false)).await), not_found);
    }
    let all = |unread| pb::MarkAlertsRequest { all: true, unread, ..Default::default() };
    assert_eq!(world.mark(bob, all(false)).await.unwrap(), 0);
    assert_eq!(world.mark(bob, all(true)).await.unwrap(), 5);
    assert_eq!(world.told(bob).await.len(), 5 + 2 + 1 + 4 + 5);
    assert_eq!(world.list_alerts(cy, pb::ListAlertsRequest::default()).await.unread_count, 5);
    for bad in [
        pb::MarkAlertsRequest { all: true, ..these(&mine, false) },
        these(&[], false),
        these(&["x".to_owned()], false),
    ] {
        assert_eq!(world.mark(bob, bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn alerts_come_in_pages() {
    let world = World::start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| world.others.register_as(name));
    let group = world.group(&[ann, bob]);
    for n in 0..7 {
        world.says(ann, group, &format!("@bob {n}")).await;
    }
    let mut request = pb::ListAlertsRequest { page_size: 3, ..Default::default() };
    let mut listed = Vec::new();
    loop {
        let page = world.list_alerts(bob, request.clone()).await;
        assert_eq!(page.unread_count, 7);
        listed.extend(page.alerts.iter().map(|alert| text_of(alert.message.as_ref().unwrap()).to_owned()));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, (0..7).rev().map(|n| format!("@bob {n}")).collect::<Vec<_>>());
    let page = world.list_alerts(bob, pb::ListAlertsRequest { page_size: 3, ..Default::default() }).await;
    let page_token = page.next_page_token;
    let other = pb::ListAlertsRequest { only_unread: true, page_token, page_size: 3, ..Default::default() };
    let refused = world.alerts.clone().list_alerts(bob.says(other)).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}
