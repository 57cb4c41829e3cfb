//! `GET /interests`, and the list of all interests, which other operations show by name.

use std::sync::Arc;

use proto::auth::v1::{Interest, ListInterestsRequest};
use serde_json::{Value, json};

use crate::dialects::fields::Fields;
use crate::dialects::talkamie::envelope::{Page, Reply};
use crate::dialects::talkamie::session::Session;
use crate::http::error::Problem;

/// The number of interests in one request.
const BATCH: i32 = 100;

/// All interests.
#[derive(Clone, Debug, Default)]
pub(in crate::dialects::talkamie) struct Catalog(Vec<Interest>);

impl Catalog {
    pub(in crate::dialects::talkamie) fn new(interests: Vec<Interest>) -> Self {
        Self(interests)
    }

    /// Returns the id of the interest that a text names by id or by name, in any letter case.
    pub(in crate::dialects::talkamie) fn find(&self, text: &str) -> Option<&str> {
        let text = text.trim();
        let found = self.0.iter().find(|interest| {
            interest.interest_id.eq_ignore_ascii_case(text)
                || interest.name.to_lowercase() == text.to_lowercase()
        });
        Some(&found?.interest_id)
    }

    /// Returns an interest by its id.
    pub(in crate::dialects::talkamie) fn show(&self, id: &str) -> Value {
        match self.0.iter().find(|interest| interest.interest_id == id) {
            Some(interest) => show(interest),
            None => json!({"id": id, "name": id}),
        }
    }
}

fn show(interest: &Interest) -> Value {
    json!({"id": interest.interest_id, "name": interest.name, "emoji": interest.emoji})
}

/// Returns all interests, from a short cache.
pub(in crate::dialects::talkamie) async fn catalog(session: &Session) -> Result<Arc<Catalog>, Problem> {
    let cache = &session.dialects.talkamie.catalog;
    if let Some(catalog) = cache.get(&()) {
        return Ok(catalog);
    }
    let mut interests = Vec::new();
    let mut list = ListInterestsRequest { page_size: BATCH, ..ListInterestsRequest::default() };
    loop {
        let page = session.call(list.clone()).await?;
        interests.extend(page.interests);
        if page.next_page_token.is_empty() {
            break;
        }
        list.page_token = page.next_page_token;
    }
    let catalog = Arc::new(Catalog::new(interests));
    cache.insert((), catalog.clone());
    Ok(catalog)
}

/// Lists the interests that a user can have.
pub(in crate::dialects::talkamie) async fn list(
    session: &Session,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let request = ListInterestsRequest {
        keyword: fields.filled("keyword")?.unwrap_or_default(),
        page_size: page.size,
        page_token: page.token,
    };
    let answer = session.call(request).await?;
    let shown: Vec<_> = answer.interests.iter().map(show).collect();
    Ok(Reply::page(json!(shown), &answer.next_page_token))
}
