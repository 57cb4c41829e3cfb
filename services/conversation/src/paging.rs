//! Pages of lists, as the use cases have them: after which row, and how many.

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<P> {
    /// The last row of the page before; `None` for the first page.
    pub after: Option<P>,
    /// At most so many.
    pub limit: i64,
}

impl<P> Page<P> {
    /// How many rows to read: one more than the page has, to see whether another page follows.
    pub fn rows(&self) -> i64 {
        self.limit.saturating_add(1)
    }
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged<T, P> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one starts; `None` at the end.
    pub next: Option<P>,
}

impl<T, P> Paged<T, P> {
    /// The page in the rows that were read for it.
    pub fn cut(mut rows: Vec<T>, page: &Page<P>, position: impl Fn(&T) -> P) -> Self {
        let limit = usize::try_from(page.limit).unwrap_or(0);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(position);
        Self { items: rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_of_a_full_page_is_where_the_next_one_starts() {
        let page = Page { after: None, limit: 2 };
        let cut = |rows: &[i64]| Paged::cut(rows.to_vec(), &page, |row| *row);
        assert_eq!(page.rows(), 3);
        assert_eq!(cut(&[]), Paged { items: vec![], next: None });
        assert_eq!(cut(&[1, 2]), Paged { items: vec![1, 2], next: None });
        assert_eq!(cut(&[1, 2, 3]), Paged { items: vec![1, 2], next: Some(2) });
    }
}
