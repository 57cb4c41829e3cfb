//! Statements that add a list of rows. Few different texts exist, so that a connection can keep all of them prepared; and
//! each text is built once.

use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// How many rows a statement may have. A longer list becomes several statements.
const SIZES: [usize; 16] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];

/// A statement around a list of rows.
pub struct Rows {
    before: &'static str,
    row: &'static str,
    after: &'static str,
    texts: [OnceLock<SqlStr>; SIZES.len()],
}

impl Rows {
    /// `before (row), (row), ... after`. In `row`, `$1` is the first parameter of the row, `$2` the second, and so on, at
    /// most nine; each row has its own.
    pub const fn new(before: &'static str, row: &'static str, after: &'static str) -> Self {
        Self { before, row, after, texts: [const { OnceLock::new() }; SIZES.len()] }
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
        let mut text = String::from(self.before);
        let width = (1..=9).rev().find(|n| self.row.contains(&format!("${n}"))).unwrap_or(0);
        for index in 0..rows {
            text.push_str(if index == 0 { " " } else { ", " });
            let mut pieces = self.row.split('$');
            text.push_str(pieces.next().unwrap_or_default());
            for piece in pieces {
                // A parameter has one digit.
                let (digit, rest) = piece.split_at(1);
                let number = digit.parse::<usize>().unwrap_or_default();
                text.push_str(&format!("${}{rest}", index * width + number));
            }
        }
        text.push(' ');
        text.push_str(self.after);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_own_parameters() {
        let rows = Rows::new("INSERT INTO t VALUES", "($1, 'a', $2, $1)", "RETURNING x");
        assert_eq!(rows.build(2), "INSERT INTO t VALUES ($1, 'a', $2, $1), ($3, 'a', $4, $3) RETURNING x");
    }

    #[test]
    fn a_list_is_cut_into_few_parts() {
        static ROWS: Rows = Rows::new("VALUES", "($1)", "");
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
