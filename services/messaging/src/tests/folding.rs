//! Whatever people do: the state before and the events since lead to the state after.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config as Trial, TestCaseError, TestRunner};
use proto::conversation::v1::MemberRole;

use super::annotating::{EMOJIS, poll};
use super::fold::Fold;
use super::*;

const PEOPLE: usize = 4;
const MESSAGES: usize = 4;

/// Something that somebody tries to do to a message.
#[derive(Clone, Debug)]
struct Step {
    person: usize,
    message: usize,
    deed: Deed,
}

#[derive(Clone, Debug)]
enum Deed {
    React(&'static str),
    Unreact(&'static str),
    Pin,
    Unpin,
    Vote(Vec<i32>),
    Close,
    Edit(u8),
    Delete,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let deed = prop_oneof![
        8 => select(&EMOJIS[..]).prop_map(Deed::React),
        6 => select(&EMOJIS[..]).prop_map(Deed::Unreact),
        3 => Just(Deed::Pin),
        2 => Just(Deed::Unpin),
        8 => proptest::collection::btree_set(0..3_i32, 0..3).prop_map(|set| Deed::Vote(set.into_iter().collect())),
        1 => Just(Deed::Close),
        2 => any::<u8>().prop_map(Deed::Edit),
        1 => Just(Deed::Delete),
    ];
    let step =
        (0..PEOPLE, 0..MESSAGES, deed).prop_map(|(person, message, deed)| Step { person, message, deed });
    proptest::collection::vec(step, 1..40)
}

/// A conversation, its people, and the messages that they do something to.
struct Scene<'a> {
    world: &'a World,
    group: ConversationId,
    people: [UserId; PEOPLE],
    messages: Vec<String>,
}

impl<'a> Scene<'a> {
    async fn set(world: &'a World) -> Self {
        let people = world.people::<PEOPLE>();
        let group = world.group(&people);
        // The last one may only read.
        world.others.set_role(group, people[PEOPLE - 1], MemberRole::Muted);
        world.has_heard(people[0], 1).await;
        let contents = [
            to(group, "one"),
            to(group, "two"),
            pb::SendMessageRequest { content: Some(poll(false, false)), ..to(group, "") },
            pb::SendMessageRequest { content: Some(poll(true, true)), ..to(group, "") },
        ];
        let mut messages = Vec::new();
        for (sender, content) in people.into_iter().cycle().take(3).chain([people[0]]).zip(contents) {
            messages.push(world.send(sender, content).await.unwrap().message.unwrap().message_id);
        }
        Self { world, group, people, messages }
    }

    /// Tries; a refusal is an outcome like any other.
    async fn takes(&self, step: &Step) -> Result<(), Status> {
        let by = self.people[step.person];
        let (conversation_id, message_id) = (self.group.to_string(), self.messages[step.message].clone());
        let (mut annotations, mut messaging) = (self.world.annotations(), self.world.messaging());
        match &step.deed {
            Deed::React(emoji) => {
                let emoji = (*emoji).to_owned();
                let request = pb::AddReactionRequest { conversation_id, message_id, emoji };
                annotations.add_reaction(by.says(request)).await.map(drop)
            }
            Deed::Unreact(emoji) => {
                let emoji = (*emoji).to_owned();
                let request = pb::RemoveReactionRequest { conversation_id, message_id, emoji };
                annotations.remove_reaction(by.says(request)).await.map(drop)
            }
            Deed::Pin => {
                let request = pb::PinMessageRequest { conversation_id, message_id };
                annotations.pin_message(by.says(request)).await.map(drop)
            }
            Deed::Unpin => {
                let request = pb::UnpinMessageRequest { conversation_id, message_id };
                annotations.unpin_message(by.says(request)).await.map(drop)
            }
            Deed::Vote(places) => {
                let option_indexes = places.clone();
                let request = pb::VotePollRequest { conversation_id, message_id, option_indexes };
                annotations.vote_poll(by.says(request)).await.map(drop)
            }
            Deed::Close => {
                let request = pb::ClosePollRequest { conversation_id, message_id };
                annotations.close_poll(by.says(request)).await.map(drop)
            }
            // Only texts are edited here.
            Deed::Edit(_) if step.message > 1 => Ok(()),
            Deed::Edit(says) => {
                let content = content(&says.to_string());
                let request =
                    pb::EditMessageRequest { conversation_id, message_id, content, ..Default::default() };
                messaging.edit_message(by.says(request)).await.map(drop)
            }
            Deed::Delete => {
                let request = pb::DeleteMessageRequest { conversation_id, message_id };
                messaging.delete_message(by.says(request)).await.map(drop)
            }
        }
    }

