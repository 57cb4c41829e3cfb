//! Tests of the presence reports to conversation.

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message as _;
use proto::conversation::v1::ReportPresenceRequest;
use proto::scheduling::v1::call_event::Event;
use proto::scheduling::v1::{CallDevice, CallEvent, DeviceMissed};

use super::world::{SOON, World};

/// The reports so far, once they are as they should be.
async fn reports(
    world: &World,
    are_right: impl Fn(&[ReportPresenceRequest]) -> bool,
) -> Vec<ReportPresenceRequest> {
    let waiting = async {
        loop {
            let reports = world.backend.facts().reports.clone();
            if are_right(&reports) {
                return reports;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect("reports")
}

fn came(reports: &[ReportPresenceRequest]) -> BTreeSet<String> {
    reports.iter().flat_map(|report| report.came_user_ids.clone()).collect()
}

#[tokio::test]
async fn who_is_here_is_told_once_and_leaves_with_the_gateway() {
    let world = World::start().await;
    let [ann, bob] = [world.person(), world.person()];
    let both = BTreeSet::from([ann.id.to_string(), bob.id.to_string()]);
    let mut clients = Vec::new();
    for person in [&ann, &bob, &ann] {
        clients.push(world.connect(person).await);
    }
    let told = reports(&world, |reports| came(reports) == both).await;
    assert!(told[0].first);
    assert!(told.iter().all(|report| report.gateway_id == told[0].gateway_id));
    let count: usize = told.iter().map(|report| report.came_user_ids.len()).sum();
    assert_eq!(count, 2, "somebody with two connections came once");

    drop(clients);
    let before = told.len();
    assert!(world.unit.tasks.stop(SOON).await);
    let told = world.backend.facts().reports.clone();
    let left: BTreeSet<_> = told[before..].iter().flat_map(|report| report.left_user_ids.clone()).collect();
    assert_eq!(left, both);
}

#[tokio::test]
async fn what_conversation_has_forgotten_is_told_anew() {
    let world = World::start().await;
    let [ann, bob] = [world.person(), world.person()];
    let _ann = world.connect(&ann).await;
    let first = reports(&world, |reports| !reports.is_empty()).await.remove(0);
    world.backend.facts().forget_who_is_here = true;
    let _bob = world.connect(&bob).await;
    let both = BTreeSet::from([ann.id.to_string(), bob.id.to_string()]);
    let is_whole = |report: &ReportPresenceRequest| came(std::slice::from_ref(report)) == both;
    let anew = reports(&world, |reports| reports.last().is_some_and(is_whole)).await.pop().expect("one");
    assert!(anew.first && anew.gateway_id != first.gateway_id);
    assert!(world.unit.tasks.stop(SOON).await);
}

#[tokio::test]
async fn who_listens_to_the_stream_of_events_is_here_too() {
    let world = World::start().await;
    let ann = world.person();
    let url = format!("http://{}/v1/events", world.address);
    let request = reqwest::Client::new().get(url).bearer_auth(&ann.token);
    let stream = request.send().await.expect("a stream");
    assert!(stream.status().is_success());
    reports(&world, |reports| came(reports).contains(&ann.id.to_string())).await;
    drop(stream);
    assert!(world.unit.tasks.stop(SOON).await);
}

/// The reports of a device, in order: true when it is connected.
fn of_device(world: &World, session: &str) -> Vec<bool> {
    let is_it = |device: &CallDevice| device.session_id == session;
    let reports = world.backend.facts().devices.clone();
    let news = reports.iter().flat_map(|report| {
        let came = report.came.iter().filter(|device| is_it(device)).map(|_| true);
        came.chain(report.left.iter().filter(|device| is_it(device)).map(|_| false)).collect::<Vec<_>>()
    });
    news.collect()
}

async fn told_of(world: &World, session: &str, expected: &[bool]) {
    let waiting = async {
        while of_device(world, session) != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect("a report of the device");
}

#[tokio::test]
async fn scheduling_is_told_of_the_first_connection_of_a_device_and_of_the_end_of_the_last() {
    let world = World::start().await;
    let ann = world.person();
    let session = world.backend.facts().sessions[&ann.token].1.to_string();
    let (one, other) = (world.connect(&ann).await, world.connect(&ann).await);
    told_of(&world, &session, &[true]).await;
    // Another gateway says that it has left: this one has it.
    let missed = Event::DeviceMissed(DeviceMissed { session_id: session.clone() });
    let event = CallEvent { event: Some(missed) }.encode_to_vec();
    world.backend.events.publish(&proto::subject::calls(ann.id), event.into());
    told_of(&world, &session, &[true, true]).await;
    drop((one, other));
    told_of(&world, &session, &[true, true, false]).await;
}
