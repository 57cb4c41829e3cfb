//! `/user/{id}/schedule`, `/schedule/{id}` and `/schedules`: booked calls.

use chassis::fault::Fault;
use prost_types::FieldMask;
use proto::auth::v1::GetMeRequest;
use proto::messaging::v1::GetMessageRequest;
use proto::scheduling::v1::{
    ClearSchedulesRequest, DeleteScheduleRequest, GetScheduleRequest, ListSchedulesRequest, Recurrence,
    Schedule, ScheduleCallRequest, ScheduleChanges, ScheduleFilter, ScheduleMedia, ScheduleState,
    UpdateScheduleRequest,
};
use serde_json::{Value, json};

use super::{messages, users};
use crate::dialects::fields::Fields;
use crate::dialects::talkamie::envelope::{Page, Reply, not_found};
use crate::dialects::talkamie::session::Session;
use crate::dialects::talkamie::show::schedule;
use crate::dialects::{ids, time};
use crate::http::error::Problem;

/// Books a call with a user.
pub(in crate::dialects::talkamie) async fn book(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let user_id = ids::user("id", id)?.to_string();
    let form = Form::read(fields)?;
    let required = |name: &str| Fault::invalid(name, "is required");
    let booking = ScheduleCallRequest {
        user_id,
        title: form.title.ok_or_else(|| required("title"))?,
        media: form.media.ok_or_else(|| required("type"))?.into(),
        start_time: Some(form.start.ok_or_else(|| required("startDateTime"))?),
        end_time: Some(form.end.ok_or_else(|| required("endDateTime"))?),
        recurrence: form.recurrence.unwrap_or(Recurrence::None).into(),
        time_zone: zone(session).await?,
        ..ScheduleCallRequest::default()
    };
    let booked = session.call(booking).await?.schedule.unwrap_or_default();
    Ok(Reply::new(with_message(session, &booked).await?))
}

/// Returns the time zone of a client whose user has none; empty for the one of the profile.
async fn zone(session: &Session) -> Result<String, Problem> {
    let Some(zone) = &session.zone else { return Ok(String::new()) };
    let me = session.call(GetMeRequest {}).await?.user.unwrap_or_default();
    Ok(if me.time_zone.is_empty() { zone.clone() } else { String::new() })
}

/// Returns a booking with its chat and its message, which arrive later when messaging is slow.
async fn with_message(session: &Session, booked: &Schedule) -> Result<Value, Problem> {
    let mut data = json!({"schedule": shown(session, std::slice::from_ref(booked)).await?[0]});
    if !booked.message_id.is_empty() {
        let id = ids::conversation("chatId", &booked.conversation_id)?;
        let get = GetMessageRequest {
            conversation_id: booked.conversation_id.clone(),
            message_id: booked.message_id.clone(),
        };
        let message = session.call(get).await?.message.unwrap_or_default();
        let conversation = session.direct(id).await?;
        data["chat"] = json!({"id": booked.conversation_id});
        data["message"] = messages::shown(session, &conversation, &[message]).await?.remove(0);
    }
    Ok(data)
}

/// The fields of a booking.
#[derive(Debug, Default)]
struct Form {
    title: Option<String>,
    media: Option<ScheduleMedia>,
    recurrence: Option<Recurrence>,
    start: Option<prost_types::Timestamp>,
    end: Option<prost_types::Timestamp>,
}

impl Form {
    fn read(fields: &Fields) -> Result<Self, Fault> {
        let media = match fields.filled("type")?.as_deref() {
            None => None,
            Some("audio") => Some(ScheduleMedia::Audio),
            Some("video") => Some(ScheduleMedia::Video),
            Some(_) => return Err(Fault::invalid("type", "must be audio or video")),
        };
        let recurrence = match fields.text("recurrence")?.as_deref() {
            None => None,
            Some("" | "none") => Some(Recurrence::None),
            Some("daily") => Some(Recurrence::Daily),
            Some("weekly") => Some(Recurrence::Weekly),
            Some(_) => return Err(Fault::invalid("recurrence", "must be one of none, daily, weekly")),
        };
        Ok(Self {
            title: fields.filled("title")?,
            media,
            recurrence,
            start: time::field(fields, "startDateTime")?.map(time::proto),
            end: time::field(fields, "endDateTime")?.map(time::proto),
        })
    }

    /// Returns the changes in the form, and the names of the fields that they set.
    fn changes(self) -> (ScheduleChanges, Vec<String>) {
        let (mut changes, mut paths) = (ScheduleChanges::default(), Vec::new());
        let mut set = |name: &str| paths.push(name.to_owned());
        if let Some(title) = self.title {
            changes.title = title;
            set("title");
        }
        if let Some(media) = self.media {
            changes.set_media(media);
            set("media");
        }
        if let Some(recurrence) = self.recurrence {
            changes.set_recurrence(recurrence);
            set("recurrence");
        }
        if self.start.is_some() {
            changes.start_time = self.start;
            set("start_time");
        }
        if self.end.is_some() {
            changes.end_time = self.end;
            set("end_time");
        }
        (changes, paths)
    }
}

