//! The check that the databases of the services belong together.

use anyhow::{Context, bail};

use super::ServiceData;
use crate::database::Database;
use crate::database::facts::Cursor;
use crate::facts::event_id;

/// Checks every cursor against the facts of its producer.
///
/// # Errors
/// Names each cursor that does not belong to the facts.
pub(super) async fn check_agreement(databases: &[(&str, Database)]) -> anyhow::Result<()> {
    let mut contradictions = Vec::new();
    for (consumer, database) in databases {
        let cursors = database.feed_cursors().await.with_context(|| format!("the database of {consumer}"))?;
        for (producer, cursor) in cursors {
            let Some((_, facts)) = databases.iter().find(|(name, _)| *name == producer) else { continue };
            if let Some(why) = contradiction(&cursor, facts).await? {
                contradictions
                    .push(format!("{consumer} has read {producer} up to {}, and {why}", cursor.position));
            }
        }
    }
    if !contradictions.is_empty() {
        bail!("the databases do not belong together: {}", contradictions.join("; "));
    }
    Ok(())
}

async fn contradiction(cursor: &Cursor, producer: &Database) -> anyhow::Result<Option<String>> {
    let history = producer.history(cursor.position).await?;
    if cursor.position > history.head {
        return Ok(Some(format!("its facts end at {}", history.head)));
    }
    if !cursor.epoch.is_empty() && cursor.epoch != history.epoch {
        return Ok(Some("its facts are those of another database".to_owned()));
    }
    let mark = history.fact.map(|fact| event_id(&fact)).unwrap_or_default();
    let is_other = !cursor.mark.is_empty() && !mark.is_empty() && cursor.mark != mark;
    Ok(is_other.then(|| "another fact stands there".to_owned()))
}

/// Gives the facts of every service and the logs new epochs. The cursors follow, so that no service reads anew what it has
/// read.
pub(super) async fn draw_epochs(
    services: &[ServiceData],
    databases: &[(&str, Database)],
) -> anyhow::Result<()> {
    for (producer, facts) in databases {
        let epoch = facts.renew_history().await?;
        for (_, consumer) in databases {
            consumer.follow_history(producer, &epoch).await?;
        }
    }
    for (service, (_, database)) in services.iter().zip(databases) {
        database.run_all(service.new_epoch).await.with_context(|| format!("the logs of {}", service.name))?;
    }
    Ok(())
}
