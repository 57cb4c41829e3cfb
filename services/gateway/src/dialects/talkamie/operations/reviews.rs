//! `/reviews` and `/user/{id}/review`: the reviews that users write about each other.

use chassis::fault::Fault;
use proto::auth::v1::{DeleteReviewRequest, ListUserReviewsRequest, PutReviewRequest, Review};
use serde_json::json;

use crate::dialects::fields::Fields;
use crate::dialects::ids;
use crate::dialects::talkamie::envelope::{Page, Reply, conflict, is_refused_for, not_found};
use crate::dialects::talkamie::session::Session;
use crate::dialects::talkamie::show::review;
use crate::http::error::Problem;

/// Returns the reviews about the user.
pub(in crate::dialects::talkamie) async fn about_me(
    session: &Session,
    fields: &Fields,
) -> Result<Reply, Problem> {
    about(session, session.user_id().to_string(), fields).await
}

/// Returns the reviews about a user.
pub(in crate::dialects::talkamie) async fn list(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    about(session, ids::user("id", id)?.to_string(), fields).await
}

async fn about(session: &Session, user_id: String, fields: &Fields) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let list = ListUserReviewsRequest { user_id, page_size: page.size, page_token: page.token };
    let answer = session.call(list).await?;
    let raters = answer.reviews.iter().map(|review| review.reviewer_user_id.as_str());
    let raters = session.users(raters).await?;
    let show = |found: &Review| review::show(found, raters.get(&found.reviewer_user_id));
    let shown: Vec<_> = answer.reviews.iter().map(show).collect();
    let total = answer.rating.unwrap_or_default().count;
    Ok(Reply::page(json!(shown), &answer.next_page_token).of_total(total))
}

/// Writes a review. A user may write only one about another.
pub(in crate::dialects::talkamie) async fn write(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let put = put(id, fields)?;
    match own(session, &put.user_id).await? {
        Some(_) => Err(conflict("there is a review of this user already: update it")),
        None => written(session, put).await,
    }
}

/// Changes a review.
pub(in crate::dialects::talkamie) async fn update(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let user_id = ids::user("id", id)?.to_string();
    let Some(before) = own(session, &user_id).await? else {
        return Err(not_found("there is no review of this user"));
    };
    let put = PutReviewRequest {
        user_id,
        rating: match fields.get("rate") {
            Some(_) => rate(fields)?,
            None => before.rating,
        },
        text: fields.text("text")?.unwrap_or(before.text),
    };
    written(session, put).await
}

/// Deletes a review.
pub(in crate::dialects::talkamie) async fn delete(session: &Session, id: &str) -> Result<Reply, Problem> {
    let user_id = ids::user("id", id)?.to_string();
    let before = own(session, &user_id).await?.ok_or_else(|| not_found("there is no review of this user"))?;
    let answer = session.call(DeleteReviewRequest { user_id: user_id.clone() }).await?;
    Ok(Reply::new(json!({
        "review": {"id": before.review_id},
        "user": review::rated(&user_id, answer.rating),
    })))
}

fn put(id: &str, fields: &Fields) -> Result<PutReviewRequest, Fault> {
    Ok(PutReviewRequest {
        user_id: ids::user("id", id)?.to_string(),
        rating: rate(fields)?,
        text: fields.text("text")?.unwrap_or_default(),
    })
}

fn rate(fields: &Fields) -> Result<i32, Fault> {
    let rate = fields.integer("rate")?.and_then(|rate| i32::try_from(rate).ok());
    rate.filter(|rate| (1..=5).contains(rate))
        .ok_or_else(|| Fault::invalid("rate", "must be a whole number from 1 to 5"))
}

async fn own(session: &Session, user_id: &str) -> Result<Option<Review>, Problem> {
    let list =
        ListUserReviewsRequest { user_id: user_id.to_owned(), page_size: 1, page_token: String::new() };
    Ok(session.call(list).await?.own_review)
}

async fn written(session: &Session, put: PutReviewRequest) -> Result<Reply, Problem> {
    let user_id = put.user_id.clone();
    let answer = session.call(put).await.map_err(|problem| {
        match is_refused_for(&problem, "ERROR_REASON_NOT_ACQUAINTED") {
            true => Problem::forbidden("people review each other who are connected or had a call"),
            false => problem,
        }
    })?;
    let me = session.user_id().to_string();
    let raters = session.users([me.as_str()]).await?;
    let written = answer.review.unwrap_or_default();
    Ok(Reply::new(json!({
        "review": review::show(&written, raters.get(&me)),
        "user": review::rated(&user_id, answer.rating),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_from_1_to_5() {
        let read = |value: serde_json::Value| {
            rate(&Fields::from_json(json!({"rate": value}).to_string().as_bytes()).expect("fields"))
        };
        assert_eq!((read(json!(5)), read(json!("1"))), (Ok(5), Ok(1)));
        for value in [json!(0), json!(6), json!(2.5), json!("good"), json!(null), json!(1e12)] {
            assert_eq!(read(value).expect_err("refused").fields()[0].0, "rate");
        }
    }
}
