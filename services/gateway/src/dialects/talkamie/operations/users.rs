//! `/user/{id}` and `/users`: profiles, the user's own account, and the search for users.

use chassis::fault::Fault;
use futures_util::future::try_join;
use futures_util::try_join;
use prost_types::FieldMask;
use proto::auth::v1::{
    BackgroundCheck, ChangePasswordRequest, DeleteUserRequest, GetBackgroundCheckRequest, GetMeRequest,
    GetUserRequest, ListUserReviewsRequest, ListUsersRequest, RequestBackgroundCheckRequest,
    UpdateUserRequest, User, UserKind,
};
use proto::conversation::v1::Contact;
use proto::id::EventId;
use serde_json::{Value, json};

use super::interests::Catalog;
use super::{alerts, availability, chats, connections, interests};
use crate::dialects::fields::Fields;
use crate::dialects::talkamie::envelope::{Page, Reply};
use crate::dialects::talkamie::session::Session;
use crate::dialects::talkamie::show;
use crate::dialects::talkamie::show::user::Totals;
use crate::dialects::talkamie::words::profile;
use crate::dialects::{ids, text};
use crate::http::error::Problem;

/// Returns the user's own object, or another user with the relationship of the two.
pub(in crate::dialects::talkamie) async fn get(session: &Session, id: &str) -> Result<Reply, Problem> {
    let user_id = ids::user("id", id)?;
    if user_id == session.user_id() {
        return Ok(Reply::new(own(session).await?));
    }
    let user_id = user_id.to_string();
    let user = session.call(GetUserRequest { user_id: user_id.clone() }).await?.user.unwrap_or_default();
    let reviews = ListUserReviewsRequest { user_id: user_id.clone(), page_size: 1, ..Default::default() };
    let (mut contacts, reviews, catalog) = try_join!(
        async { session.contacts(&[&user_id]).await },
        session.call(reviews),
        interests::catalog(session)
    )?;
    let contact = contacts.remove(&user_id).unwrap_or_default();
    let mut shown = show::user::full(&user, &catalog, session.timestamp());
    let requests = chats::requests(session, &[&contact]).await?;
    shown["viewer"] = viewer(session, &contact, requests.into_iter().next().flatten());
    if let Some(review) = reviews.own_review {
        shown["viewer"]["review"] = json!({"id": review.review_id});
    }
    Ok(Reply::new(shown))
}

/// Returns the relationship of the viewer and a user.
fn viewer(session: &Session, contact: &Contact, chat: Option<Value>) -> Value {
    show::compact(json!({
        "id": session.user_id().to_string(),
        "connectRequest": contact.connection_request.as_ref().map(|request| {
            show::connect_request::show(request, None)
        }),
        "chat": chat,
    }))
}

/// Returns the user's own object, with the fields that only they see.
pub(in crate::dialects::talkamie) async fn own(session: &Session) -> Result<Value, Problem> {
    let me = session.call(GetMeRequest {}).await?.user.unwrap_or_default();
    shown_own(session, &me).await
}

async fn shown_own(session: &Session, me: &User) -> Result<Value, Problem> {
    let (availability, totals, check, catalog) = try_join!(
        availability::both(session),
        totals(session),
        check(session, me),
        interests::catalog(session)
    )?;
    Ok(show::user::own(me, totals, check.as_ref(), availability, &catalog, session.timestamp()))
}

async fn totals(session: &Session) -> Result<Totals, Problem> {
    let (alerts, chats) = try_join(alerts::unread(session), chats::unread_total(session)).await?;
    let (connections, pending_requests) = connections::totals(session).await?;
    Ok(Totals { connections, pending_requests, unread_alerts: alerts, unread_chats: chats })
}

/// Returns the latest background check. Guests have none.
async fn check(session: &Session, me: &User) -> Result<Option<BackgroundCheck>, Problem> {
    match me.kind() {
        UserKind::Registered => Ok(session.call(GetBackgroundCheckRequest {}).await?.check),
        _ => Ok(None),
    }
}

/// Refuses operations on the user's own account if the path names another user.
pub(in crate::dialects::talkamie) fn oneself(session: &Session, id: &str) -> Result<(), Problem> {
    match ids::user("id", id)? == session.user_id() {
        true => Ok(()),
        false => Err(Problem::forbidden("this can be done with one's own account only")),
    }
}

/// Changes the user's own profile.
pub(in crate::dialects::talkamie) async fn update(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    oneself(session, id)?;
    let (me, catalog) = try_join(session.call(GetMeRequest {}), interests::catalog(session)).await?;
    let me = me.user.unwrap_or_default();
    let (mut changes, mut mask) = profile::changes(fields, &me, &catalog)?;
    if let Some(email) = fields.filled("email")?
        && email != me.email
    {
        changes.email = email;
        mask.push("email".to_owned());
    }
    let user = match mask.is_empty() {
        true => me,
        false => {
            let update = UpdateUserRequest {
                user: Some(changes),
                update_mask: Some(FieldMask { paths: mask }),
                password: fields.text("password")?.unwrap_or_default(),
            };
            session.call(update).await?.user.unwrap_or_default()
        }
    };
    Ok(Reply::new(shown_own(session, &user).await?))
}

