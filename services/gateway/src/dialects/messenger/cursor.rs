//! Cursors: base64 of compact JSON `{"sort":...,"lastSeen":...}`. The direction is in the cursor, not in its label.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use chassis::fault::Fault;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::CursorLabels;
use crate::dialects::Dialects;
use crate::dialects::request::HttpRequest;

/// Reads cursors with padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest cursor that is read.
const MAX_LEN: usize = 256;

const DEFAULT_PAGE_SIZE: i64 = 10;
const MAX_PAGE_SIZE: i64 = 100;

/// The order of a page, and the direction of a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Sort {
    /// Towards newer rows; the page begins with the newest.
    NewestFirst,
    /// Towards older rows; the page begins with the oldest.
    OldestFirst,
}

impl Sort {
    fn opposite(self) -> Self {
        match self {
            Self::NewestFirst => Self::OldestFirst,
            Self::OldestFirst => Self::NewestFirst,
        }
    }
}

/// The position at which a page continues: in this direction after the last seen row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    pub(super) sort: Sort,
    #[serde(rename = "lastSeen")]
    pub(super) last_seen: String,
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        let bytes = (text.len() <= MAX_LEN).then(|| LENIENT.decode(text).ok())??;
        serde_json::from_slice(&bytes).ok()
    }

    fn write(sort: Sort, last_seen: &str) -> String {
        let cursor = Self { sort, last_seen: last_seen.to_owned() };
        // Two texts cannot fail to serialize.
        general_purpose::STANDARD.encode(serde_json::to_string(&cursor).unwrap_or_default())
    }
}

/// The requested page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) size: usize,
    pub(super) cursor: Option<Cursor>,
    labels: CursorLabels,
}

impl Page {
    #[cfg(test)]
    pub(super) fn new(size: usize, cursor: Option<Cursor>, labels: CursorLabels) -> Self {
        Self { size, cursor, labels }
    }

    pub(super) fn read(dialects: &Dialects, request: &HttpRequest) -> Result<Self, Fault> {
        let query = &request.query;
        let size = query.integer("pageSize")?.unwrap_or(DEFAULT_PAGE_SIZE).clamp(1, MAX_PAGE_SIZE);
        let cursor = match query.filled("cursor")? {
            Some(text) => Some(Cursor::read(&text).ok_or_else(malformed)?),
            None => None,
        };
        let labels = match query.filled("cursor_labels")?.as_deref() {
            None => dialects.backend.config().messenger_cursor_labels,
            Some("swr") => CursorLabels::Swr,
            Some("samples") => CursorLabels::Samples,
            Some(_) => return Err(Fault::invalid("cursor_labels", "must be swr or samples")),
        };
        Ok(Self { size: usize::try_from(size).unwrap_or(1), cursor, labels })
    }

    /// Returns the order of the rows.
    pub(super) fn sort(&self) -> Sort {
        self.cursor.as_ref().map_or(Sort::NewestFirst, |cursor| cursor.sort)
    }

    /// Returns the page with its cursors. `ids` are those of the rows.
    pub(super) fn show(&self, rows: Vec<Value>, ids: &[String]) -> Value {
        let sort = self.sort();
        let seen = self.cursor.as_ref().map_or("0", |cursor| cursor.last_seen.as_str());
        let first = ids.first().map_or(seen, String::as_str);
        let last = ids.last().map_or(seen, String::as_str);
        let (newest, oldest) = match sort {
            Sort::NewestFirst => (first, last),
            Sort::OldestFirst => (last, first),
        };
        let newer = Cursor::write(Sort::NewestFirst, newest);
        let older = Cursor::write(Sort::OldestFirst, oldest);
        let (next, previous) = match self.labels {
            CursorLabels::Swr => (Cursor::write(sort, first), Cursor::write(sort.opposite(), last)),
            CursorLabels::Samples => (older.clone(), newer.clone()),
        };
        let mut page = Map::new();
        page.insert("rows".to_owned(), Value::Array(rows));
        page.insert("sort".to_owned(), json!(sort));
        page.insert("cursor_next".to_owned(), Value::String(next));
        page.insert("cursor_prev".to_owned(), Value::String(previous));
        page.insert("cursor_newer".to_owned(), Value::String(newer));
        page.insert("cursor_older".to_owned(), Value::String(older));
        Value::Object(page)
    }
}