    async fn shows(&self, to: UserId, message: &str) -> pb::Message {
        let request =
            pb::GetMessageRequest { conversation_id: self.group.to_string(), message_id: message.to_owned() };
        self.world.messaging().get_message(to.says(request)).await.unwrap().into_inner().message.unwrap()
    }

    /// Takes in all events that came since.
    async fn catch_up(&self, fold: &mut Fold) {
        loop {
            let answer = self.world.events(self.people[1], self.group, fold.head()).await;
            answer.events.iter().for_each(|event| fold.apply(event));
            if fold.head() >= answer.head_sequence {
                return;
            }
        }
    }

    async fn snapshot(&self) -> Fold {
        let request =
            pb::ListMessagesRequest { conversation_id: self.group.to_string(), ..Default::default() };
        let answer = self.world.list(self.people[1], request).await.unwrap();
        Fold::from(answer.head_sequence, answer.messages)
    }
}

async fn plays_out(world: &World, steps: &[Step]) {
    let scene = Scene::set(world).await;
    let mut live = Fold::default();
    let mut since_the_middle = Fold::default();
    scene.catch_up(&mut live).await;
    for (turn, step) in steps.iter().enumerate() {
        if turn == steps.len() / 2 {
            since_the_middle = scene.snapshot().await;
        }
        world.clock.advance(Duration::from_millis(1));
        let before = live.head();
        let outcome = scene.takes(step).await;
        scene.catch_up(&mut live).await;
        assert!(live.head() - before <= 1, "one deed is at most one event");
        if let Err(refusal) = &outcome {
            assert_eq!(live.head(), before, "{refusal:?}: what is refused leaves nothing");
            assert!(
                !matches!(refusal.code(), Code::Internal | Code::Unknown | Code::Unavailable),
                "{refusal:?}"
            );
        }
        let by = scene.people[step.person];
        let now = scene.shows(by, &scene.messages[step.message]).await;
        live.expect(&now);
        live.expect_viewer(by, &now);
        // The same once more: a retry changes nothing, whatever became of the first.
        let again = scene.takes(step).await;
        assert_eq!(outcome.map_err(|refusal| refusal.code()), again.map_err(|refusal| refusal.code()));
        assert_eq!(scene.shows(by, &scene.messages[step.message]).await, now);
    }
    let mut from_the_beginning = Fold::default();
    for fold in [&mut live, &mut since_the_middle, &mut from_the_beginning] {
        scene.catch_up(fold).await;
    }
    for message in &scene.messages {
        for person in scene.people {
            let now = scene.shows(person, message).await;
            live.expect(&now);
            since_the_middle.expect(&now);
            from_the_beginning.expect(&now);
            live.expect_viewer(person, &now);
            from_the_beginning.expect_viewer(person, &now);
        }
    }
}

#[test]
fn the_log_leads_to_what_is_shown() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(World::start());
    let mut runner = TestRunner::new(Trial {
        cases: 12,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Trial::default()
    });
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(plays_out(&world, &steps));
        Ok::<_, TestCaseError>(())
    });
    runtime.block_on(world.unit.stop(PATIENCE));
    outcome.unwrap();
}