/// Changes the user's own password.
pub(in crate::dialects::talkamie) async fn change_password(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    oneself(session, id)?;
    let change = ChangePasswordRequest {
        old_password: fields.required("oldPassword")?,
        new_password: fields.required("newPassword")?,
    };
    session.call(change).await?;
    Ok(Reply::done())
}

/// Deletes the user's own account; the password confirms it.
pub(in crate::dialects::talkamie) async fn delete(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    oneself(session, id)?;
    let password = fields.text("password")?.unwrap_or_default();
    match session.call(DeleteUserRequest { password }).await {
        Ok(_) => Ok(Reply::done()),
        Err(problem) if problem.fault().reason() == "ERROR_REASON_BAD_CREDENTIALS" => {
            Err(Problem::forbidden("the password is wrong"))
        }
        Err(problem) => Err(problem),
    }
}

/// Requests a background check of the user.
pub(in crate::dialects::talkamie) async fn background_check(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    oneself(session, id)?;
    let me = session.call(GetMeRequest {}).await?.user.unwrap_or_default();
    let (first_name, last_name) = names(&me.display_name)?;
    let mut links = Vec::new();
    for link in fields.texts("links")?.iter().filter(|link| !link.is_empty()) {
        links.push(text::address("links", link)?);
    }
    let request = RequestBackgroundCheckRequest {
        request_id: EventId::generate().to_string(),
        first_name,
        last_name,
        date_of_birth: fields.required("dob")?.split('T').next().unwrap_or_default().to_owned(),
        region: fields.required("state")?,
        links,
    };
    session.call(request).await?;
    Ok(Reply::new(shown_own(session, &me).await?))
}

/// Splits a display name into first and last names: the last word is the last name.
fn names(display_name: &str) -> Result<(String, String), Fault> {
    let names = display_name.trim().rsplit_once(char::is_whitespace);
    let names = names.map(|(first, last)| (first.trim().to_owned(), last.to_owned()));
    names.ok_or_else(|| Fault::invalid("name", "must have a first and a last name: change it in the profile"))
}

/// Searches for users. The user is not among them, unless an address is searched for.
pub(in crate::dialects::talkamie) async fn list(
    session: &Session,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let years = |name: &str| {
        let years = fields.integer(name)?.unwrap_or(0);
        let years = i32::try_from(years).ok().filter(|years| (0..=150).contains(years));
        years.ok_or_else(|| Fault::invalid(name, "must be between 0 and 150"))
    };
    let gender = match fields.filled("gender")? {
        Some(word) => profile::gender("gender", &word)?.into(),
        None => 0,
    };
    let email = fields.filled("email")?.unwrap_or_default();
    let request = ListUsersRequest {
        keyword: fields.filled("keyword")?.unwrap_or_default(),
        email: email.clone(),
        kind: UserKind::Registered.into(),
        page_size: page.size,
        page_token: page.token,
        category: fields.filled("type")?.unwrap_or_default(),
        min_age: years("minAge")?,
        max_age: years("maxAge")?,
        age: years("age")?,
        gender,
        location: fields.filled("location")?.unwrap_or_default(),
        ..ListUsersRequest::default()
    };
    let answer = session.call(request).await?;
    let mut users = answer.users;
    users.retain(|user| !email.is_empty() || !session.is_own(&user.user_id));
    Ok(Reply::page(json!(shown(session, &users).await?), &answer.next_page_token))
}

/// Returns users with the relationship of each and the viewer.
pub(in crate::dialects::talkamie) async fn shown(
    session: &Session,
    users: &[User],
) -> Result<Vec<Value>, Problem> {
    let others: Vec<_> =
        users.iter().map(|user| user.user_id.as_str()).filter(|id| !session.is_own(id)).collect();
    let (contacts, catalog) = try_join(session.contacts(&others), interests::catalog(session)).await?;
    let contacts: Vec<_> =
        users.iter().map(|user| contacts.get(&user.user_id).cloned().unwrap_or_default()).collect();
    let requests = chats::requests(session, &contacts.iter().collect::<Vec<_>>()).await?;
    let now = session.timestamp();
    let show = |((user, contact), chat): ((&User, &Contact), Option<Value>)| {
        let mut shown = show::user::full(user, &catalog, now);
        shown["viewer"] = viewer(session, contact, chat);
        shown
    };
    Ok(users.iter().zip(&contacts).zip(requests).map(show).collect())
}

/// Returns a user as the other user of a chat or a request.
pub(in crate::dialects::talkamie) fn mentioned(
    session: &Session,
    id: &str,
    user: Option<&User>,
    catalog: &Catalog,
) -> Value {
    match user {
        Some(user) => show::user::full(user, catalog, session.timestamp()),
        None => show::user::brief(id, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_the_last_name() {
        assert_eq!(names(" Ann Mary  Archer "), Ok(("Ann Mary".to_owned(), "Archer".to_owned())));
        assert_eq!(names("Ann").expect_err("one name").fields()[0].0, "name");
    }
}