/// The error of an invalid cursor.
pub(super) fn malformed() -> Fault {
    Fault::invalid("cursor", "must be a cursor of this list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(cursor: Option<(Sort, &str)>, labels: CursorLabels) -> Page {
        let cursor = cursor.map(|(sort, seen)| Cursor { sort, last_seen: seen.to_owned() });
        Page { size: 2, cursor, labels }
    }

    fn cursors(page: &Page, ids: &[&str]) -> [(Sort, String); 4] {
        let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
        let shown = page.show(Vec::new(), &ids);
        ["cursor_next", "cursor_prev", "cursor_newer", "cursor_older"].map(|label| {
            let cursor = Cursor::read(shown[label].as_str().expect("a text")).expect("a cursor");
            (cursor.sort, cursor.last_seen)
        })
    }

    fn of(sort: Sort, seen: &str) -> (Sort, String) {
        (sort, seen.to_owned())
    }

    use Sort::{NewestFirst as Newest, OldestFirst as Oldest};

    #[test]
    fn the_texts_of_the_description_are_reproduced() {
        for (text, sort, seen) in [
            ("eyJzb3J0IjoiT0xERVNUX0ZJUlNUIiwibGFzdFNlZW4iOiIxIn0=", Oldest, "1"),
            ("eyJzb3J0IjoiTkVXRVNUX0ZJUlNUIiwibGFzdFNlZW4iOiIyIn0=", Newest, "2"),
            ("eyJzb3J0IjoiT0xERVNUX0ZJUlNUIiwibGFzdFNlZW4iOiIxMjQwIn0=", Oldest, "1240"),
            ("eyJzb3J0IjoiTkVXRVNUX0ZJUlNUIiwibGFzdFNlZW4iOiIxMjQxIn0=", Newest, "1241"),
            ("eyJzb3J0IjoiTkVXRVNUX0ZJUlNUIiwibGFzdFNlZW4iOiIxMjQzIn0=", Newest, "1243"),
        ] {
            assert_eq!(Cursor::write(sort, seen), text);
            let cursor = Cursor { sort, last_seen: seen.to_owned() };
            assert_eq!(Cursor::read(text), Some(cursor.clone()));
            assert_eq!(Cursor::read(text.trim_end_matches('=')), Some(cursor));
        }
    }

    #[test]
    fn keys_may_come_in_either_order_and_junk_is_refused() {
        let encode = |text: &str| general_purpose::STANDARD.encode(text);
        let other_order = encode(r#"{"lastSeen":"5","sort":"NEWEST_FIRST"}"#);
        assert_eq!(Cursor::read(&other_order).expect("a cursor").last_seen, "5");
        for junk in [
            "junk!",
            "",
            &encode("{}"),
            &encode(r#"{"sort":"NEWEST_FIRST"}"#),
            &encode(r#"{"sort":"LATEST","lastSeen":"5"}"#),
            &encode(r#"{"sort":"NEWEST_FIRST","lastSeen":5}"#),
            &"A".repeat(1000),
        ] {
            assert_eq!(Cursor::read(junk), None, "{junk}");
        }
    }

    #[test]
    fn the_labels_follow_the_hook_or_the_samples() {
        let swr = |cursor| page_of(cursor, CursorLabels::Swr);
        let samples = |cursor| page_of(cursor, CursorLabels::Samples);
        // The first page and a page of newer rows differ; a page of older rows does not.
        assert_eq!(
            cursors(&swr(None), &["6", "5", "4"]),
            [of(Newest, "6"), of(Oldest, "4"), of(Newest, "6"), of(Oldest, "4")]
        );
        assert_eq!(cursors(&samples(None), &["6", "5", "4"])[..2], [of(Oldest, "4"), of(Newest, "6")]);
        assert_eq!(cursors(&swr(Some((Newest, "6"))), &["8", "7"])[..2], [of(Newest, "8"), of(Oldest, "7")]);
        for page in [swr(Some((Oldest, "4"))), samples(Some((Oldest, "4")))] {
            assert_eq!(
                cursors(&page, &["1", "2", "3"]),
                [of(Oldest, "1"), of(Newest, "3"), of(Newest, "3"), of(Oldest, "1")]
            );
        }
    }

    #[test]
    fn an_empty_page_repeats_what_was_seen() {
        let page = page_of(Some((Newest, "7")), CursorLabels::Swr);
        assert_eq!(cursors(&page, &[]), [of(Newest, "7"), of(Oldest, "7"), of(Newest, "7"), of(Oldest, "7")]);
        let first = page_of(None, CursorLabels::Swr);
        assert_eq!(cursors(&first, &[])[0], of(Newest, "0"));
    }
}
