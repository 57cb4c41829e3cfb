//! Statements that add a list of rows. Few different texts exist, so that a connection can keep all of them prepared; and
//! each text is built once.

use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// How many rows a statement may have. A longer list becomes several statements.
const SIZES: [usize; 16] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];

/// How the parameters of a statement are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholders {
    /// `$1`, `$2`, ...
    Numbered,
    /// `?`, each the next one.
    Positional,
}

/// A statement around a list of rows.
pub struct Rows {
    placeholders: Placeholders,
    before: &'static str,
    width: usize,
    after: &'static str,
    texts: [OnceLock<SqlStr>; SIZES.len()],
}

impl Rows {
    /// `before (..), (..), ... after`, each row with so many parameters and nothing else.
    pub const fn new(
        placeholders: Placeholders,
        before: &'static str,
        width: usize,
        after: &'static str,
    ) -> Self {
        Self { placeholders, before, width, after, texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// Cuts a list into parts, each with the text for so many rows.
    pub fn parts<'a, T>(&'static self, mut list: &'a [T]) -> impl Iterator<Item = (SqlStr, &'a [T])> {
        std::iter::from_fn(move || {
            let size = SIZES.iter().rposition(|&size| size <= list.len())?;
            let (part, rest) = list.split_at(SIZES[size]);
            list = rest;
            Some((self.text(size), part))
        })
    }

    fn text(&'static self, size: usize) -> SqlStr {
        let text = self.texts[size].get_or_init(|| AssertSqlSafe(self.build(SIZES[size])).into_sql_str());
        text.clone()
    }

    fn build(&self, rows: usize) -> String {
        let parameter = |number: usize| match self.placeholders {
            Placeholders::Numbered => format!("${number}"),
            Placeholders::Positional => "?".to_owned(),
        };
        let row = |row: usize| {
            let parameters: Vec<_> = (1..=self.width).map(|n| parameter(row * self.width + n)).collect();
            format!("({})", parameters.join(", "))
        };
        let rows: Vec<_> = (0..rows).map(row).collect();
        format!("{} {} {}", self.before, rows.join(", "), self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_own_parameters() {
        let rows = |placeholders| Rows::new(placeholders, "INSERT INTO t VALUES", 2, "RETURNING x").build(2);
        assert_eq!(rows(Placeholders::Numbered), "INSERT INTO t VALUES ($1, $2), ($3, $4) RETURNING x");
        assert_eq!(rows(Placeholders::Positional), "INSERT INTO t VALUES (?, ?), (?, ?) RETURNING x");
    }

    #[test]
    fn a_list_is_cut_into_few_parts() {
        static ROWS: Rows = Rows::new(Placeholders::Numbered, "VALUES", 1, "");
        let sizes = |n: usize| ROWS.parts(&vec![0; n]).map(|(_, part)| part.len()).collect::<Vec<_>>();
        assert_eq!(sizes(0), [0_usize; 0]);
        assert_eq!(sizes(64), [64]);
        assert_eq!(sizes(29), [24, 4, 1]);
        assert_eq!(sizes(300), [256, 32, 12]);
        for n in 0..=520 {
            assert_eq!(sizes(n).iter().sum::<usize>(), n);
            assert!(sizes(n).len() <= 6);
        }
    }
}
