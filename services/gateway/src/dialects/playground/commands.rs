//! Commands: texts that begin with `!`. They are executed and not sent.

use std::time::Duration;

use chassis::fault::Fault;
use proto::auth::v1::{BatchGetUsersRequest, User};
use proto::conversation::v1::ListBansRequest;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::PurgeMessagesRequest;
use serde_json::json;

use super::session::Session;
use super::{accounts, ban_duration, moderation, rooms};
use crate::dialects::backend::Actor;
use crate::dialects::request::token;
use crate::dialects::{Dialects, members};
use crate::http::error::Problem;

/// The duration of a ban if the command does not give one.
const DEFAULT_BAN: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest slow mode that the command sets, in seconds.
const MIN_SLOW_MODE: i64 = 3;

/// The maximum number of users among whom a part of a name is searched.
const MAX_SEARCHED: usize = 1_000;

/// The shortest part of a name, in characters.
const MIN_NAME_PART: usize = 3;

/// The number of users in one page, and in one request for their names.
const PAGE: usize = 100;

/// Executes a command, given without the `!`.
pub(super) async fn run(session: &mut Session, command: &str) -> Result<(), Problem> {
    let (name, rest) = word(command);
    match name.to_lowercase().as_str() {
        "echo" => session.client.emit("system", &json!({"type": "info", "text": rest})),
        "login" => drop(session.log_in(token(rest)).await?),
        "logout" => drop(session.log_out()),
        "name" => rename(session, rest).await?,
        "join" => drop(session.join(rest).await?),
        "leave" | "quit" => {
            let room = session.current_room()?;
            session.leave(room).await?;
            success(session, "you have left the room");
        }
        "room" => change_room(session, rest).await?,
        "ban" => ban(session, rest).await?,
        "unban" => unban(session, rest).await?,
        "purge" => {
            let (actor, room) = (session.actor()?, session.current_room()?);
            let purge = PurgeMessagesRequest { conversation_id: room.to_string() };
            session.dialects.backend.call(&actor, purge).await?;
            success(session, "all messages of the room are deleted");
        }
        _ => {
            let name: String = name.chars().take(64).collect();
            return Err(Fault::invalid("text", format!("is an unknown command: !{name}")).into());
        }
    }
    Ok(())
}

fn success(session: &Session, text: impl Into<String>) {
    session.client.emit("system", &json!({"type": "success", "text": text.into()}));
}

async fn rename(session: &mut Session, name: &str) -> Result<(), Problem> {
    let actor = session.actor()?;
    if name.is_empty() {
        return Err(Fault::invalid("name", "is required: !name <new name>").into());
    }
    // The user's log informs all of the user's connections, this one included.
    accounts::set_name(&session.dialects, &actor, name.to_owned()).await
}

async fn change_room(session: &mut Session, rest: &str) -> Result<(), Problem> {
    let (actor, room) = (session.actor()?, session.current_room()?);
    let (what, value) = word(rest);
    let changes = match what.to_lowercase().as_str() {
        "name" | "title" => rooms::Changes { name: Some(value.to_owned()), ..rooms::Changes::default() },
        "slow" => {
            let seconds = value.parse().ok().filter(|seconds: &i64| *seconds >= MIN_SLOW_MODE);
            let rule = format!("must be a number of seconds, at least {MIN_SLOW_MODE}");
            let seconds = seconds.ok_or_else(|| Fault::invalid("slow", rule))?;
            rooms::Changes { slow_mode: Some(seconds), ..rooms::Changes::default() }
        }
        _ => return Err(Fault::invalid("text", "must be !room name, !room title or !room slow").into()),
    };
    rooms::update(&session.dialects, &actor, room, changes).await?;
    success(session, "the room is changed");
    Ok(())
}

async fn ban(session: &mut Session, rest: &str) -> Result<(), Problem> {
    let (actor, room) = (session.actor()?, session.current_room()?);
    let Ban { name, duration, reason } = Ban::read(rest)?;
    let members = member_ids(&session.dialects, &actor, room).await?;
    let user = find(&session.dialects, &actor, members, name).await?;
    let id = UserId::parse(&user.user_id).map_err(|_| Fault::internal())?;
    moderation::keep_out(&session.dialects, &actor, room, id, duration, reason.to_owned()).await?;
    success(session, format!("{} is banned for {}", user.display_name, ban_duration::words(duration)));
    Ok(())
}

async fn unban(session: &mut Session, rest: &str) -> Result<(), Problem> {
    let (actor, room) = (session.actor()?, session.current_room()?);
    let (name, _) = quoted(rest);
    let banned = banned(&session.dialects, &actor, room).await?;
    let user = find(&session.dialects, &actor, banned, name).await?;
    let id = UserId::parse(&user.user_id).map_err(|_| Fault::internal())?;
    moderation::lift(&session.dialects, &actor, room, id).await?;
    success(session, format!("the ban of {} is lifted", user.display_name));
    Ok(())
}

async fn member_ids(
    dialects: &Dialects,
    actor: &Actor,
    room: ConversationId,
) -> Result<Vec<String>, Problem> {
    let found = members::first(&dialects.backend, actor, &room.to_string(), MAX_SEARCHED).await?;
    Ok(found.into_iter().map(|member| member.user_id).collect())
}