/// Returns one booking. A cancelled one does not exist.
pub(in crate::dialects::talkamie) async fn get(session: &Session, id: &str) -> Result<Reply, Problem> {
    let found = find(session, id).await?;
    Ok(Reply::new(shown(session, &[found]).await?.remove(0)))
}

async fn find(session: &Session, id: &str) -> Result<Schedule, Problem> {
    let found = session.call(GetScheduleRequest { schedule_id: schedule_id(id)? }).await?;
    let found = found.schedule.unwrap_or_default();
    match found.state() {
        ScheduleState::Cancelled => Err(not_found("there is no schedule with this id")),
        _ => Ok(found),
    }
}

fn schedule_id(text: &str) -> Result<String, Fault> {
    let id = ids::parse(text).ok_or_else(|| Fault::invalid("id", "must be the id of a schedule"))?;
    Ok(id.to_string())
}

/// Changes a booking that the user made.
pub(in crate::dialects::talkamie) async fn update(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let (changes, paths) = Form::read(fields)?.changes();
    let before = find(session, id).await?;
    let after = match paths.is_empty() {
        true => before,
        false => {
            let update = UpdateScheduleRequest {
                schedule_id: before.schedule_id,
                schedule: Some(changes),
                update_mask: Some(FieldMask { paths }),
            };
            session.call(update).await?.schedule.unwrap_or_default()
        }
    };
    Ok(Reply::new(with_message(session, &after).await?))
}

/// Cancels a booking for both users.
pub(in crate::dialects::talkamie) async fn delete(session: &Session, id: &str) -> Result<Reply, Problem> {
    let found = find(session, id).await?;
    session.call(DeleteScheduleRequest { schedule_id: found.schedule_id }).await?;
    Ok(Reply::done())
}

/// Cancels all bookings that the user made and that are not over.
pub(in crate::dialects::talkamie) async fn clear(session: &Session, id: &str) -> Result<Reply, Problem> {
    users::oneself(session, id)?;
    session.call(ClearSchedulesRequest {}).await?;
    Ok(Reply::done())
}

/// Lists bookings: all, past or future ones.
pub(in crate::dialects::talkamie) async fn list(
    session: &Session,
    fields: &Fields,
    filter: ScheduleFilter,
) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let list = ListSchedulesRequest {
        filter: filter.into(),
        keyword: fields.filled("keyword")?.unwrap_or_default(),
        page_size: page.size,
        page_token: page.token,
    };
    let answer = session.call(list).await?;
    Ok(Reply::page(json!(shown(session, &answer.schedules).await?), &answer.next_page_token))
}

/// Returns bookings with the other user of each.
pub(in crate::dialects::talkamie) async fn shown(
    session: &Session,
    booked: &[Schedule],
) -> Result<Vec<Value>, Problem> {
    let me = session.user_id().to_string();
    let people = session.users(booked.iter().map(|booked| schedule::other(booked, &me))).await?;
    let show = |booked: &Schedule| schedule::show(booked, &me, people.get(schedule::other(booked, &me)));
    Ok(booked.iter().map(show).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Form, Fault> {
        Form::read(&Fields::from_json(body.to_string().as_bytes()).expect("fields"))
    }

    #[test]
    fn a_form_sets_what_it_has() {
        let form = read(json!({"title": "Tea", "type": "video", "recurrence": "none", "endDateTime": ""}));
        let (changes, paths) = form.expect("a form").changes();
        assert_eq!(paths, ["title", "media", "recurrence"]);
        assert_eq!((changes.media(), changes.recurrence()), (ScheduleMedia::Video, Recurrence::None));
        let (changes, paths) =
            read(json!({"startDateTime": "2026-05-01T10:00:00Z"})).expect("a form").changes();
        assert_eq!(paths, ["start_time"]);
        assert_eq!(time::iso(changes.start_time), "2026-05-01T10:00:00.000Z");
    }

    #[test]
    fn a_malformed_form_is_refused_by_name() {
        for (body, field) in [
            (json!({"title": {}}), "title"),
            (json!({"type": "text"}), "type"),
            (json!({"recurrence": "monthly"}), "recurrence"),
            (json!({"startDateTime": "soon"}), "startDateTime"),
            (json!({"endDateTime": []}), "endDateTime"),
        ] {
            assert_eq!(read(body).expect_err("refused").fields()[0].0, field);
        }
    }
}
