//! Bans that end.

use super::*;

impl World {
    async fn ban_for(
        &self,
        by: UserId,
        id: &str,
        user: UserId,
        duration: prost_types::Duration,
    ) -> Result<pb::Ban, Status> {
        let request = pb::BanMemberRequest {
            conversation_id: id.to_owned(),
            user_id: user.to_string(),
            reason: "cool down".to_owned(),
            duration: Some(duration),
        };
        self.client().ban_member(by.says(request)).await.map(|answer| answer.into_inner().ban.unwrap())
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

#[tokio::test]
async fn who_is_banned_for_a_while_learns_until_when_and_comes_back_then() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let room = world.create(ann, pb::ConversationKind::Room, &[]).await.conversation_id;
    world.join(bob, &room).await.unwrap();
    let ban = world.ban_for(ann, &room, bob, seconds(60)).await.unwrap();
    let end = world.clock.now().plus(Duration::from_secs(60));
    assert_eq!((ban.expire_time, ban.reason.as_str()), (Some(end.to_proto()), "cool down"));

    world.clock.advance(Duration::from_millis(59_999));
    let fault = Fault::of(&world.join(bob, &room).await.unwrap_err());
    assert_eq!(fault.reason(), "ERROR_REASON_BANNED");
    assert_eq!(fault.metadata().get("expire_time"), Some(&end.to_string()));
    world.clock.advance(Duration::from_millis(1));
    assert!(world.join(bob, &room).await.unwrap().own_role() == pb::MemberRole::Member);

    // For good is what is said last.
    world.ban_for(ann, &room, bob, seconds(60)).await.unwrap();
    assert_eq!(world.ban(ann, &room, bob).await.unwrap().expire_time, None);
    world.clock.advance(Duration::from_secs(3600));
    let fault = Fault::of(&world.join(bob, &room).await.unwrap_err());
    assert_eq!((fault.reason(), fault.metadata().get("expire_time")), ("ERROR_REASON_BANNED", None));
    world.stop().await;
}

#[tokio::test]
async fn a_ban_lasts_a_second_at_least_and_ten_years_at_most() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let room = world.create(ann, pb::ConversationKind::Room, &[]).await.conversation_id;
    for duration in [
        seconds(0),
        seconds(-1),
        prost_types::Duration { seconds: 0, nanos: 999_999_999 },
        seconds(315_360_001),
        seconds(i64::MAX),
    ] {
        let refused = world.ban_for(ann, &room, bob, duration).await;
        assert_eq!(refusal(refused), is(Code::InvalidArgument, "INVALID_FIELD"), "{duration:?}");
    }
    for duration in [seconds(1), seconds(315_360_000)] {
        world.ban_for(ann, &room, bob, duration).await.unwrap();
    }
    world.stop().await;
}