async fn banned(dialects: &Dialects, actor: &Actor, room: ConversationId) -> Result<Vec<String>, Problem> {
    let mut found = Vec::new();
    let mut list = ListBansRequest {
        conversation_id: room.to_string(),
        page_size: PAGE as i32,
        ..ListBansRequest::default()
    };
    loop {
        let page = dialects.backend.call(actor, list.clone()).await?;
        found.extend(page.bans.into_iter().map(|ban| ban.user_id));
        if page.next_page_token.is_empty() || found.len() >= MAX_SEARCHED {
            return Ok(found);
        }
        list.page_token = page.next_page_token;
    }
}

/// Returns the one user among these whose name has this part.
async fn find(dialects: &Dialects, actor: &Actor, ids: Vec<String>, part: &str) -> Result<User, Problem> {
    if part.chars().count() < MIN_NAME_PART {
        return Err(Fault::invalid("name", format!("must have at least {MIN_NAME_PART} characters")).into());
    }
    let mut matching = Vec::new();
    for ids in ids.chunks(PAGE) {
        let get = BatchGetUsersRequest { user_ids: ids.to_vec(), ..BatchGetUsersRequest::default() };
        let users = dialects.backend.call(actor, get).await?.users;
        matching.extend(users.into_iter().filter(|user| has_name_part(user, part)));
    }
    Ok(the_one(matching, part)?)
}

fn has_name_part(user: &User, part: &str) -> bool {
    let part = part.to_lowercase();
    [&user.display_name, &user.username].iter().any(|name| name.to_lowercase().contains(&part))
}

/// Returns the only match. A user whose whole name matches comes before users whose name contains the part.
fn the_one(mut matching: Vec<User>, part: &str) -> Result<User, Fault> {
    let part = part.to_lowercase();
    let is_whole =
        |user: &User| [&user.display_name, &user.username].iter().any(|name| name.to_lowercase() == part);
    if matching.len() > 1 {
        matching.sort_by_key(|user| !is_whole(user));
        if is_whole(&matching[1]) || !is_whole(&matching[0]) {
            return Err(Fault::invalid("name", "belongs to several users: write more of it"));
        }
    }
    matching.into_iter().next().ok_or_else(|| Fault::invalid("name", "belongs to no user here"))
}

/// The parts of `!ban`.
#[derive(Debug, PartialEq)]
struct Ban<'a> {
    name: &'a str,
    duration: Duration,
    reason: &'a str,
}

impl<'a> Ban<'a> {
    fn read(text: &'a str) -> Result<Self, Fault> {
        let (name, rest) = quoted(text);
        let (first, after) = word(rest);
        // A word that begins with a digit is a duration, any other one begins the reason.
        if !first.starts_with(|letter: char| letter.is_ascii_digit()) {
            return Ok(Self { name, duration: DEFAULT_BAN, reason: rest });
        }
        let duration = ban_duration::parse(first);
        let duration = duration.ok_or_else(|| Fault::invalid("duration", "must be such as 1d12h or 30m"))?;
        Ok(Self { name, duration, reason: after })
    }
}

/// Returns the first word, and the rest.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// Returns the first word, or a text in quotation marks, and the rest.
fn quoted(text: &str) -> (&str, &str) {
    let text = text.trim();
    match text.strip_prefix('"').and_then(|text| text.split_once('"')) {
        Some((inner, rest)) => (inner.trim(), rest.trim_start()),
        None => word(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(display_name: &str, username: &str) -> User {
        User { display_name: display_name.to_owned(), username: username.to_owned(), ..User::default() }
    }

    #[test]
    fn a_ban_has_a_name_a_duration_and_a_reason() {
        let read = |text| Ban::read(text).expect("a ban");
        let day = DEFAULT_BAN;
        assert_eq!(
            read(r#""Ann Lee" 2h too loud"#),
            Ban { name: "Ann Lee", duration: Duration::from_secs(7200), reason: "too loud" }
        );
        assert_eq!(read("ann"), Ban { name: "ann", duration: day, reason: "" });
        assert_eq!(read("ann too loud"), Ban { name: "ann", duration: day, reason: "too loud" });
        assert_eq!(read(r#""ann"#).name, "\"ann");
        assert!(Ban::read("ann 0s").is_err() && Ban::read("ann 5 times").is_err());
    }

    #[test]
    fn a_part_of_a_name_must_be_one_users() {
        let [ann, anna, bob] = [user("Ann", "ann1"), user("Anna", "anna"), user("Bob", "robert")];
        let named = |part: &str| {
            let all = [&ann, &anna, &bob].into_iter().filter(|user| has_name_part(user, part)).cloned();
            the_one(all.collect(), part).map(|user| user.display_name)
        };
        assert_eq!(named("ann").as_deref(), Ok("Ann"), "a whole name");
        assert_eq!(named("ROB").as_deref(), Ok("Bob"), "a part of a username");
        assert_eq!(named("nna").as_deref(), Ok("Anna"));
        assert!(named("an").is_err() && named("zoe").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_ban_or_is_refused(text in "\\PC{0,40}") {
            let _ = Ban::read(&text);
        }
    }
}
