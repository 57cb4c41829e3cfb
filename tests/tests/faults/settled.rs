//! The final logs, read through every door, and the figures of a run.

use std::io::Write;
use std::net::SocketAddr;

use proto::messaging::v1::sync_service_client::SyncServiceClient;
use proto::messaging::v1::{Event, ListEventsRequest, event};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tests::Person;
use tests::figure::{Figures, Target};
use tests::history::{CHECKS, Entry, Logs, Step, quantile};
use tests::person::{array, number, text};
use tonic::Request;

use crate::load::Outcome;

/// The conversation, the sequence and what it says, of an event in JSON.
pub fn of_json(event: &Value) -> (String, i64, Entry) {
    let entry = match event.get("messageCreated") {
        Some(message) => Entry::Message {
            key: message["clientMessageId"].as_str().unwrap_or_default().to_owned(),
            message_id: text(&message["messageId"]),
            has_content: message["content"].get("text").is_some(),
        },
        None => Entry::Other,
    };
    (text(&event["conversationId"]), number(&event["sequence"]), entry)
}

/// The same of an event in protobuf.
pub fn of_proto(event: Event) -> (String, i64, Entry) {
    let entry = match event.payload {
        Some(event::Payload::MessageCreated(message)) => Entry::Message {
            key: message.client_message_id,
            message_id: message.message_id,
            has_content: message.content.is_some(),
        },
        _ => Entry::Other,
    };
    (event.conversation_id, event.sequence, entry)
}

/// The logs as REST shows them.
pub async fn by_rest(reader: &Person, conversations: &[String]) -> Logs {
    let mut logs = Logs::new();
    for conversation in conversations {
        let log = logs.entry(conversation.clone()).or_default();
        loop {
            let after = log.last().map_or(0, |(sequence, _)| *sequence);
            let path = format!("/v1/conversations/{conversation}/events?afterSequence={after}&limit=100");
            let page = reader.get(&path).await.ok();
            let events = array(&page["events"]);
            if events.is_empty() {
                break;
            }
            log.extend(events.iter().map(of_json).map(|(_, sequence, entry)| (sequence, entry)));
        }
    }
    logs
}

/// The logs as gRPC shows them.
pub async fn by_grpc(messaging: SocketAddr, reader: &Person, conversations: &[String]) -> Logs {
    let mut client = SyncServiceClient::connect(format!("http://{messaging}")).await.expect("a channel");
    let mut logs = Logs::new();
    for conversation in conversations {
        let log = logs.entry(conversation.clone()).or_default();
        loop {
            let after_sequence = log.last().map_or(0, |(sequence, _)| *sequence);
            let message =
                ListEventsRequest { conversation_id: conversation.clone(), after_sequence, limit: 100 };
            let mut request = Request::new(message);
            let token = format!("Bearer {}", reader.token).parse().expect("a header");
            request.metadata_mut().insert("authorization", token);
            let page = client.list_events(request).await.expect("a page").into_inner();
            if page.events.is_empty() {
                break;
            }
            log.extend(page.events.into_iter().map(of_proto).map(|(_, sequence, entry)| (sequence, entry)));
        }
    }
    logs
}

/// The logs as they stand in the database.
pub async fn by_sql(database: &str, conversations: &[String]) -> Logs {
    let mut connection = PgConnection::connect(database).await.expect("a database");
    type Row = (String, i64, Option<String>, Option<String>, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT conversation_id::text, sequence, client_message_id, message_id::text, content IS NOT NULL \
         FROM parlor_messaging.messages \
         UNION ALL SELECT conversation_id::text, sequence, NULL, NULL, false FROM parlor_messaging.events \
         ORDER BY 1, 2",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the events");
    let mut logs: Logs = conversations.iter().map(|id| (id.clone(), Vec::new())).collect();
    for (conversation, sequence, key, message_id, has_content) in rows {
        let entry = match message_id {
            Some(message_id) => Entry::Message { key: key.unwrap_or_default(), message_id, has_content },
            None => Entry::Other,
        };
        if let Some(log) = logs.get_mut(&conversation) {
            log.push((sequence, entry));
        }
    }
    logs
}

/// Writes a history in which something is wrong to a file, one step per line, and says where.
pub fn keep_for_inspection(steps: &[Step], doors: &[(&str, Logs)]) {
    let path = std::env::temp_dir().join(format!("parlor-history-{}.jsonl", proto::id::EventId::generate()));
    let Ok(mut file) = std::fs::File::create(&path).map(std::io::BufWriter::new) else { return };
    for step in steps {
        let _ = serde_json::to_writer(&mut file, step).map(|()| file.write_all(b"\n"));
    }
    for (door, logs) in doors {
        let _ = serde_json::to_writer(&mut file, &serde_json::json!({ *door: logs }))
            .map(|()| file.write_all(b"\n"));
    }
    eprintln!("the history is in {}", path.display());
}

/// Prints what was found. The checks of the history have to find nothing; how fast it went is for information.
pub fn print(figures: &mut Figures, outcome: &Outcome) {
    let verdict = &outcome.verdict;
    for violation in verdict.violations.iter().take(20) {
        eprintln!("{violation}");
    }
    for complaint in outcome.complaints.iter().take(20) {
        eprintln!("{complaint}");
    }
    for check in CHECKS {
        figures.print(check, verdict.count(check) as f64, "violations", Target::Is(0.0));
    }
    figures.print("acked", verdict.acknowledged as f64, "messages", Target::AtLeast(1.0));
    figures.print("refused", verdict.refused as f64, "messages", Target::Is(0.0));
    figures.print("stuck_writers", outcome.stuck_writers as f64, "clients", Target::Is(0.0));
    figures.print("complaints", outcome.complaints.len() as f64, "answers", Target::Is(0.0));
    for (name, count) in outcome.steps {
        figures.print(name, count as f64, "steps", Target::Informs);
    }
    figures.print("unknown", verdict.unknown as f64, "tries", Target::Informs);
    figures.print("unknown_done", verdict.unknown_done as f64, "messages", Target::Informs);
    figures.print("unknown_not_done", verdict.unknown_not_done as f64, "messages", Target::Informs);
    for (code, count) in &outcome.closes {
        figures.print(&format!("closed_{code}"), *count as f64, "connections", Target::Informs);
    }
    for (when, spans) in [("", &verdict.visible), ("_in_faults", &verdict.visible_in_faults)] {
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let span = quantile(spans, share).as_secs_f64() * 1000.0;
            figures.print(&format!("visible{when}_{name}"), span, "ms", Target::Informs);
        }
    }
    for (name, lasted, span) in &verdict.recoveries {
        figures.print(&format!("down_{name}"), lasted.as_secs_f64(), "s", Target::Informs);
        figures.print(&format!("recovery_{name}"), span.as_secs_f64(), "s", Target::Informs);
    }
    figures.print("converged", outcome.converged.as_secs_f64(), "s", Target::Informs);
}
