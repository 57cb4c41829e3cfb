//! What a client shows of a conversation when it knows nothing but the events of the log: the messages by their sequence,
//! changed by one event after the other, each once and in order.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::person::{array, number};

/// The messages of one conversation, as a client has them after the events that it has applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Screen {
    messages: BTreeMap<i64, Value>,
    applied: i64,
}

impl Screen {
    /// What a list of messages shows: for comparison with what the events lead to. Takes all pages' messages.
    pub fn of_messages<'a>(messages: impl IntoIterator<Item = &'a Value>) -> BTreeMap<i64, Value> {
        messages.into_iter().map(|message| (number(&message["sequence"]), plain(message))).collect()
    }

    /// The messages.
    pub const fn messages(&self) -> &BTreeMap<i64, Value> {
        &self.messages
    }

    /// The last sequence that it has applied.
    pub const fn applied(&self) -> i64 {
        self.applied
    }

    /// Applies the next event.
    ///
    /// # Panics
    /// When it does not follow the one before, or is about a message that is not there.
    pub fn apply(&mut self, event: &Value) {
        assert_eq!(number(&event["sequence"]), self.applied + 1, "an event out of order: {event}");
        self.applied += 1;
        let about = |name: &str| event.get(name).filter(|payload| payload.is_object());
        if let Some(message) = about("messageCreated").or_else(|| about("messageEdited")) {
            // What others did to it stands in events of their own; a message shown anew brings where it stands now.
            self.messages.insert(number(&message["sequence"]), plain(message));
        } else if let Some(gone) = about("messageDeleted") {
            let time = event["occurTime"].clone();
            let actor = event["actorUserId"].clone();
            self.remove(number(&gone["messageSequence"]), &gone["reason"], &time, &actor);
        } else if let Some(purged) = about("messagesPurged") {
            let up_to = number(&purged["upToSequence"]);
            let there: Vec<i64> = self.messages.range(..=up_to).map(|(sequence, _)| *sequence).collect();
            for sequence in there {
                let (time, actor) = (event["occurTime"].clone(), event["actorUserId"].clone());
                self.remove(sequence, &json!("DELETION_REASON_PURGED"), &time, &actor);
            }
        } else if let Some(change) = about("reactionChanged") {
            self.react(change);
        } else if let Some(change) = about("messagePinned") {
            self.message(change).insert("pin".to_owned(), change["pin"].clone());
        } else if let Some(change) = about("messageUnpinned") {
            self.message(change).remove("pin");
        } else if let Some(change) = about("pollVoted").or_else(|| about("pollClosed")) {
            self.message(change).insert("pollResult".to_owned(), change["result"].clone());
        } else if let Some(change) = about("linkPreviewed") {
            self.message(change).insert("linkPreview".to_owned(), change["preview"].clone());
        }
    }

    fn message(&mut self, change: &Value) -> &mut Map<String, Value> {
        let message = self.messages.get_mut(&number(&change["messageSequence"]));
        message.and_then(Value::as_object_mut).unwrap_or_else(|| panic!("about no message: {change}"))
    }

    fn react(&mut self, change: &Value) {
        let (emoji, count) = (change["emoji"].clone(), number(&change["count"]));
        let message = self.message(change);
        let mut list = array(&message["reactions"]).to_vec();
        // The first of its kind comes last, also where a message shown anew had it somewhere already.
        let is_first = change["added"] == json!(true) && count == 1;
        match list.iter().position(|one| one["emoji"] == emoji) {
            Some(place) if count > 0 && !is_first => list[place]["count"] = json!(count),
            place => {
                place.map(|place| list.remove(place));
                if count > 0 {
                    list.push(json!({ "emoji": emoji, "count": count }));
                }
            }
        }
        message.insert("reactions".to_owned(), Value::Array(list));
    }

    /// Leaves a tombstone; one that is there stays as it is.
    fn remove(&mut self, sequence: i64, reason: &Value, time: &Value, actor: &Value) {
        let Some(message) = self.messages.get_mut(&sequence).and_then(Value::as_object_mut) else { return };
        if message.get("deleteTime").is_some() {
            return;
        }
        for name in ["content", "pin", "pollResult", "linkPreview", "forwardedFrom"] {
            message.remove(name);
        }
        for name in ["reactions", "mentionedUserIds"] {
            message.insert(name.to_owned(), json!([]));
        }
        message.insert("deleteTime".to_owned(), time.clone());
        message.insert("deletedByUserId".to_owned(), actor.clone());
        message.insert("deleteReason".to_owned(), reason.clone());
    }
}

/// A message without what only its reader sees of it.
fn plain(message: &Value) -> Value {
    let mut message = message.clone();
    if let Some(fields) = message.as_object_mut() {
        fields.remove("viewer");
    }
    message
}
