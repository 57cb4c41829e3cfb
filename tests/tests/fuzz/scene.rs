//! The people and things that requests name.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::person::text;
use tests::{Person, World};

/// The people and things that requests name.
pub struct Scene {
    /// The world that is asked.
    pub world: Arc<World>,
    /// The one who asks, when a request has a token.
    pub ann: Person,
    /// Ids of people, conversations and messages, own and foreign, and texts that look like ids.
    pub ids: Vec<String>,
}

impl Scene {
    /// Sets it up.
    pub async fn set(world: Arc<World>) -> Self {
        let [ann, bob, eve] = world.people(["ann", "bob", "eve"]).await;
        let direct = ann.starts_direct_with(&bob).await;
        let group = ann.starts_group_with(&[&bob]).await;
        let foreign = eve.starts_group_with(&[&bob]).await;
        let room = eve.opens_room("a room").await;
        let mut ids = vec![ann.id.clone(), bob.id.clone(), eve.id.clone()];
        for (person, conversation) in [(&ann, &direct), (&bob, &group), (&eve, &foreign), (&eve, &room)] {
            let message = person.says(conversation, "hello").await;
            ids.push(text(&message["messageId"]));
            let poll = json!({ "poll": { "question": "Tea?", "options": ["yes", "no"] } });
            ids.push(text(&person.sends(conversation, poll).await["messageId"]));
        }
        ids.extend([direct, group, foreign, room]);
        let made = ["1", "2", "00000000-0000-0000-0000-000000000000", "0190a5c4-7b1f-7d3e-9a6b-1c2d3e4f5a6b"];
        ids.extend(made.map(str::to_owned));
        Self { world, ann, ids }
    }

    /// One of the ids as JSON.
    pub fn id(&self, rng: &mut fastrand::Rng) -> Value {
        Value::String(self.ids[rng.usize(..self.ids.len())].clone())
    }
}
