//! Who is there.

use proto::conversation::v1::presence_service_client::PresenceServiceClient;
use proto::id::GatewayId;

use super::*;

impl World {
    fn presence(&self) -> PresenceServiceClient<Transport> {
        PresenceServiceClient::new(self.transport.clone())
    }

    async fn sees(&self, by: UserId, users: &[UserId]) -> Vec<pb::Presence> {
        let request = pb::GetPresenceRequest { user_ids: users.iter().map(ToString::to_string).collect() };
        self.presence().get_presence(by.says(request)).await.unwrap().into_inner().presences
    }

    async fn report(
        &self,
        gateway: GatewayId,
        first: bool,
        came: &[UserId],
        left: &[UserId],
    ) -> Result<bool, Status> {
        let texts = |users: &[UserId]| users.iter().map(ToString::to_string).collect();
        let request = pb::ReportPresenceRequest {
            gateway_id: gateway.to_string(),
            first,
            came_user_ids: texts(came),
            left_user_ids: texts(left),
        };
        let request = as_service(request, &credential("gateway"), None);
        Ok(self.presence().report_presence(request).await?.into_inner().restate)
    }
}

#[tokio::test]
async fn who_comes_is_seen_and_who_left_was() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let gateway = GatewayId::generate();
    assert!(!world.report(gateway, true, &[bob], &[]).await.unwrap());
    let seen = world.sees(ann, &[cem, bob, cem]).await;
    let briefly: Vec<_> = seen.iter().map(|seen| (seen.user_id.clone(), seen.online)).collect();
    assert_eq!(briefly, [(cem.to_string(), false), (bob.to_string(), true), (cem.to_string(), false)]);
    assert!(seen.iter().all(|seen| seen.last_seen_time.is_none()));

    world.clock.advance(Duration::from_secs(30));
    world.report(gateway, false, &[], &[bob]).await.unwrap();
    let left = world.clock.now();
    world.clock.advance(Duration::from_secs(30));
    let seen = world.sees(ann, &[bob]).await.remove(0);
    assert_eq!((seen.online, seen.last_seen_time), (false, Some(left.to_proto())));

    // What is hidden looks like one who was never there.
    let presence = pb::PresenceVisibility::Connections.into();
    world.set_privacy(bob, pb::Privacy { presence, ..Default::default() }, &["presence"]).await.unwrap();
    let nobody = |user: UserId| pb::Presence { user_id: user.to_string(), ..Default::default() };
    assert_eq!(world.sees(ann, &[bob]).await, [nobody(bob)]);
    world.connect(ann, bob).await;
    assert_eq!(world.sees(ann, &[bob]).await, [seen]);
    world.block_user(bob, ann).await.unwrap();
    assert_eq!(world.sees(ann, &[bob]).await, [nobody(bob)]);
    world.stop().await;
}

#[tokio::test]
async fn who_was_at_a_gateway_that_died_is_gone_with_it() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let gateway = GatewayId::generate();
    world.report(gateway, true, &[bob], &[]).await.unwrap();
    world.clock.advance(Duration::from_secs(59));
    assert!(!world.report(gateway, false, &[], &[]).await.unwrap());
    world.clock.advance(Duration::from_secs(59));
    assert!(world.sees(ann, &[bob]).await[0].online);
    let end = world.clock.now().plus(Duration::from_secs(1));
    world.clock.advance(Duration::from_secs(100));
    assert_eq!(world.sees(ann, &[bob]).await[0].last_seen_time, Some(end.to_proto()));
    assert!(world.report(gateway, false, &[], &[]).await.unwrap(), "it begins anew");
    assert!(!world.report(GatewayId::generate(), true, &[bob], &[]).await.unwrap());
    assert!(world.sees(ann, &[bob]).await[0].online);
    world.stop().await;
}

#[tokio::test]
async fn a_report_makes_sense_and_only_a_gateway_makes_it() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let refused = world.report(GatewayId::generate(), true, &[bob], &[bob]).await;
    assert_eq!(refusal(refused).0, Code::InvalidArgument);
    let crowd = vec![ann; 1001];
    assert_eq!(
        refusal(world.report(GatewayId::generate(), true, &crowd, &[]).await).0,
        Code::InvalidArgument
    );
    assert!(!world.report(GatewayId::generate(), true, &crowd[1..], &[]).await.unwrap(), "many times one");
    assert!(world.sees(bob, &[ann]).await[0].online);
    let request =
        pb::ReportPresenceRequest { gateway_id: GatewayId::generate().to_string(), ..Default::default() };
    let refused = world.presence().report_presence(ann.says(request.clone())).await;
    assert_eq!(refusal(refused).0, Code::PermissionDenied);
    let refused = world.presence().report_presence(messaging(request)).await;
    assert_eq!(refusal(refused).0, Code::PermissionDenied);
    let request = pb::GetPresenceRequest { user_ids: vec![bob.to_string(); 101] };
    assert_eq!(refusal(world.presence().get_presence(ann.says(request)).await).0, Code::InvalidArgument);
    world.stop().await;
}
